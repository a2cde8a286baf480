"""Table 2 as tables for a terminal and Markdown, a record for JSON, and files."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from atto_det.complexity.netscore import netscore
from atto_det.errors import write_file
from atto_det.reports import attendnets_table
from atto_det.reports.grid import Grid, markdown_grid, print_grids
from atto_det.reports.table2 import NOT_STATED, REMARKS, Data, Row, by_data
from atto_det.reports.table2_plot import plot_table2

SOURCE = "arXiv 1903.07209v2, Table 2; NetScore: arXiv 1806.05512"


def tables(rows: Sequence[Row]) -> list[Grid]:
    """Published beside recomputed figures, a table for each measured data set, weight memory."""
    groups = [_measured(data, group) for data, group in by_data(rows).items()]
    return [_published(rows), *groups, _memory(rows)]


def _published(rows: Sequence[Row]) -> Grid:
    lines = []
    for row in rows:
        if paper := row.published:
            lines.append(
                (
                    row.name,
                    f"{paper.top1:.2f}",
                    f"{paper.macs_m:.1f}",
                    f"{row.macs / 1e6:.1f}",
                    f"{paper.parameters_m:.2f}",
                    f"{row.parameters / 1e6:.3f}",
                    f"{paper.netscore:.2f}",
                    f"{netscore(paper.top1, paper.parameters_m, paper.macs_m / 1e3):.2f}",
                    f"{row.netscore(paper.top1):.2f}",
                )
            )
    header = ("network", "top-1\n(%)", "MACs\n(M)", "recom-\nputed", "param.\n(M)", "recom-\nputed")
    header += ("Net-\nScore", "by the\nformula", "recomp.\ncosts")
    return Grid("Published on ImageNet-50 (arXiv 1903.07209), beside recomputed", header, (*lines,))


def _measured(data: Data | None, rows: Sequence[Row]) -> Grid:
    lines = []
    for row in rows:
        bits = row.measured.weight_bits
        paper = row.published
        own = () if data is None else (f"{row.macs_measured / 1e6:.1f}",)
        lines.append(
            (
                row.name + (f" ({bits} bit)" if bits else ""),
                str(row.measured),
                _score(row.netscore(row.measured.top1)),
                f"{row.parameters / 1e6:.3f}",
                f"{row.macs / 1e6:.1f}",
                *own,
                f"{paper.top1:.2f}" if paper else "–",
                _score(row.netscore(paper.top1) if paper else None),
            )
        )
    own = () if data is None else (f"at {data.input_size}\n(M)",)
    header = ("network", "top-1\n(%)", "Net-\nScore", "param.\n(M)", "MACs at\n224 (M)", *own)
    header += ("published\ntop-1 (%)", "its Net-\nScore")
    return Grid(f"Measured on {data or NOT_STATED}", header, (*lines,))


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _memory(rows: Sequence[Row]) -> Grid:
    lines = [
        (
            row.name,
            f"{row.parameters / 1e6:.3f}",
            f"{row.megabytes(32):.2f}",
            f"{row.megabytes(8):.2f}",
        )
        for row in rows
    ]
    header = ("network", "param.\n(M)", "32 bits\n(MB)", "8 bits\n(MB)")
    return Grid("Weight memory, recomputed parameters, MB = 10⁶ bytes", header, (*lines,))


def print_table2(
    rows: Sequence[Row], attendnets: Sequence[attendnets_table.RecomputedSizes] = ()
) -> None:
    """Every table, then the remarks, on the terminal; then the AttendNet paper's."""
    _print(tables(rows), REMARKS)
    if attendnets:
        _print(attendnets_table.tables(attendnets), attendnets_table.REMARKS)


def _print(grids: Sequence[Grid], remarks: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    print_grids(grids)
    lines = Table.grid(padding=(0, 1))
    for remark in remarks:
        lines.add_row("•", remark)
    Console(highlight=False).print(lines)


def markdown(
    rows: Sequence[Row], attendnets: Sequence[attendnets_table.RecomputedSizes] = ()
) -> str:
    """A report: every table, the plot, the remarks; then the AttendNet paper's."""
    lines = ["# Table 2 of the AttoNet paper", "", f"Source: {SOURCE}.", ""]
    for grid in tables(rows):
        lines += markdown_grid(grid)
    lines += ["![top-1 against multiply-adds](table2.png)", ""]
    lines += [*(f"- {remark}" for remark in REMARKS), ""]
    if attendnets:
        lines += ["# Table 1 of the AttendNet paper", "", f"Source: {attendnets_table.SOURCE}.", ""]
        for grid in attendnets_table.tables(attendnets):
            lines += markdown_grid(grid)
        lines += [*(f"- {remark}" for remark in attendnets_table.REMARKS), ""]
    return "\n".join(lines)


def record(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Exact figures for JSON, by network; None if there is none. Memory is in 10⁶ bytes."""
    result = []
    for row in rows:
        paper, one = row.published, row.measured
        entry = {"network": row.network, "name": row.name}
        entry["published"] = paper and {
            **{k: v for k, v in asdict(paper).items() if k not in ("name", "network")},
            "netscore_by_formula": netscore(paper.top1, paper.parameters_m, paper.macs_m / 1e3),
        }
        entry["recomputed"] = {
            "parameters": row.parameters,
            "macs_224": row.macs,
            "netscore_of_published_top1": row.netscore(paper.top1) if paper else None,
            "weights_mb_32_bits": row.megabytes(32),
            "weights_mb_8_bits": row.megabytes(8),
        }
        entry["measured"] = one and {
            "top1": one.top1,
            "runs": [{"seed": seed, "top1": top1} for seed, top1 in one.runs],
            "netscore": row.netscore(one.top1),
            "macs_at_input_size": row.macs_measured,
            "weight_bits": one.weight_bits,
            "data": one.data and asdict(one.data),
        }
        result.append(entry)
    return result


def write_table2(
    folder: str | Path,
    rows: Sequence[Row],
    context: dict[str, Any],
    attendnets: Sequence[attendnets_table.RecomputedSizes] = (),
) -> list[Path]:
    """Write table2.md, table2.json (with `context`) and table2.png; returns their paths.

    Raises:
        UserError: a file cannot be written.
    """
    files = [Path(folder) / f"table2.{suffix}" for suffix in ("md", "json", "png")]
    write_file(files[0], markdown(rows, attendnets))
    content = {"source": SOURCE, "remarks": REMARKS, "networks": record(rows), **context}
    if attendnets:
        content["attendnets"] = attendnets_table.record(attendnets)
    write_file(files[1], json.dumps(content, indent=2) + "\n")
    plot_table2(rows, files[2])
    return files
