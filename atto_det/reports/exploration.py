"""Tables of the results of an exploration."""

import math
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
        found.append(_candidates(content))
    if content["ranking"]["tau"]:
        found.append(_ranking(content["ranking"]))
    if content["generators"]:
        found.append(_generators(content["generators"]))
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


def _candidates(content: Mapping[str, Any]) -> Grid:
    whole = content["settings"]["alone"]["epochs"]
    rows = tuple(
        (
            one["network"],
            f"{one['supernet']:.1f}",
            f"{one['top1']:.1f}",
            f"{one['epochs']} of {whole}",
        )
        for one in content["candidates"]
    )
    header = ("network", "supernet's\ntop-1 (%)", "top-1\nalone (%)", "epochs")
    return Grid("The best by the supernet, trained alone for a short time", header, rows)


def _generators(generators: Sequence[Mapping[str, Any]]) -> Grid:
    rows = tuple(
        (f"G_{one['number']}", f"{one['u']:.2f}", f"{one['satisfying']} of {one['seeds']}")
        for one in generators
    )
    header = ("generator", "U", "seeds\nmeeting all")
    return Grid("Generators, with top-1 as the supernet estimates it", header, rows)


def _ranking(ranking: Mapping[str, Any]) -> Grid:
    taus = sorted(ranking["tau"].items(), key=lambda item: -item[1])
    rows = tuple((_RANKERS[name], f"{value:+.2f}") for name, value in taus)
    n = len(ranking["networks"])
    chance = math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)))  # Kendall 1938: its standard deviation
    title = (
        f"Kendall's τ with top-1 of {n} networks of G_0, trained alone for {ranking['epochs']} "
        f"epochs (by chance: 0 ± {chance:.2f})"
    )
    return Grid(title, ("ranked by", "τ"), rows)


def _samplers(samplers: Sequence[Mapping[str, Any]]) -> Grid:
    """A row for each search, then the means over the seeds of each engine that has several.

    Searches whose final trainings are not all done do not count in a mean. One that found nothing
    has no U, so the row says of how many searches the mean is, and gives the lowest and highest.
    """
    figures = ("estimated", "final", "val_u", "val_top1")
    engines: dict[str, list[Mapping[str, Any]]] = {}
    rows = []
    for one in samplers:
        one = {**one, "estimated": one["curve"][-1][1] if one["curve"] else None}
        values = (one[key] for key in figures)
        texts = ("" if value is None else f"{value:.2f}" for value in values)
        rows.append((one["name"], str(one["asked"]), str(one["satisfying"]), *texts))
        if one["is_over"]:
            engines.setdefault(one["name"].partition("-")[0], []).append(one)
    for name, searches in engines.items():
        found = [one for one in searches if one["final"] is not None]
        if len(searches) > 1:
            means = [_mean([one[key] for one in found]) for key in figures]
            rows.append((f"{name}, mean of {len(found)} of {len(searches)}", "", "", *means))
    header = (
        *("engine-seed", "asked for", "meeting\nall", "best U,\nestimated", "best U,\ntrained"),
        *("its U\non val", "its top-1\non val (%)"),
    )
    return Grid("Engines with the same budget", header, tuple(rows))


def _mean(values: Sequence[float | None]) -> str:
    """The mean, and in brackets the lowest and the highest; empty if one is missing."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return ""
    return f"{mean(known):.2f} ({min(known):.2f} to {max(known):.2f})"
