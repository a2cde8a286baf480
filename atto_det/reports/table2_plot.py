"""Table 2 as a plot: top-1 against multiply-adds, circles as large as the networks' parameters."""

import math
from collections.abc import Sequence
from pathlib import Path

from atto_det.reports.figure import write_figure
from atto_det.reports.labels import LabelPlace, place_label
from atto_det.reports.table2 import NOT_STATED, Row, by_data

# By the first letters of the network's name.
COLOURS = {"atto": "#2166ac", "mobi": "#d6604d", "shuf": "#5aae61"}
OTHER_COLOUR = "#7f7f7f"
AREA = 160  # square points per million parameters
STEPS = (20, 50, 100, 200, 500, 1000, 2000, 5000)  # labels on the logarithmic axis


def plot_table2(rows: Sequence[Row], output: str | Path) -> None:
    """Draw the published figures, and a panel for each measured data set, to a PNG or SVG file.

    Discs are at the published multiply-adds, rings at the recomputed ones; a measured network has
    only a ring, lightly filled.

    Raises:
        UserError: the target cannot be written.
    """
    from matplotlib.figure import Figure  # takes a second to import; needs no display
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    groups = by_data(rows)
    figure = Figure(figsize=(7.2 * (1 + len(groups)), 5.6))
    figure.set_layout_engine("constrained", w_pad=0.15)
    panels = figure.subplots(1, 1 + len(groups), squeeze=False, sharex=True)[0]
    published = [row for row in rows if row.published]
    _published(panels[0], published)
    circles = [[(row, row.macs / 1e6, row.published.top1) for row in published]]
    panels[0].set_title("published on ImageNet-50", loc="left", fontweight="bold")
    for axes, (data, group) in zip(panels[1:], groups.items(), strict=True):
        circles.append([(row, row.macs / 1e6, row.measured.top1) for row in group])
        for row, macs, top1 in circles[-1]:
            _ring(axes, macs, top1, row, fill=0.25)
        if data:
            where = f"{data.root}, {data.input_size}×{data.input_size}"
            note = f"{len(data.class_names)} classes, {data.val:,} pictures"
            axes.set_title(note, loc="right", fontsize=9.5, color="0.35")
        axes.set_title(f"measured: {where if data else NOT_STATED}", loc="left", fontweight="bold")
    costs = [row.macs / 1e6 for row in rows] + [row.published.macs_m for row in published]
    panels[0].set(xscale="log", xlim=(min(costs) / 1.35, max(costs) * 1.75))
    for axes in panels:
        axes.set(xlabel="multiply-adds at 224×224, millions (logarithmic)", ylabel="top-1, percent")
        axes.xaxis.set_major_locator(FixedLocator(STEPS))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.margins(y=0.12)
        low, high = axes.get_ylim()
        if high - low < 4:  # a difference of 0.2 points should look small
            middle = (low + high) / 2
            axes.set_ylim(middle - 2, middle + 2)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    _legend(figure, panels[0])
    figure.draw_without_rendering()  # computes the layout, which decides where names fit
    for axes, ones in zip(panels, circles, strict=True):
        _names(axes, ones)
    write_figure(figure, output)


def _published(axes, rows: Sequence[Row]) -> None:
    for row in rows:
        paper, colour = row.published, _colour(row)
        macs = row.macs / 1e6
        area = AREA * paper.parameters_m
        axes.scatter(paper.macs_m, paper.top1, s=area, color=colour, alpha=0.6, linewidths=0)
        if macs / paper.macs_m > 1.2:  # otherwise disc and ring overlap
            edge = _radius(row) + 2
            arrow = {"arrowstyle": "->", "color": colour, "shrinkA": edge, "shrinkB": edge}
            axes.annotate("", (macs, paper.top1), (paper.macs_m, paper.top1), arrowprops=arrow)
        _ring(axes, macs, paper.top1, row)


def _ring(axes, macs: float, top1: float, row: Row, fill: float = 0) -> None:
    colour = _colour(row)
    area = AREA * row.parameters / 1e6
    axes.scatter(macs, top1, s=area, facecolors=[(colour, fill)], edgecolors=colour, linewidths=1.5)


def _names(axes, circles: Sequence[tuple[Row, float, float]]) -> None:
    """A name at each (network, MACs, top-1), in the first place that hides no circle or name."""
    from matplotlib.transforms import Bbox

    points = axes.figure.dpi / 72
    middles = [axes.transData.transform((macs, top1)) for _, macs, top1 in circles]
    taken = []
    for (row, _, _), (x, y) in zip(circles, middles, strict=True):
        r = _radius(row) * points
        taken.append(Bbox([[x - r, y - r], [x + r, y + r]]))
    for index, (row, macs, top1) in enumerate(circles):
        text = axes.annotate(row.name, (macs, top1), (0, 0), textcoords="offset points")
        text.set(fontsize=9.5, color=_colour(row))
        others = taken[:index] + taken[index + 1 :]
        r = _radius(row) + 4
        places = [LabelPlace(r, 0, "left", "center"), LabelPlace(-r, 0, "right", "center")]
        places += [LabelPlace(0, r, "center", "bottom"), LabelPlace(0, -r, "center", "top")]
        if r > 30:  # the name fits into the circle
            places = [LabelPlace(0, 0, "center", "center")]
        place_label(text, places, others, axes)
        taken.append(text.get_window_extent())


def _radius(row: Row) -> float:
    """The radius of a network's circle, in points."""
    return math.sqrt(AREA * row.parameters / 1e6 / math.pi)


def _colour(row: Row) -> str:
    return COLOURS.get(row.network[:4], OTHER_COLOUR)


def _legend(figure, axes) -> None:
    """The meaning of disc and ring, and the areas of some sizes, in grey below the panels."""
    marks = [
        axes.scatter([], [], s=AREA, color="0.4", alpha=0.6, linewidths=0),
        axes.scatter([], [], s=AREA, facecolors="none", edgecolors="0.4", linewidths=1.5),
    ]
    labels = ["MACs as published", "MACs recomputed"]
    for size in (0.3, 1, 3):
        marks.append(axes.scatter([], [], s=AREA * size, color="0.75", linewidths=0))
        labels.append(f"{size:g} M" + (" parameters" if size == 3 else ""))
    style = {"frameon": False, "fontsize": 9.5, "handletextpad": 0.5, "columnspacing": 1.5}
    figure.legend(marks, labels, loc="outside lower center", ncols=len(marks), **style)
