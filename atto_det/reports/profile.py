"""Profiles of graphs as tables by kind of layer, with the slowest nodes, and as JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atto_det.complexity.profile import Limit, NodeTime, Profile
from atto_det.reports.grid import MEASURED, Grid, write_report

SLOWEST = 12  # nodes in a table
SHORT = 36  # characters of their names there


def by_kind(nodes: Sequence[NodeTime]) -> dict[str, list[NodeTime]]:
    """The nodes of each kind, what takes longest first."""
    kinds: dict[str, list[NodeTime]] = {}
    for node in nodes:
        kinds.setdefault(node.kind, []).append(node)
    return dict(sorted(kinds.items(), key=lambda item: -_seconds(item[1])))


def profile_tables(profiles: Sequence[Profile], limits: Sequence[Limit]) -> list[Grid]:
    """Of each profile its kinds of layers and its slowest nodes; then the limits."""
    grids = []
    for one in profiles:
        whole = _seconds(one.nodes)
        rows = [
            (kind, str(len(nodes)), *_cells(_seconds(nodes), sum(n.macs for n in nodes), whole))
            for kind, nodes in by_kind(one.nodes).items()
        ]
        rows.append(("total", str(len(one.nodes)), *_cells(whole, _macs(one), whole)))
        rows.append((MEASURED, "", *_cells(one.seconds, _macs(one), whole)))
        header = ("kind", "nodes", "ms", "%", "GMACs", "ms/GMAC")
        grids.append(Grid(f"{one.name}, by kind of layer", header, (*rows,)))
        slowest = sorted(one.nodes, key=lambda node: -node.seconds)[:SLOWEST]
        rows = [(_short(n.name), n.kind, *_cells(n.seconds, n.macs, whole)) for n in slowest]
        header = ("node", "kind", "ms", "%", "GMACs", "ms/GMAC")
        grids.append(Grid(f"{one.name}, slowest nodes", header, (*rows,)))
    rows = []
    for limit in limits:
        speed = f"{limit.moved / limit.seconds / 1e9:,.1f}" if limit.moved else ""
        ms, _, macs, each = _cells(limit.seconds, limit.macs, limit.seconds)
        rows.append((limit.name, ms, macs, each, speed))
    header = ("what", "ms", "GMACs", "ms/GMAC", "GB/s")
    return [*grids, Grid("The machine in the same run", header, (*rows,))]


def remarks(on: dict[str, Any], repeats: int) -> list[str]:
    """Sentences on how the figures came about."""
    return [
        f"On {on['cpu']}, {on['threads']} threads of {on['cores']} cores; shortest of {repeats} "
        "runs of each node, in PyTorch the shortest whole run, all detectors in turn.",
        "By the runtimes' own profilers, and torch.profiler, whose nodes are the operators that "
        "Python calls; the rest of a run there is Python's time and the profiler's. Multiply-adds "
        "are those of convolutions and products; bytes of a copy are read and written ones. "
        "Pasting masks counts only in PyTorch.",
    ]


def _short(name: str) -> str:
    """The end of a node's name, which tells what it is."""
    return name if len(name) <= SHORT else f"…{name[1 - SHORT :]}"


def _seconds(nodes: Sequence[NodeTime]) -> float:
    return sum(node.seconds for node in nodes)


def _macs(profile: Profile) -> int:
    return sum(node.macs for node in profile.nodes)


def _cells(seconds: float, macs: int, whole: float) -> tuple[str, str, str, str]:
    """Milliseconds, percent, GMACs, milliseconds for each of them."""
    each = f"{1e12 * seconds / macs:,.1f}" if macs else ""
    return (
        f"{1000 * seconds:,.2f}",
        f"{100 * seconds / whole:.1f}",
        f"{macs / 1e9:,.3f}" if macs else "",
        each,
    )


def profile_record(profiles: Sequence[Profile], limits: Sequence[Limit]) -> dict[str, Any]:
    """Exact figures for JSON, every node among them."""
    return {
        "profiles": [
            {
                "name": one.name,
                "run_s": one.seconds,
                "nodes_s": _seconds(one.nodes),
                "macs": _macs(one),
                "kinds": {
                    kind: {
                        "nodes": len(nodes),
                        "seconds": _seconds(nodes),
                        "macs": sum(node.macs for node in nodes),
                    }
                    for kind, nodes in by_kind(one.nodes).items()
                },
                "nodes": [node._asdict() for node in one.nodes],
            }
            for one in profiles
        ],
        "limits": [limit._asdict() for limit in limits],
    }


def write_profiles(
    folder: Path,
    profiles: Sequence[Profile],
    limits: Sequence[Limit],
    context: dict[str, Any],
    lines: Sequence[str],
) -> list[Path]:
    """profile.md and profile.json (with `context`) in `folder`; returns their paths.

    Raises:
        UserError: a file cannot be written.
    """
    tables = profile_tables(profiles, limits)
    record = {**context, **profile_record(profiles, limits)}
    return write_report(folder / "profile", "Where the time goes", tables, lines, record)
