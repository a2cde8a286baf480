"""Tables as data, for the terminal and for Markdown."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atto_det.errors import write_file

MEASURED = "measured, whole run"
EXPONENT = "exponent"
TOTALS = ("total", "highest", EXPONENT, MEASURED)  # rows with a line above them


@dataclass(frozen=True)
class Grid:
    """A table: a title, column names, and rows of text, of which the last may be totals.

    A line break in a column name marks where a narrow column may be wrapped.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def print_grids(grids: Sequence[Grid]) -> None:
    """Print tables; one that is too wide for the terminal is split into several parts."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for grid in grids:
        widths = [
            max(map(len, (*header.split(), *cells)))  # headers are wrapped between words
            for header, *cells in zip(grid.header, *grid.rows, strict=True)
        ]
        console.print(grid.title, style="bold", markup=False, highlight=False)
        for part in _parts(widths, console.width):
            table = Table(box=SIMPLE_HEAD)
            for index in part:
                side = "right" if index else "left"
                table.add_column(grid.header[index], justify=side, width=widths[index])
            for row in grid.rows:
                if row[0] in TOTALS:
                    table.add_section()
                table.add_row(*(row[index] for index in part))
            console.print(table)


def _parts(widths: Sequence[int], room: int) -> list[list[int]]:
    """The columns of each part of a table: the first one, and others that fit into `room`."""
    parts = [[0]]
    for index in range(1, len(widths)):
        wide = sum(widths[i] + 3 for i in (*parts[-1], index)) + 1  # with padding
        if wide > room and len(parts[-1]) > 1:
            parts.append([0])
        parts[-1].append(index)
    return parts


def markdown_grids(title: str, grids: Sequence[Grid], remarks: Sequence[str]) -> str:
    """The remarks as paragraphs, then the tables."""
    lines = [f"# {title}", ""]
    for remark in remarks:
        lines += [remark, ""]
    for grid in grids:
        lines += markdown_grid(grid)
    return "\n".join(lines)


def write_report(
    stem: Path,
    title: str,
    grids: Sequence[Grid],
    remarks: Sequence[str],
    record: Mapping[str, Any],
) -> list[Path]:
    """Write the tables as `stem`.md, and `record` with the remarks as `stem`.json.

    Raises:
        UserError: a file cannot be written.
    """
    markdown, data = (stem.with_name(f"{stem.name}.{suffix}") for suffix in ("md", "json"))
    write_file(markdown, markdown_grids(title, grids, remarks))
    write_file(data, json.dumps({**record, "remarks": list(remarks)}, indent=2) + "\n")
    return [markdown, data]


def markdown_grid(grid: Grid) -> list[str]:
    """The lines of one table, below its title."""
    rule = "|---" + "|---:" * (len(grid.header) - 1) + "|"
    rows = [_line(row) for row in grid.rows]
    return [f"## {grid.title}", "", _line(grid.header), rule, *rows, ""]


def _line(cells: Sequence[str]) -> str:
    flat = (c.replace("-\n", "").replace("\n", " ").replace("|", "\\|") for c in cells)
    return "| " + " | ".join(flat) + " |"
