"""Curves of time and memory as tables, JSON, and a plot with logarithmic axes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atto_det.complexity.scaling import Curve
from atto_det.reports.figure import write_figure
from atto_det.reports.grid import EXPONENT, Grid, write_report
from atto_det.reports.latency import COLOURS


def scaling_tables(curves: Sequence[Curve]) -> list[Grid]:
    """Of each curve milliseconds by part, and peak memory; last the exponents."""
    grids = []
    for curve in curves:
        parts = curve.parts if len(curve.parts) > 1 else []
        rows = []
        for point in curve.points:
            times = [sum(point.seconds.values()), *(point.seconds.get(part, 0) for part in parts)]
            memory = "–" if point.memory is None else f"{point.memory / 2**20:,.0f}"
            rows.append((f"{point.value:,}", *(f"{1000 * one:,.1f}" for one in times), memory))
        exponents = [curve.exponent(), *map(curve.exponent, parts), curve.memory_exponent]
        rows.append((EXPONENT, *("–" if one is None else f"{one:.2f}" for one in exponents)))
        header = (curve.quantity, "ms", *parts, "MiB")
        grids.append(Grid(f"{curve.quantity}: {curve.work}", header, (*rows,)))
    return grids


def remarks(on: dict[str, Any], repeats: int) -> list[str]:
    """Sentences on how the figures came about."""
    return [
        f"On {on['cpu']}, {on['threads']} threads of {on['cores']} cores where threads are not "
        f"what changes. Means over the middle half of the runs of {repeats} rounds; of a data set, "
        "one run.",
        "An exponent k says that time or memory grow as the quantity to the power of k, over the "
        "upper half of the values; 1 is in proportion. Peak memory is that of a process of its "
        "own.",
    ]


def write_scaling(
    folder: Path, curves: Sequence[Curve], context: dict[str, Any], lines: Sequence[str]
) -> list[Path]:
    """Write scaling.md, scaling.json (with `context`) and scaling.png; returns their paths.

    Raises:
        UserError: a file cannot be written.
    """
    record = {**context, "curves": [_record(curve) for curve in curves]}
    tables = scaling_tables(curves)
    files = [
        *write_report(folder / "scaling", "Scaling", tables, lines, record),
        folder / "scaling.png",
    ]
    plot_scaling(curves, files[-1])
    return files


def _record(curve: Curve) -> dict[str, Any]:
    return {
        "quantity": curve.quantity,
        "work": curve.work,
        "points": [
            {"value": p.value, "parts_s": p.seconds, "peak_memory_bytes": p.memory}
            for p in curve.points
        ],
        "exponent": curve.exponent(),
        "exponents_of_parts": {part: curve.exponent(part) for part in curve.parts},
        "memory_exponent": curve.memory_exponent,
    }


def plot_scaling(curves: Sequence[Curve], output: str | Path) -> None:
    """A panel for each curve: seconds by part, and in all, with the exponent.

    Raises:
        UserError: the target cannot be written.
    """
    from matplotlib.figure import Figure  # takes a second to import; needs no display

    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(6 * columns, 3.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel in panels[len(curves) :]:
        panel.set_axis_off()
    for panel, curve in zip(panels, curves, strict=False):
        values = [point.value for point in curve.points]
        for part in curve.parts if len(curve.parts) > 1 else []:
            times = [1000 * point.seconds.get(part, 0) for point in curve.points]
            panel.plot(
                values, times, label=part, color=COLOURS.get(part), linewidth=1.5, marker="."
            )
        totals = [1000 * sum(point.seconds.values()) for point in curve.points]
        panel.plot(values, totals, label="whole", color="black", linewidth=2, marker="o")
        panel.set(xscale="log", yscale="log", xlabel=curve.quantity, ylabel="milliseconds")
        power = curve.exponent()
        panel.set_title("" if power is None else f"∝ {curve.quantity}^{power:.2f}", loc="left")
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    write_figure(figure, output, dpi=120)
