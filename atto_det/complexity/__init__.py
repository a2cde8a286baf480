"""Measures the cost of parts of networks. Independent of Detectron2."""

from atto_det.complexity.count import Cost, Part, count, merge
from atto_det.complexity.memory import peak_memory

__all__ = ["Cost", "Part", "count", "merge", "peak_memory"]
