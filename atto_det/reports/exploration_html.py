"""The result of an exploration as one self-contained HTML page, light and dark."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from atto_det.reports.grid import Grid
from atto_det.reports.html import bar, columns, document, table
from atto_det.reports.svg import (
    BOTTOM,
    HIGH,
    LEFT,
    TOP,
    WIDE,
    axes,
    log_ticks,
    make_scale,
    ticks,
)

_STYLE = """
.plot { max-width: 44rem; margin: 0; } .plot text { fill: var(--dim); font-size: 12px; }
.open { fill: none; stroke: var(--dim); stroke-width: 1; }
.final { fill: var(--second); stroke: var(--paper); stroke-width: 1.5; }
.prototype { stroke: var(--second); stroke-width: 2; fill: none; }
.line2 { stroke: var(--second); fill: none; stroke-width: 1.6; }
.line3 { stroke: var(--dim); fill: none; stroke-width: 1.6; stroke-dasharray: 5 4; }
.line4 { stroke: var(--ink); fill: none; stroke-width: 1.6; stroke-dasharray: 2 3; }
.thread { stroke: var(--bar); fill: none; stroke-width: 1; opacity: .18; }
.elite { stroke: var(--second); fill: none; stroke-width: 1.8; opacity: .9; }
td:first-child { text-align: left; }
"""
_LINES = ("curve", "line2", "line3", "line4")


def page(content: Mapping[str, Any], grids: Sequence[Grid]) -> str:
    """The page.

    Args:
        content: of exploration.json (`atto_det.exploration.outcome.collect`).
        grids: its tables.
    """
    parts = [
        "<h2>Networks</h2>",
        "<p>Filled: scored by the supernet, and meeting the requirements as far as they can be "
        "known or estimated before training; rings: not. Large: trained to the end. Cross: the "
        "prototype. The line is the front of those scored: no other has fewer multiply-adds and a "
        "higher estimate.</p>",
        _front(content),
    ]
    beside = []
    if content["generators"]:
        points = [(one["number"], one["u"]) for one in content["generators"]]
        beside.append(
            "<h2>Generators</h2><p>U of G_0, G_1, …: the mean over the networks of fixed seeds, "
            f"with top-1 estimated by the supernet.</p>{_plot([('U', points)], 'k', 'U(G_k)')}"
        )
    if content["samplers"]:
        lines = [(one["name"], one["curve"]) for one in content["samplers"]]
        beside.append(
            "<h2>Engines</h2><p>Highest estimated U so far of a network that meets the "
            f"requirements.</p>{_plot(lines, 'networks asked for', 'U')}"
        )
    parts.append(columns(beside))
    parts += ["<h2>What the networks are like</h2>", _threads(content)]
    if content["importance"]:
        parts += ["<h2>Which choices matter for U</h2>", importance_bars(content["importance"])]
    parts += ["<h2>Tables</h2>", *(table(grid) for grid in grids)]
    return document(content["title"], content["remarks"], parts, _STYLE)


def front(
    networks: Sequence[Mapping[str, Any]], cost: str = "macs", worth: str = "top1"
) -> list[Mapping[str, Any]]:
    """Networks that meet the requirements and form the front of `cost` and `worth`, by `cost`."""
    found: list[Mapping[str, Any]] = []
    allowed = [one for one in networks if one["satisfies"] and None not in (one[cost], one[worth])]
    for one in sorted(allowed, key=lambda one: (one[cost], -one[worth])):
        if not found or one[worth] > found[-1][worth]:
            found.append(one)
    return found


def _front(content: Mapping[str, Any]) -> str:
    scored = [one for one in content["networks"] if one["top1"] is not None]
    finals, prototype = content["finals"], content["prototype"]
    everything = [*scored, *finals, prototype]
    x = make_scale([math.log10(one["macs"]) for one in everything], LEFT, WIDE - 12)
    y = make_scale([one["top1"] for one in everything], HIGH - BOTTOM, TOP)

    def place(one: Mapping[str, Any]) -> tuple[float, float]:
        return x(math.log10(one["macs"])), y(one["top1"])

    line = " ".join("{:.1f},{:.1f}".format(*place(one)) for one in front(scored))
    marks = [f'<polyline class="curve" points="{line}"/>']
    for one in scored:
        style, radius = ("dot", 3.5) if one["satisfies"] else ("open", 3)
        marks.append(_circle(place(one), radius, style, one))
    marks += [_circle(place(one), 7, "final", one) for one in finals]
    a, b = place(prototype)
    marks.append(
        f'<path class="prototype" d="M{a - 6:.1f} {b - 6:.1f}l12 12m0 -12l-12 12">'
        f"<title>{_words(prototype)}</title></path>"
    )
    low, high = (10**value for value in x.bounds)
    x_ticks = [(x(math.log10(v)), f"{v / 1e6:.3g}") for v in log_ticks(low, high)]
    return axes(marks, x_ticks, ticks(y), "multiply-adds, millions (logarithmic)", "top-1, percent")


def _plot(lines: Sequence[tuple[str, Sequence[Sequence[float]]]], x_name: str, y_name: str) -> str:
    """Lines of (x, y) points, with their names at their ends.

    Names that are alike up to their "-" are drawn alike.
    """
    lines = [(name, points) for name, points in lines if points]
    if not lines:
        return "<p>None yet.</p>"
    x = make_scale([p[0] for _, points in lines for p in points], LEFT, WIDE - 110)
    y = make_scale([p[1] for _, points in lines for p in points], HIGH - BOTTOM, TOP)
    kinds = list(dict.fromkeys(name.partition("-")[0] for name, _ in lines))
    marks, ends = [], []
    for name, points in lines:
        style = _LINES[kinds.index(name.partition("-")[0]) % len(_LINES)]
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
        marks.append(f'<polyline class="{style}" points="{path}"/>')
        if len(points) < 30:
            marks += [
                f'<circle class="dot" cx="{x(a):.1f}" cy="{y(b):.1f}" r="3">'
                f"<title>{escape(name)}: {a:g}, {b:.2f}</title></circle>"
                for a, b in points
            ]
        ends.append((y(points[-1][1]), f"{name} {points[-1][1]:.2f}", x(points[-1][0])))
    before = -math.inf
    for height, text, right in sorted(ends):  # names do not cover each other
        before = max(height, before + 14)
        marks.append(f'<text x="{right + 6:.1f}" y="{before + 4:.1f}">{escape(text)}</text>')
    return axes(marks, ticks(x, whole=True), ticks(y), x_name, y_name)


def _threads(content: Mapping[str, Any]) -> str:
    """Parallel coordinates: a line for each network through its figures."""
    scored = [one for one in content["networks"] if one["u"] is not None]
    if not scored:
        return "<p>None was scored.</p>"
    count = max(len(scored) // 10, 1)
    best = sorted((one for one in scored if one["satisfies"]), key=lambda one: -one["u"])[:count]
    elite = {one["number"] for one in best}
    rows = [
        one["traits"]
        | {"param. (M)": one["parameters"] / 1e6, "MACs (M)": one["macs"] / 1e6}
        | {"top-1": one["top1"], "U": one["u"]}
        for one in scored
    ]
    names, wide = list(rows[0]), 1100
    step = (wide - 80) / (len(names) - 1)
    scales = {name: make_scale([row[name] for row in rows], 250, 40, margin=0) for name in names}
    marks = []
    for index, name in enumerate(names):
        a = 40 + index * step
        low, high = scales[name].bounds
        marks.append(
            f'<line class="grid" x1="{a:.1f}" y1="40" x2="{a:.1f}" y2="250"/>'
            f'<text x="{a:.1f}" y="20" text-anchor="middle">{escape(name)}</text>'
            f'<text x="{a:.1f}" y="34" text-anchor="middle">{high:.3g}</text>'
            f'<text x="{a:.1f}" y="266" text-anchor="middle">{low:.3g}</text>'
        )
    order = sorted(zip(scored, rows, strict=True), key=lambda pair: pair[0]["number"] in elite)
    for one, row in order:
        path = " ".join(
            f"{40 + k * step:.1f},{scales[name](row[name]):.1f}" for k, name in enumerate(names)
        )
        style = "elite" if one["number"] in elite else "thread"
        marks.append(
            f'<polyline class="{style}" points="{path}"><title>{_words(one)}</title></polyline>'
        )
    return (
        f"<p>One line a network; the {len(best)} with the highest U that meet the requirements "
        f'stand out.</p><figure class="plot" style="max-width:none"><svg viewBox="0 0 {wide} 276">'
        f"{''.join(marks)}</svg></figure>"
    )


def importance_bars(importance: Mapping[str, float]) -> str:
    """A bar for each choice by its importance, the greatest first; `importance` is not empty."""
    found = sorted(importance.items(), key=lambda item: -item[1])[:12]
    greatest = max(found[0][1], 1e-9)
    rows = [bar(name, value / greatest, f"{value:.3f}") for name, value in found]
    return (
        "<p>PED-ANOVA (arXiv 2304.10255) over all that were judged; the twelve largest.</p>"
        f'<div class="bars">{"".join(rows)}</div>'
    )


def _circle(place: tuple[float, float], radius: float, style: str, one: Mapping[str, Any]) -> str:
    return (
        f'<circle class="{style}" cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="{radius}">'
        f"<title>{_words(one)}</title></circle>"
    )


def _words(one: Mapping[str, Any]) -> str:
    u = "" if one["u"] is None else f", U {one['u']:.2f}"
    return escape(
        f"{one['network']}: top-1 {one['top1']:.1f} %, {one['parameters'] / 1e6:.3f} M parameters, "
        f"{one['macs'] / 1e6:.2f} M multiply-adds{u}"
    )
