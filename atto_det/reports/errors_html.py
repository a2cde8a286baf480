"""The report on a detector's errors as one self-contained HTML page, light and dark."""

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

from atto_det.reports.grid import Grid
from atto_det.reports.html import bar, columns, document, table

WORDS = {
    "classification": "on an object of another class",
    "localisation": "on an object of its class, but too far off",
    "both": "on an object of another class, and too far off",
    "duplicate": "the object was found already",
    "background": "on nothing",
    "missed": "an object that nothing found",
}

_STYLE = """
.confusion thead th { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; }
.same { outline: 2px solid var(--bar); outline-offset: -2px; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 1rem; }
.curves figure, .worst figure, .calibration { margin: 0; }
.calibration { max-width: 20rem; }
.second { stroke-dasharray: 4 3; }
.worst { display: grid; grid-template-columns: repeat(auto-fill, minmax(30rem, 1fr)); gap: 1.2rem; }
.worst img { width: 100%; border-radius: 4px; }
"""


def page(content: dict[str, Any], pictures: Sequence[tuple[str, bytes]]) -> str:
    """The page.

    Args:
        content: from `atto_det.reports.errors.analyse`, with `title` and `remarks` added.
        pictures: caption and JPEG of each of the worst pictures.
    """
    parts = [
        "<h2>What each kind of error costs</h2>",
        "<p>AP at IoU 0.5 that would be gained if all errors of the kind, and only they, were "
        "corrected (TIDE, arXiv 2008.08115). Costs do not add up.</p>",
        columns([_costs(kind, figures) for kind, figures in content["kinds"].items()]),
        "<h2>Does it find objects of every size?</h2>",
        _sizes(content["sizes"]),
        "<h2>Which classes are confused</h2>",
        f"<p>Rows: class of the object. Columns: class detected there, from score "
        f"{content['score']:g}. Shades are shares of the row.</p>",
        _confusion(content["confusion"], content["class_names"]),
        "<h2>Precision by recall</h2>",
        "<p>One class each; solid: boxes, dashed: masks; the number is the area in percent.</p>",
        _curves(content),
        "<h2>Are the scores reliable?</h2>",
        "<p>Dots: how often detections of a score are right. On the diagonal a score is a "
        "probability; below it the detector is overconfident.</p>",
        columns([_calibration(kind, figures) for kind, figures in content["kinds"].items()]),
    ]
    if content["boundary"]:
        parts += ["<h2>How well do the edges fit?</h2>", _boundary(content["boundary"])]
    if pictures:
        parts.append("<h2>The worst pictures</h2><p>Ground truth left, detections right.</p>")
        parts.append(f'<div class="worst">{"".join(_picture(*one) for one in pictures)}</div>')
    return document(content["title"], content["remarks"], parts, _STYLE)


def _costs(kind: str, figures: dict[str, Any]) -> str:
    rows = [f"<p>{kind}: AP {figures['AP']:.1f}</p>", '<div class="bars">']
    greatest = max(*figures["costs"].values(), 1e-9)
    for name, cost in figures["costs"].items():
        text = f"{cost:.1f} ({figures['counts'][name]:,})"
        rows.append(bar(name, cost / greatest, text, WORDS[name]))
    rows.append("</div>")
    rows.append(
        f"<p>All false positives last: +{figures['false_positives']:.1f}. "
        f"No false negatives: +{figures['false_negatives']:.1f}.</p>"
    )
    return "".join(rows)


def _sizes(sizes: dict[str, dict[str, Any]]) -> str:
    kinds = [kind for kind in next(iter(sizes.values())) if kind != "objects"]
    rows = []
    for size, figures in sizes.items():
        values = [figures[kind][name] for kind in kinds for name in ("AP", "AR")]
        cells = ["–" if value is None else f"{value:.1f}" for value in values]
        rows.append((size, f"{figures['objects']:,}", *cells))
    header = ("size", "objects", *(f"{kind} {name}" for kind in kinds for name in ("AP", "AR")))
    title = (
        "COCO's AP and AR, over IoU 0.5 to 0.95. Small: up to 32² pixels of area; medium: up to "
        "96²; large: from 96²."
    )
    return table(Grid(title, header, tuple(rows)))


def _confusion(matrix: Sequence[Sequence[int]], class_names: Sequence[str]) -> str:
    """The matrix, without rows and columns of zeros."""
    known = range(len(class_names))
    shown = [k for k in known if any(matrix[k])]
    detected = [k for k in known if any(row[k] for row in matrix)]
    last = len(class_names)  # no object, nothing found
    names = [*class_names, "nothing found"]
    heads = "".join(f"<th>{escape(names[column])}</th>" for column in (*detected, last))
    rows = []
    for index in (*shown, last):
        row, name = matrix[index], class_names[index] if index < last else "no object"
        total = max(sum(row), 1)
        cells = []
        for column in (*detected, last):
            value, same = row[column], ' class="same"' if column == index < last else ""
            shade = f"background: rgba(var(--heat), {0.85 * value / total:.2f})"
            style = f' style="{shade}"' if value else ""
            cells.append(f"<td{same}{style}>{value or ''}</td>")
        rows.append(f"<tr><th>{escape(name)}</th>{''.join(cells)}</tr>")
    hidden = last - len({*shown, *detected})
    note = f"<p>Without objects, and without detections above the score: {hidden} classes.</p>"
    return (
        f'<div class="scroll confusion"><table><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{note if hidden else ''}"
    )


def _curves(content: dict[str, Any]) -> str:
    kinds = content["kinds"]
    figures = []
    for name in kinds["box"]["curves"]:
        lines, areas = [], []
        for kind, style in (("box", "curve"), ("mask", "curve second")):
            if kind in kinds:
                curve = kinds[kind]["curves"][name]
                values = curve["precision"]
                points = [(k / (len(values) - 1), value) for k, value in enumerate(values)]
                lines.append(_line(points, style))
                areas.append(f"{curve['AP']:.0f}")
        caption = f"{escape(name)} {' / '.join(areas)}"
        figures.append(f"<figure>{_axes(lines)}<figcaption>{caption}</figcaption></figure>")
    return f'<div class="curves">{"".join(figures)}</div>'


def _calibration(kind: str, figures: dict[str, Any]) -> str:
    one = figures["calibration"]
    most = max(*one["count"], 1)
    marks = ['<line class="grid" x1="6" y1="94" x2="94" y2="6"/>']
    for score, precision, count in zip(one["score"], one["precision"], one["count"], strict=True):
        if count:
            x, y = 6 + 88 * score, 94 - 88 * precision
            radius = 1 + 3 * (count / most) ** 0.5
            title = f"score {score:.2f}, right {precision:.0%}, {count:,} detections"
            marks.append(
                f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">'
                f"<title>{title}</title></circle>"
            )
    return (
        f'<figure class="calibration">{_axes(marks)}<figcaption>'
        f"{kind}: mean difference of score and share of right "
        f"ones {one['error']:.2f}; across: score, up: share of right ones</figcaption></figure>"
    )


def _axes(marks: Sequence[str]) -> str:
    """A square from 0 to 1, with quarter lines."""
    places = [6 + 22 * k for k in range(5)]
    grid = "".join(
        f'<line class="grid" x1="{p}" y1="6" x2="{p}" y2="94"/>'
        f'<line class="grid" x1="6" y1="{p}" x2="94" y2="{p}"/>'
        for p in places
    )
    return f'<svg viewBox="0 0 100 100" stroke-width=".6">{grid}{"".join(marks)}</svg>'


def _line(points: Sequence[tuple[float, float]], style: str) -> str:
    path = " ".join(f"{6 + 88 * x:.1f},{94 - 88 * y:.1f}" for x, y in points)
    return f'<polyline class="{style}" points="{path}"/>'


def _boundary(figures: dict[str, Any]) -> str:
    return (
        f"<p>Over {figures['pairs']:,} right detections the masks overlap by "
        f"{100 * figures['mask_iou']:.1f} %, their borders (2 % of the picture's diagonal; "
        f"boundary IoU, arXiv 2103.16562) by {100 * figures['boundary_iou']:.1f} %.</p>"
    )


def _picture(caption: str, jpeg: bytes) -> str:
    content = base64.b64encode(jpeg).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/jpeg;base64,{content}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
