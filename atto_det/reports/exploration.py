"""Tables of the results of an exploration."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from atto_det.reports.grid import Grid

_RANKERS = {
    "supernet": "supernet's top-1",
    "macs": "multiply-adds",
    "parameters": "parameters",
    "synflow": "synflow",
    "naswot": "naswot",
    "random": "random numbers",
}


def grids(content: Mapping[str, Any]) -> list[Grid]:
    """The tables for the content of exploration.json."""
    found = [_finals(content)]
    if content["candidates"]:
        found.append(_candidates(content["candidates"]))
    if content["ranking"]["tau"]:
        found.append(_ranking(content["ranking"]))
    if content["samplers"]:
        found.append(_samplers(content["samplers"]))
    if content["winner"]:
        found.append(architecture(content["winner"]))
    return found


def architecture(winner: Mapping[str, Any]) -> Grid:
    """The modules of a network and their channels, in the form of Table 1 of arXiv 1903.07209.

    Args:
        winner: `network`, its short name, and `spec`, as returned by `spec_to_dict`.
    """
    spec = winner["spec"]
    rows = [("stem", "7×7, stride 2; pool", f"{spec['stem']}")]
    for stage, modules in spec.items():
        for number, module in enumerate(modules if stage != "stem" else (), start=1):
            numbers = ", ".join(f"{k} {v}" for k, v in module.items() if k != "kind")
            stride = ", stride 2" if number == 1 and stage != "res2" else ""
            rows.append((f"{stage}.{number}", f"{module['kind']}{stride}", numbers))
    return Grid(f"The network found, {winner['network']}", ("module", "kind", "channels"), (*rows,))


def _finals(content: Mapping[str, Any]) -> Grid:
    rows = []
    prototype = content["prototype"] | {"network": "prototype (nearest)"}
    for one in (prototype, *content["finals"]):
        val = "" if one["val"] is None else f"{one['val']:.1f}"
        rows.append(
            (
                one["network"],
                f"{one['u']:.2f}",
                f"{one['top1']:.1f}",
                val,
                f"{one['parameters'] / 1e6:.3f}",
                f"{one['macs'] / 1e6:.2f}",
                "yes" if one["satisfies"] else "no",
            )
        )
    header = ("network", "U", "top-1\n(%)", "on val\n(%)", "param.\n(M)", "MACs\n(M)", "1_r")
    return Grid("Trained alone to the end", header, tuple(rows))


def _candidates(candidates: Sequence[Mapping[str, Any]]) -> Grid:
    rows = tuple(
        (
            one["network"],
            f"{one['supernet']:.1f}",
            f"{one['top1']:.1f}",
            str(one["epochs"]),
            "broken off" if one["pruned"] else "whole",
        )
        for one in candidates
    )
    header = ("network", "supernet's\ntop-1 (%)", "top-1\nalone (%)", "epochs", "training")
    return Grid("The best by the supernet, trained alone for a short time", header, rows)


def _ranking(ranking: Mapping[str, Any]) -> Grid:
    taus = sorted(ranking["tau"].items(), key=lambda item: -item[1])
    rows = tuple((_RANKERS[name], f"{value:+.2f}") for name, value in taus)
    title = (
        f"Kendall's τ with top-1 of {len(ranking['networks'])} networks of G_0, trained alone for "
        f"{ranking['epochs']} epochs"
    )
    return Grid(title, ("ranked by", "τ"), rows)


def _samplers(samplers: Sequence[Mapping[str, Any]]) -> Grid:
    """A row for each search, then the means over the seeds of each engine that has several.

    Searches whose final trainings are not all done do not count in a mean. One that found nothing
    has no U, so that the row says of how many searches the mean is.
    """
    engines: dict[str, list[tuple[float, float] | None]] = {}
    rows = []
    for one in samplers:
        estimated = one["curve"][-1][1] if one["curve"] else None
        trained = one["final"]
        figures = ("" if u is None else f"{u:.2f}" for u in (estimated, trained))
        rows.append((one["name"], str(one["asked"]), str(one["satisfying"]), *figures))
        if one["is_over"]:
            both = None if estimated is None or trained is None else (estimated, trained)
            engines.setdefault(one["name"].partition("-")[0], []).append(both)
    for name, searches in engines.items():
        found = [both for both in searches if both]
        if len(searches) > 1 and found:
            means = (f"{mean(us):.2f}" for us in zip(*found, strict=True))
            rows.append((f"{name}, mean of {len(found)} of {len(searches)}", "", "", *means))
    header = ("engine-seed", "asked for", "meeting\nall", "best U,\nestimated", "best U,\ntrained")
    return Grid("Engines with the same budget", header, tuple(rows))
