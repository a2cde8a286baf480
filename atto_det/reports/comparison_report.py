"""A comparison as tables, on the terminal and in Markdown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atto_det.errors import write_file
from atto_det.evaluation.coco import SIZES
from atto_det.reports.comparison import FEW, Model, models
from atto_det.reports.comparison_plot import plot_comparison
from atto_det.reports.grid import Grid, markdown_grids, print_grids

NONE = "–"


def tables(content: dict[str, Any]) -> list[Grid]:
    """The models compared with the first one; then the variants, if any, with their base."""
    every = models(content)
    if content.get("unlike"):
        return [_unlike(every)]
    ablation = [model for name in content["ablation"] for model in every if model.name == name]
    compared = [model for model in every if model.name not in content["ablation"][1:]]
    grids = [_compared(compared, _modes(every))]
    return grids + ([_ablation(ablation, _modes(every))] if ablation else [])


def _modes(every: Sequence[Model]) -> list[str]:
    return list(dict.fromkeys(mode for model in every for mode in model.seconds))


def _compared(rows: Sequence[Model], modes: Sequence[str]) -> Grid:
    """A ratio is the first model's figure divided by this one's."""
    first = rows[0]
    header = ["model", "AP_d", "AP_m", "params\n(M)", "times\nfewer", "MACs\n(G)", "times\nfewer"]
    for mode in modes:
        header += [f"{mode}\n(ms)", "times\nfaster"]
    against = modes[0] if modes else ""  # eager, which is timed first
    header += [f"{first.name} {against}\nby {mode}" for mode in modes[1:]]
    lines = []
    for model in rows:
        line = [_label(model), f"{model.mean('ap_d'):.1f}", f"{model.mean('ap_m'):.1f}"]
        line += [f"{model.parameters / 1e6:,.2f}", _times(first.parameters, model.parameters)]
        line += [f"{model.macs / 1e9:,.1f}", _times(first.macs, model.macs)]
        for mode in modes:
            own = model.seconds.get(mode)
            line += [f"{1000 * own:,.0f}" if own else NONE, _times(first.seconds.get(mode), own)]
        own = (model.seconds.get(mode) for mode in modes[1:])
        lines.append((*line, *(_times(first.seconds.get(against), seconds) for seconds in own)))
    return Grid(f"Beside {first.name}", tuple(header), tuple(lines))


def _unlike(rows: Sequence[Model]) -> Grid:
    """Trainings with any schedule: the result of each, and its cost."""
    columns = {"AP": "AP@\n[.5:.95]", **{f"AP_{size}": size for size in SIZES}, "AR100": "AR100"}
    known = {
        key: head for key, head in columns.items() if any(m.column(key) is not None for m in rows)
    }
    modes = _modes(rows)
    header = ("training", "steps", "AP_d", "AP_m", *known.values(), "params\n(M)", "MACs\n(G)")
    lines = []
    for model in rows:
        figures = [model.mean("ap_d"), model.mean("ap_m"), *(model.column(key) for key in known)]
        seconds = (model.seconds.get(mode) for mode in modes)
        lines.append(
            (
                *(_label(model), f"{model.steps:,}"),
                *(NONE if figure is None else f"{figure:.1f}" for figure in figures),
                *(f"{model.parameters / 1e6:,.2f}", f"{model.macs / 1e9:,.1f}"),
                *(f"{1000 * own:,.0f}" if own else NONE for own in seconds),
            )
        )
    return Grid("Trainings", (*header, *(f"{mode}\n(ms)" for mode in modes)), tuple(lines))


def _ablation(rows: Sequence[Model], modes: Sequence[str]) -> Grid:
    """Differences from the base, and whether they exceed those between the base's own seeds."""
    base = rows[0]
    header = ["variant", "AP_d", "beyond\nnoise", "AP_m", "beyond\nnoise"]
    header += ["params\n(M)", "MACs\n(G)", *(f"{mode}\n(ms)" for mode in modes)]
    lines = []
    for model in rows:
        line = [_label(model)]
        for measure in ("ap_d", "ap_m"):
            difference, noise = model.mean(measure) - base.mean(measure), base.spread(measure)
            if model is base:
                line += [f"{base.mean(measure):.1f}", NONE if noise is None else f"± {noise:.1f}"]
            else:
                beyond = NONE if noise is None else "yes" if abs(difference) > noise else "no"
                line += [f"{difference:+.1f}", beyond]
        figures = [(model.parameters / 1e6, base.parameters / 1e6, 2)]
        figures += [(model.macs / 1e9, base.macs / 1e9, 1)]
        for mode in modes:
            pair = (model.seconds.get(mode), base.seconds.get(mode))
            figures.append((*(value and 1000 * value for value in pair), 0))
        for own, other, digits in figures:
            if own is None or other is None:
                line.append(NONE)
            elif model is base:
                line.append(f"{own:,.{digits}f}")
            else:
                line.append(f"{own - other:+,.{digits}f}")
        lines.append(tuple(line))
    return Grid(f"Beside {base.name}: differences", tuple(header), tuple(lines))


def _label(model: Model) -> str:
    return model.name + (f" ({len(model.seeds)} seeds)" if len(model.seeds) > 1 else "")


def _times(first: float | None, own: float | None) -> str:
    return f"{first / own:.2f}×" if first and own else NONE


def remarks(content: dict[str, Any]) -> list[str]:
    """How the figures were measured, and what the ablation shows; a sentence or two each."""
    every, work, latency = models(content), content["work"], content["latency"]
    protocol = content["runs"][0]["evaluation"]["protocol"]
    unlike = content.get("unlike", False)
    schedules = "the COCO columns are of masks" if unlike else "one schedule for all"
    result = [
        f"AP_d and AP_m on {protocol['split']} ({protocol['images']} pictures, IoU "
        f"{protocol['threshold']}, {protocol['style']}), of the last step; {schedules}.",
        f"Parameters, multiply-adds and latency at {work['input']}, {work['proposals']} proposals, "
        f"{work['detections']} detections. A ratio is the first model's figure over the model's.",
    ]
    for model in every:
        if len(model.seeds) > 1:
            runs = zip(model.seeds, model.ap_d, model.ap_m, strict=True)
            figures = "; ".join(f"seed {seed}: {d:.1f}, {m:.1f}" for seed, d, m in runs)
            result.append(f"{model.name}, AP_d and AP_m by seed: {figures}. The table has means.")
    if unlike:
        for model in every[1:]:
            result.append(
                f"{model.name} differs from {every[0].name} in "
                f"{', '.join(model.differences) or 'the model alone'}."
            )
    if content["ablation"]:
        result += _verdicts(every, content["ablation"])
    if latency:
        result.append(f"Latency, medians, {latency['date'][:10]}: {latency['remarks'][0]}")
    untimed = [model.name for model in every if not model.seconds]
    return result + ([f"Not timed: {', '.join(untimed)}."] if untimed else [])


def _verdicts(every: Sequence[Model], names: Sequence[str]) -> list[str]:
    known = {model.name: model for model in every}
    base, noise = known[names[0]], known[names[0]].spread("ap_m")
    if noise is None:
        return [
            f"Noise is not known: {base.name} has {len(base.seeds)} of the {FEW} seeds that it "
            "takes to judge, so that a difference of some points may be chance."
        ]
    differences = {name: known[name].mean("ap_m") - base.mean("ap_m") for name in names[1:]}
    groups = {
        "more accurate (AP_m)": [n for n, d in differences.items() if d > noise],
        "less accurate (AP_m)": [n for n, d in differences.items() if d < -noise],
        "within noise (AP_m)": [n for n, d in differences.items() if abs(d) <= noise],
    }
    found = "; ".join(f"{what}: {', '.join(group)}" for what, group in groups.items() if group)
    return [
        f"Noise is the difference between the seeds of {base.name}, {noise:.1f} points of AP_m, a "
        f"crude measure. Beside it, {found}."
    ]


def print_comparison(content: dict[str, Any]) -> None:
    """Tables and remarks, on the terminal."""
    print_grids(tables(content))
    print("\n".join(remarks(content)))


def write_comparison(content: dict[str, Any], output: Path) -> list[Path]:
    """The plot in `output`, the tables as Markdown beside it; returns both paths.

    Raises:
        UserError: a file cannot be written.
    """
    plot_comparison(content, output)
    beside = output.with_suffix(".md")
    title = f"Accuracy and cost on {content['runs'][0]['evaluation']['protocol']['split']}"
    write_file(beside, markdown_grids(title, tables(content), remarks(content)))
    return [output, beside]
