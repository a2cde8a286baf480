"""The Pareto front of an exploration, its generators and its samplers, as a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atto_det.reports.exploration_html import front
from atto_det.reports.figure import write_figure


def plot_exploration(content: Mapping[str, Any], output: str | Path) -> None:
    """Draw networks by multiply-adds and top-1, U of the generators, and samplers side by side.

    Args:
        content: of exploration.json.
        output: a PNG or SVG file.

    Raises:
        UserError: the target cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(5, 3, 4))
    scored = [one for one in content["networks"] if one["top1"] is not None]
    for satisfies, face in ((False, "none"), (True, "#2f6fbb")):
        some = [one for one in scored if one["satisfies"] is satisfies]
        left.scatter(*_places(some), s=16, facecolors=face, edgecolors="#2f6fbb", linewidths=0.7)
    left.plot(*_places(front(scored)), color="#2f6fbb", lw=1)
    left.scatter(*_places(content["finals"]), s=70, color="#c2571a", label="trained to the end")
    x, y = _places([content["prototype"]])
    left.scatter(x, y, s=80, marker="x", color="#c2571a", label="prototype")
    left.set(xscale="log", xlabel="multiply-adds, millions", ylabel="top-1, percent")
    for which in (left.xaxis.set_major_formatter, left.xaxis.set_minor_formatter):
        which("{x:.2g}")
    left.set_title("networks: small by the supernet, large alone", loc="left", fontsize=11)
    left.legend(frameon=False, fontsize=9)
    middle.plot(
        [one["number"] for one in content["generators"]],
        [one["u"] for one in content["generators"]],
        marker="o",
        color="#2f6fbb",
    )
    middle.set(xlabel="k", ylabel="U(G_k)")
    middle.xaxis.get_major_locator().set_params(integer=True)
    middle.set_title("generators", loc="left", fontsize=11)
    colours: dict[str, str] = {}
    for one in content["samplers"]:
        if not one["curve"]:
            continue
        engine = one["name"].partition("-")[0]
        label = None if engine in colours else engine
        colour = colours.setdefault(engine, f"C{len(colours)}")
        right.plot(*zip(*one["curve"], strict=True), label=label, color=colour)
    right.set(xlabel="networks asked for", ylabel="highest estimated U so far")
    right.set_title("engines", loc="left", fontsize=11)
    right.legend(frameon=False, fontsize=9)
    for axes in (left, middle, right):
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
    write_figure(figure, output, dpi=130)


def _places(networks: list[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    return [one["macs"] / 1e6 for one in networks], [one["top1"] for one in networks]
