"""Self-contained HTML pages, light and dark."""

from collections.abc import Sequence
from html import escape

from atto_det.reports.grid import Grid

_STYLE = """
:root { --ink: #1d2430; --dim: #667085; --paper: #ffffff; --line: #d9dee7; --bar: #2f6fbb;
  --heat: 47, 111, 187; --panel: #f6f8fb; --second: #c2571a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --dim: #98a2b3; --paper: #12161d;
  --line: #333b48; --bar: #6aa5e8; --heat: 106, 165, 232; --panel: #1a2029; --second: #f0995c; } }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem; color: var(--ink);
  background: var(--paper); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p, figcaption { color: var(--dim); margin: .3rem 0; max-width: 60rem; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 2rem; }
.bars { display: grid; grid-template-columns: 8rem 1fr 7.5rem; gap: .3rem .7rem;
  align-items: center; }
.bars i { display: block; height: 1.05rem; background: var(--bar); border-radius: 2px;
  min-width: 1px; }
.bars span:nth-child(3n) { font-variant-numeric: tabular-nums; text-align: right; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .8rem; }
td, th { padding: .15rem .4rem; text-align: right; border: 1px solid var(--line);
  font-weight: normal; font-variant-numeric: tabular-nums; }
th { color: var(--dim); } th:first-child { text-align: right; white-space: nowrap; }
svg { width: 100%; background: var(--panel); border-radius: 4px; }
.grid { stroke: var(--line); } .curve { stroke: var(--bar); fill: none; stroke-width: 1.6; }
.dot { fill: var(--bar); }
"""


def document(title: str, remarks: Sequence[str], parts: Sequence[str], style: str = "") -> str:
    """The page: a title, paragraphs of remarks, then the parts, which are HTML.

    Args:
        style: further CSS. Colours are --ink, --dim, --paper, --line, --bar, --second and --panel.
    """
    head = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(remark)}</p>" for remark in remarks)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}{style}</style></head>"
        f"<body>{''.join((*head, *parts))}</body></html>\n"
    )


def columns(parts: Sequence[str]) -> str:
    """Parts side by side, if there is room."""
    return f'<div class="columns">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def bar(name: str, share: float, text: str, title: str = "") -> str:
    """A line of a `.bars` grid: a name, a bar of a share of the width, and its figure."""
    return (
        f'<span title="{escape(title)}">{escape(name)}</span>'
        f'<i style="width:{100 * share:.1f}%"></i><span>{escape(text)}</span>'
    )


def table(grid: Grid) -> str:
    """A table, with its title above it."""
    head = "".join(f"<th>{escape(name)}</th>" for name in grid.header)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in grid.rows
    )
    return (
        f"<p>{escape(grid.title)}</p>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        "</div>"
    )
