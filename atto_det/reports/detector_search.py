"""What a search for a detector found: tables, an HTML page and a picture of the front."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from atto_det.reports import exploration_html
from atto_det.reports.exploration_html import importance_bars
from atto_det.reports.figure import write_figure
from atto_det.reports.grid import Grid
from atto_det.reports.html import document, table
from atto_det.reports.svg import BOTTOM, HIGH, LEFT, TOP, WIDE, axes, make_scale, ticks

_STYLE = """
.plot { max-width: 44rem; margin: 0; } .plot text { fill: var(--dim); font-size: 12px; }
.open { fill: none; stroke: var(--dim); stroke-width: 1; }
td:first-child { text-align: left; }
"""
_X, _Y = "milliseconds in ONNX Runtime, 8 bits", "AP of the pictures held out, percent"


def front(detectors: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The trained ones that meet the requirements and that no other beats in AP and in time."""
    return exploration_html.front(detectors, "milliseconds", "ap")


def grids(content: Mapping[str, Any]) -> list[Grid]:
    """The tables of detectors.json's content (`atto_det.exploration.detector_outcome`)."""
    on_front = {one["name"] for one in front(content["detectors"])}
    keys = list(content["settings"]["space"])
    tests = sorted({key for found in content["test"].values() for key in found})
    header = ("detector", "AP\nheld out", *(f"{name}\nAP_d/AP_m" for name in tests))
    header += ("ms", "MACs\n(G)", "param.\n(M)", "meets\nall", "front", *keys)
    rows = []
    order = sorted(content["detectors"], key=lambda one: -(-1 if one["ap"] is None else one["ap"]))
    for one in order:
        found = content["test"].get(one["name"], {})
        rows.append(
            (
                one["name"],
                _text(one["ap"], 1),
                *("/".join(f"{v:.1f}" for v in found.get(name, {}).values()) for name in tests),
                _text(one["milliseconds"], 1),
                _text(one["macs"], 2, 1e9),
                _text(one["parameters"], 2, 1e6),
                "yes" if one["satisfies"] else "no",
                "yes" if one["name"] in on_front else "",
                *(one["point"][key] for key in keys),
            )
        )
    return [Grid("Detectors, best AP first; those without one were not trained", header, (*rows,))]


def page(content: Mapping[str, Any], tables: Sequence[Grid]) -> str:
    """The HTML page of detectors.json's content and its tables."""
    parts = [
        "<h2>The front</h2>",
        "<p>Filled: meets the requirements; rings: not. The line is the front: no other detector "
        "is faster and has a higher AP. All were timed in one run, each in turn.</p>",
        _plot(content["detectors"]),
    ]
    if content["importance"]:
        parts += ["<h2>Which keys matter for AP</h2>", importance_bars(content["importance"])]
    parts += ["<h2>Tables</h2>", *(table(grid) for grid in tables)]
    return document(content["title"], content["remarks"], parts, _STYLE)


def draw(content: Mapping[str, Any], output: Path) -> None:
    """Draw the detectors by milliseconds and AP into a PNG or SVG file.

    Raises:
        UserError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.6), layout="constrained")
    plot, blue = figure.subplots(), "#2f6fbb"
    for satisfies, face in ((False, "none"), (True, blue)):
        some = [one for one in _timed(content["detectors"]) if one["satisfies"] is satisfies]
        places = [one["milliseconds"] for one in some], [one["ap"] for one in some]
        plot.scatter(*places, s=24, facecolors=face, edgecolors=blue, linewidths=0.8)
    best = front(content["detectors"])
    plot.plot([one["milliseconds"] for one in best], [one["ap"] for one in best], color=blue, lw=1)
    plot.set(xlabel=_X, ylabel=_Y)
    plot.grid(color="0.9")
    plot.set_axisbelow(True)
    write_figure(figure, output, dpi=130)


def _plot(detectors: Sequence[Mapping[str, Any]]) -> str:
    timed = _timed(detectors)
    if not timed:
        return "<p>None was trained.</p>"
    x = make_scale([one["milliseconds"] for one in timed], LEFT, WIDE - 12)
    y = make_scale([one["ap"] for one in timed], HIGH - BOTTOM, TOP)
    line = " ".join(f"{x(one['milliseconds']):.1f},{y(one['ap']):.1f}" for one in front(timed))
    marks = [f'<polyline class="curve" points="{line}"/>']
    for one in timed:
        values = ", ".join(f"{key} {value}" for key, value in one["point"].items())
        words = f"{one['name']}: AP {one['ap']:.1f}, {one['milliseconds']:.1f} ms; {values}"
        marks.append(
            f'<circle class="{"dot" if one["satisfies"] else "open"}" r="4" '
            f'cx="{x(one["milliseconds"]):.1f}" cy="{y(one["ap"]):.1f}">'
            f"<title>{escape(words)}</title></circle>"
        )
    return axes(marks, ticks(x), ticks(y), _X, _Y)


def _timed(detectors: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [one for one in detectors if None not in (one["ap"], one["milliseconds"])]


def _text(value: float | None, digits: int, unit: float = 1.0) -> str:
    return "" if value is None else f"{value / unit:.{digits}f}"
