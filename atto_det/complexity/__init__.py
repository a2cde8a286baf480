"""What parts of networks cost, in tables and a plot. Knows nothing of Detectron2."""

from atto_det.complexity.count import Cost, Part, count, merge
from atto_det.complexity.memory import peak_memory
from atto_det.complexity.plot import plot_costs
from atto_det.complexity.report import Analysis, markdown, print_tables, record, tables

__all__ = [
    "Analysis",
    "Cost",
    "Part",
    "count",
    "markdown",
    "merge",
    "peak_memory",
    "plot_costs",
    "print_tables",
    "record",
    "tables",
]
