"""AP_m against multiply-adds and against latency, with Pareto fronts."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atto_det.reports.comparison import Model, models
from atto_det.reports.figure import write_figure
from atto_det.reports.labels import LabelPlace, place_label

# Okabe and Ito's colours, which most colour-blind people can distinguish; shapes say the same.
COMPARED = {"color": "#0072B2", "marker": "o", "s": 70}
VARIANT = {"color": "#D55E00", "marker": "D", "s": 42}
FRONT = "#009E73"
SIDES = {-1: "right", 0: "center", 1: "left"}
ALIGNMENTS = {-1: "top", 0: "center", 1: "bottom"}
SHOWN_MODES = (
    "fast",
    "eager",
    "compile",
)  # the panel shows the first of these modes that was timed for all


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, value) that no other point dominates, by increasing cost.

    A point dominates another if it costs no more and is worth no less, unless both are equal.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    front, best = [], float("-inf")
    for index in order:
        cost, value = points[index]
        if value > best or (front and (cost, value) == points[front[-1]]):
            front.append(index)
            best = value
    return front


def plot_comparison(content: dict[str, Any], output: str | Path) -> None:
    """Draw a comparison to a PNG or SVG file; a bar goes from the lowest to the highest seed.

    Raises:
        UserError: the target cannot be written.
    """
    from matplotlib.figure import Figure  # takes a second to import; needs no display
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    every, work = models(content), content["work"]
    mode = next((mode for mode in SHOWN_MODES if any(mode in m.seconds for m in every)), "eager")
    figure = Figure(figsize=(12, 5))
    figure.set_layout_engine("constrained", w_pad=0.12)
    panels = figure.subplots(1, 2, sharey=True)
    costs = {
        "multiply-adds, billions": [model.macs / 1e9 for model in every],
        f"milliseconds, {mode}": [1000 * model.seconds.get(mode, 0) for model in every],
    }
    drawn = []
    for axes, (label, values) in zip(panels, costs.items(), strict=True):
        pairs = zip(every, values, strict=True)
        shown = [(model, value, model.mean("ap_m")) for model, value in pairs if value]
        _points(axes, shown, content["ablation"])
        drawn.append([(model.name, x, y) for model, x, y in shown])
        axes.set(xscale="log", xlabel=f"{label} (logarithmic)")
        axes.margins(x=0.14, y=0.14)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        if not shown:
            axes.text(0.5, 0.5, "not timed", transform=axes.transAxes, ha="center", color="0.35")
    protocol = content["runs"][0]["evaluation"]["protocol"]
    panels[0].set_ylabel(f"AP_m on {protocol['split']}, percent")
    size = work["input"].replace("x", " × ")
    title = f"at {size}, {work['proposals']} proposals, {work['detections']} detections"
    panels[0].set_title(title, loc="left", fontsize=11, color="0.25")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=3, frameon=False)
    figure.draw_without_rendering()  # computes the layout, which decides where names fit
    for axes, points in zip(panels, drawn, strict=True):
        _names(axes, points)
    write_figure(figure, output)


def _points(axes, shown: Sequence[tuple[Model, float, float]], ablation: Sequence[str]) -> None:
    """The front as steps, the points on it, and the seeds as bars."""
    base, *variants = ablation or [""]
    front = [shown[i][1:] for i in pareto_front([(x, y) for _, x, y in shown])]
    if front:
        style = {"color": FRONT, "linewidth": 2.2, "alpha": 0.75, "where": "post"}
        axes.step(*zip(*front, strict=True), label="Pareto front", zorder=1, **style)
    for label, style in (("models", COMPARED), (f"variants of {base}", VARIANT)):
        own = [one for one in shown if (one[0].name in variants) == (style is VARIANT)]
        for model, x, _ in own:
            if len(model.seeds) > 1:
                axes.vlines(x, min(model.ap_m), max(model.ap_m), color=style["color"], lw=1.5)
        if own:
            x, y = zip(*(one[1:] for one in own), strict=True)
            axes.scatter(x, y, label=label, zorder=3, edgecolors="white", linewidths=0.8, **style)


def _names(axes, points: Sequence[tuple[str, float, float]]) -> None:
    """A name at each point, in the nearest place that hides no point, name, or part of the front.

    A name that is further away gets a line to its point.
    """
    from matplotlib.transforms import Bbox

    places = [
        LabelPlace(right * distance, up * distance, SIDES[right], ALIGNMENTS[up])
        for distance in (7, 22, 38)
        for right, up in ((-1, 1), (-1, 0), (0, 1), (1, -1), (1, 0), (1, 1), (0, -1), (-1, -1))
    ]
    pixels = [axes.transData.transform(point[1:]) for point in points]
    corners = [pixels[i] for i in pareto_front([point[1:] for point in points])]
    taken = [Bbox([[x - 9, y - 9], [x + 9, y + 9]]) for x, y in pixels]
    for (x, y), (next_x, next_y) in itertools.pairwise(corners):
        taken += [
            Bbox([[x, y - 2], [next_x, y + 2]]),
            Bbox([[next_x - 2, y], [next_x + 2, next_y]]),
        ]
    for name, x, y in points:
        text = axes.annotate(name, (x, y), (0, 0), textcoords="offset points", fontsize=10)

        best = place_label(text, places, taken, axes)
        taken.append(text.get_window_extent())
        if max(map(abs, best[:2])) > 7:
            style = {"arrowstyle": "-", "color": "0.5", "linewidth": 0.7, "shrinkB": 4}
            axes.annotate("", (x, y), best[:2], textcoords="offset points", arrowprops=style)
