"""Costs of several detectors side by side: tables for terminal and Markdown, a record for JSON.

The first detector is the one under study; every ratio is the other's figure divided by its figure.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from atto_det.complexity.count import Cost, merge
from atto_det.reports.grid import MEASURED, Grid

ORDER = ("stem", "res2", "res3", "res4", "res5", "bottom_up", "backbone")
LABELS = {
    "fpn": "FPN",
    "rpn": "RPN",
    "box_head": "box head",
    "mask_head": "mask head",
    "keypoint_head": "keypoint head",
    "dense_head": "dense head",
    "sem_seg_head": "semantic head",
}


@dataclass(frozen=True)
class Analysis:
    """The cost of one detector.

    Attributes:
        name: of the detector, short.
        source: where its definition comes from.
        costs: from an input (such as "800x1088") to the cost of each part. Parameters are the same
            for all inputs.
        memory: from an input to bytes at the peak of each part, if requested.
        note: what a reader must know about this detector.
        measured: from an input to bytes at the peak of a whole run, if measured.
    """

    name: str
    source: str
    costs: dict[str, list[Cost]]
    memory: dict[str, dict[str, int]] = field(default_factory=dict)
    note: str = ""
    measured: dict[str, int] = field(default_factory=dict)

    def total(self, size: str) -> Cost:
        """All parts together."""
        return merge(self.costs[size], "total")[0]


def part_names(analyses: Sequence[Analysis]) -> list[str]:
    """Names of all parts of all detectors, from the picture to the masks."""
    names = {cost.name: None for a in analyses for costs in a.costs.values() for cost in costs}
    known = [name for name in ORDER if name in names]
    own = [name for name in names if name not in (*ORDER, *LABELS)]
    return known + own + [name for name in LABELS if name in names]


def tables(analyses: Sequence[Analysis]) -> list[Grid]:
    """A summary for each input, then every part: parameters, multiply-adds, activations, memory."""
    sizes = list(analyses[0].costs)
    grids = [_summary(analyses, size) for size in sizes]
    by_part = [("parameters (M)", sizes[0], "parameters", 1e6, 2)]
    for size in sizes:
        by_part.append((f"MACs (G) at {size}", size, "macs", 1e9, 2))
        by_part.append((f"activations (M) at {size}", size, "activations", 1e6, 1))
    for title, size, key, unit, digits in by_part:
        columns = [{c.name: getattr(c, key) / unit for c in a.costs[size]} for a in analyses]
        sums = [getattr(a.total(size), key) / unit for a in analyses]
        grids.append(_grid(f"By part: {title}", analyses, columns, digits, ("total", sums)))
    for size in analyses[0].memory:
        columns = [{k: v / 2**20 for k, v in a.memory[size].items()} for a in analyses]
        highest = [max(column.values()) for column in columns]
        title = f"By part: peak memory (MiB) at {size}"
        grid = _grid(title, analyses, columns, 1, ("highest", highest))
        if any(size in a.measured for a in analyses):
            peaks = (a.measured.get(size) for a in analyses)
            cells = ("–" if peak is None else f"{peak / 2**20:,.1f}" for peak in peaks)
            grid = replace(grid, rows=(*grid.rows, (MEASURED, *cells)))
        grids.append(grid)
    return grids


def _grid(
    title: str,
    analyses: Sequence[Analysis],
    columns: list[dict[str, float]],
    digits: int,
    last: tuple[str, list[float]],
) -> Grid:
    rows = []
    for name in part_names(analyses):
        cells = (f"{c[name]:,.{digits}f}" if name in c else "" for c in columns)
        rows.append((LABELS.get(name, name), *cells))
    rows.append((last[0], *(f"{value:,.{digits}f}" for value in last[1])))
    return Grid(title, ("part", *(a.name for a in analyses)), tuple(rows))


def _summary(analyses: Sequence[Analysis], size: str) -> Grid:
    own = analyses[0].total(size)
    rows = []
    for analysis in analyses:
        total = analysis.total(size)
        row = [analysis.name]
        for key, unit, digits in (
            ("parameters", 1e6, 2),
            ("macs", 1e9, 1),
            ("activations", 1e6, 1),
        ):
            value = getattr(total, key)
            row += [f"{value / unit:,.{digits}f}", _times(value, getattr(own, key))]
        rows.append(tuple(row))
    header = ("detector", "params (M)", "ratio", "MACs (G)", "ratio", "activ. (M)", "ratio")
    return Grid(f"At {size}", header, tuple(rows))


def _times(value: int, own: int) -> str:
    return f"{value / own:.2f}×" if own else "–"


def record(analyses: Sequence[Analysis]) -> list[dict[str, Any]]:
    """Exact figures for JSON: for each detector and input, the parts, their total and the ratios.

    A ratio is the detector's figure divided by that of the first detector; None if that is 0.
    """
    result = []
    for analysis in analyses:
        inputs = {}
        for size, costs in analysis.costs.items():
            total, own = asdict(analysis.total(size)), asdict(analyses[0].total(size))
            for figures in (total, own):
                del figures["name"]
            inputs[size] = {
                "parts": [asdict(cost) for cost in costs],
                "total": total,
                "ratio": {k: v / own[k] if own[k] else None for k, v in total.items()},
            }
            if size in analysis.memory:
                inputs[size]["peak_memory_bytes"] = analysis.memory[size]
            if size in analysis.measured:
                inputs[size]["measured_peak_memory_bytes"] = analysis.measured[size]
        entry = {"name": analysis.name, "source": analysis.source, "note": analysis.note}
        result.append({**entry, "inputs": inputs})
    return result
