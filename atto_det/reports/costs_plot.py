"""Stacked bars: where the parameters and multiply-adds of several detectors go."""

from collections.abc import Sequence
from pathlib import Path

from atto_det.reports.costs import LABELS, Analysis, part_names
from atto_det.reports.figure import write_figure

# The bottom-up network from light to dark, then a colour for each further part.
BLUES = ("#c6dbef", "#9ecae1", "#6baed6", "#3182bd", "#08519c", "#41729f", "#274472")
COLOURS = {
    "fpn": "#2a9d8f",
    "rpn": "#e9c46a",
    "box_head": "#f4a261",
    "mask_head": "#d1495b",
    "keypoint_head": "#8d5a97",
    "dense_head": "#9c6644",
    "sem_seg_head": "#6c757d",
}


def plot_costs(analyses: Sequence[Analysis], output: str | Path) -> None:
    """Draw parameters, and multiply-adds for each input, to a PNG or SVG file.

    Each bar is a detector, the first on top, labelled with the total and the ratio to the first.
    On the right, the same in percent of each detector's total.

    Raises:
        UserError: the target cannot be written.
    """
    from matplotlib.figure import Figure  # takes a second to import; needs no display

    sizes = list(analyses[0].costs)
    panels_high = (0.55 * len(analyses) + 0.75) * (1 + len(sizes))
    figure = Figure(figsize=(13, panels_high + 0.6))
    figure.set_layout_engine("constrained", hspace=0.06, w_pad=0.12)
    panels = [("parameters, millions", sizes[0], "parameters", 1e6, 2)]
    panels += [
        (f"multiply-adds at {size.replace('x', ' × ')}, billions", size, "macs", 1e9, 1)
        for size in sizes
    ]
    names = part_names(analyses)
    blues = iter(BLUES * len(names))
    colours = {name: COLOURS.get(name) or next(blues) for name in names}
    grid = figure.subplots(len(panels), 2, squeeze=False, width_ratios=(5, 3))
    for (axes, share), (title, size, key, unit, digits) in zip(grid, panels, strict=True):
        table = {
            name: [
                sum(getattr(c, key) for c in a.costs[size] if c.name == name) / unit
                for a in analyses
            ]
            for name in names
        }
        totals = [sum(column) for column in zip(*table.values(), strict=True)]
        _bars(axes, table, colours)
        _bars(share, {k: _percent(v, totals) for k, v in table.items()}, colours)
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        share.set_title("share of each part, percent", loc="left", fontsize=11, fontweight="bold")
        axes.set_yticks(range(len(analyses)), [a.name for a in analyses])
        axes.get_yticklabels()[0].set_fontweight("bold")
        share.set(yticks=[], xlim=(0, 100))
        axes.set_xlim(0, 1.22 * max(totals))
        for row, total in enumerate(totals):
            ratio = f"   {total / totals[0]:.2f}×" if row and totals[0] else ""
            text = f"{total:,.{digits}f}{ratio}"
            axes.text(total + 0.01 * max(totals), row, text, va="center", fontsize=9.5)
    if len(analyses) > 1:
        note = f"×: ratio to {analyses[0].name}"
        grid[0, 0].set_title(note, loc="right", fontsize=9.5, color="0.35")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=len(labels),
        frameon=False,
        handlelength=1,
        columnspacing=1.2,
    )
    write_figure(figure, output)


def _percent(values: list[float], totals: list[float]) -> list[float]:
    return [100 * value / max(total, 1e-12) for value, total in zip(values, totals, strict=True)]


def _bars(axes, table: dict[str, list[float]], colours: dict[str, str]) -> None:
    """One bar per detector, from the values of each part."""
    left = [0.0] * len(next(iter(table.values())))
    for name, widths in table.items():
        label = LABELS.get(name, name)
        rows = range(len(widths))
        axes.barh(rows, widths, left=left, color=colours[name], height=0.66, label=label)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
