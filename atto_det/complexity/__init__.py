"""Multiply-adds and parameters of parts of networks. Knows nothing of Detectron2."""

from atto_det.complexity.count import Cost, Part, count

__all__ = ["Cost", "Part", "count"]
