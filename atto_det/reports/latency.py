"""Latencies side by side: tables for a terminal and Markdown, a record for JSON, a plot.

The first detector is the one under study: every ratio is the other's median divided by its median
in the same mode.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atto_det.complexity.latency import OTHER, Timing
from atto_det.reports.figure import write_figure
from atto_det.reports.grid import Grid, write_report

EAGER = "eager"
COLOURS = {
    "preprocessing": "#adb5bd",
    "bottom_up": "#3182bd",
    "backbone": "#3182bd",
    "fpn": "#2a9d8f",
    "rpn": "#e9c46a",
    "box pooling": "#f7c59f",
    "box head": "#f4a261",
    "post-processing": "#b08968",
    "mask pooling": "#eaa0ab",
    "mask head": "#d1495b",
    "network": "#457b9d",
    "mask pasting": "#7b2d3b",
    OTHER: "#ced4da",
}


@dataclass(frozen=True)
class Latency:
    """The latency of one detector in one mode.

    Attributes:
        detector: its name, short.
        mode: "eager" for the model as built, or how it was made faster.
        size: of the picture, "800x1088".
        proposals, detections: per picture; None for a foreign network, timed alone.
        timing: its runs.
        memory: bytes at the peak, if measured.
    """

    detector: str
    mode: str
    size: str
    proposals: int | None
    detections: int | None
    timing: Timing
    memory: int | None = None


def ratio(latency: Latency, latencies: Sequence[Latency]) -> float | None:
    """Its median divided by the first detector's in the same mode, or in eager mode, or None."""
    first = latencies[0]
    for mode in (latency.mode, EAGER):
        for other in latencies:
            if (other.detector, other.size, other.mode) == (first.detector, first.size, mode):
                return latency.timing.median / other.timing.median
    return None


def speedup(latency: Latency, latencies: Sequence[Latency]) -> float | None:
    """How many times faster it is than the same detector in eager mode; None if not timed."""
    for other in latencies:
        if (other.detector, other.size, other.mode) == (latency.detector, latency.size, EAGER):
            return other.timing.median / latency.timing.median
    return None


def latency_tables(latencies: Sequence[Latency]) -> list[Grid]:
    """Median, p95, throughput, memory and ratios; then the parts for each mode."""
    header = ("detector", "input", "mode", "ms", "p95", "pictures/s", "MiB", "ratio", "gain")
    rows = []
    for latency in latencies:
        timing, memory = latency.timing, latency.memory
        row = (latency.detector, latency.size, latency.mode)
        row += (f"{1000 * timing.median:,.1f}", f"{1000 * timing.p95:,.1f}")
        row += (f"{timing.throughput:,.2f}", "–" if memory is None else f"{memory / 2**20:,.0f}")
        for value in (ratio(latency, latencies), speedup(latency, latencies)):
            row += ("–" if value is None else f"{value:.2f}×",)
        rows.append(row)
    grids = [Grid("Latency: median, p95, throughput, peak memory", header, (*rows,))]
    for mode in dict.fromkeys(latency.mode for latency in latencies):
        grids.append(_by_part(mode, [latency for latency in latencies if latency.mode == mode]))
    return grids


def _by_part(mode: str, latencies: Sequence[Latency]) -> Grid:
    columns = [latency.timing.parts for latency in latencies]
    names = list(dict.fromkeys([*COLOURS, *(name for column in columns for name in column)]))
    rows = []
    for name in names:
        if any(round(1e5 * column.get(name, 0)) for column in columns):  # from 0.01 ms
            cells = (f"{1000 * c[name]:,.2f}" if name in c else "" for c in columns)
            rows.append((name, *cells))
    rows.append(("total", *(f"{1000 * sum(column.values()):,.2f}" for column in columns)))
    header = ("part", *(f"{latency.detector} {latency.size}" for latency in latencies))
    return Grid(f"By part, {mode}: ms", header, (*rows,))


def _label(latency: Latency) -> str:
    return f"{latency.detector} {latency.size} {latency.mode}"


def latency_record(latencies: Sequence[Latency]) -> list[dict[str, Any]]:
    """Exact figures for JSON, including every run."""
    return [
        {
            "detector": latency.detector,
            "mode": latency.mode,
            "input": latency.size,
            "proposals": latency.proposals,
            "detections": latency.detections,
            "batch": latency.timing.batch,
            "median_s": latency.timing.median,
            "p95_s": latency.timing.p95,
            "pictures_per_s": latency.timing.throughput,
            "peak_memory_bytes": latency.memory,
            "ratio_to_first": ratio(latency, latencies),
            "times_faster_than_eager": speedup(latency, latencies),
            "parts_s": latency.timing.parts,
            "runs_s": latency.timing.seconds,
        }
        for latency in latencies
    ]


def write_latencies(
    folder: Path, latencies: Sequence[Latency], context: dict[str, Any], remarks: Sequence[str]
) -> list[Path]:
    """Write latency.md, latency.json (with `context`) and latency.png; returns their paths.

    Raises:
        UserError: a file cannot be written.
    """
    title = f"How long {latencies[0].detector} takes"
    record = {**context, "latencies": latency_record(latencies)}
    tables = latency_tables(latencies)
    files = [
        *write_report(folder / "latency", title, tables, remarks, record),
        folder / "latency.png",
    ]
    plot_latencies(latencies, files[-1])
    return files


def plot_latencies(latencies: Sequence[Latency], output: str | Path) -> None:
    """A bar for each detector and mode, stacked by part; on the right in percent of each.

    Raises:
        UserError: the target cannot be written.
    """
    from matplotlib.figure import Figure  # takes a second to import; needs no display

    columns = [latency.timing.parts for latency in latencies]
    names = list(dict.fromkeys([*COLOURS, *(name for column in columns for name in column)]))
    figure = Figure(figsize=(13, 0.42 * len(latencies) + 1.9))
    figure.set_layout_engine("constrained", w_pad=0.12)
    axes, share = figure.subplots(1, 2, width_ratios=(5, 3))
    rows = range(len(latencies))
    totals = [1000 * sum(column.values()) for column in columns]
    starts = [0.0] * len(latencies)
    for name in names:
        widths = [1000 * column.get(name, 0.0) for column in columns]
        if not any(round(100 * width) for width in widths):
            continue
        style = {"color": COLOURS.get(name), "height": 0.68}
        axes.barh(rows, widths, left=starts, label=name, **style)
        percent = [
            [100 * value / total for value, total in zip(values, totals, strict=True)]
            for values in (widths, starts)
        ]
        share.barh(rows, percent[0], left=percent[1], **style)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    for row, (latency, total) in enumerate(zip(latencies, totals, strict=True)):
        times = ratio(latency, latencies)
        text = f" {1000 * latency.timing.median:,.1f}"
        text += f"   {times:.2f}×" if times and row else ""
        axes.text(total, row, text, va="center", fontsize=9)
    axes.set_yticks(rows, [_label(latency) for latency in latencies])
    axes.set_xlim(0, 1.25 * max(totals))
    share.set(yticks=[], xlim=(0, 100))
    axes.set_title("milliseconds", loc="left", fontsize=11, fontweight="bold")
    note = f"×: ratio to {latencies[0].detector} in the same mode"
    axes.set_title(note, loc="right", fontsize=9, color="0.35")
    share.set_title("share of each part, percent", loc="left", fontsize=11, fontweight="bold")
    for panel in (axes, share):
        panel.invert_yaxis()
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="x", alpha=0.3)
        panel.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=6, frameon=False, handlelength=1)
    write_figure(figure, output)
