"""The result of an exploration: plain values, and files to look at and to build from."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import kendalltau

from atto_det.design.requirements import PROTOTYPE
from atto_det.design.space import Point, Space
from atto_det.errors import write_file
from atto_det.exploration import studies
from atto_det.exploration.sampler import satisfies
from atto_det.exploration.stages import Exploration
from atto_det.nets.backbone import STAGES
from atto_det.nets.spec_file import spec_to_dict
from atto_det.reports.exploration import grids
from atto_det.reports.exploration_html import page
from atto_det.reports.exploration_plot import plot_exploration
from atto_det.reports.grid import print_grids
from atto_det.weights.checkpoint import run_record

RANKERS = ("supernet", "macs", "parameters", "synflow", "naswot", "random")
FEWEST = 10  # networks; with fewer, no importance is reported


def write_outcome(exploration: Exploration) -> list[Path]:
    """Print the tables, write the files into the search's own folder and return their paths.

    Raises:
        UserError: a file cannot be written.
    """
    content = collect(exploration)
    tables = grids(content)
    print_grids(tables)
    with studies.locked(exploration.output / "locks/outcome"):
        return _write(content, page(content, tables), exploration.results)


def _write(content: dict[str, Any], html: str, output: Path) -> list[Path]:
    paths = sorted(output.glob("generator_*.yaml"))
    texts = {"exploration.json": json.dumps(content, indent=1) + "\n", "exploration.html": html}
    if content["winner"]:
        spec = content["winner"]["spec"]
        texts["found.yaml"] = yaml.safe_dump(spec, sort_keys=False, default_flow_style=None)
    for name, text in texts.items():
        paths.append(output / name)
        write_file(paths[-1], text)
    if not content["winner"]:
        (output / "found.yaml").unlink(missing_ok=True)  # of an earlier report
    paths.append(output / "exploration.png")
    plot_exploration(content, paths[-1])
    return paths


def collect(exploration: Exploration) -> dict[str, Any]:
    """Every network, its figures and where they came from, as plain values."""
    study, settings = exploration.study(), exploration.settings
    generators = study.user_attrs.get("generators", {})
    finals = [_final(exploration, trial) for trial in studies.ranked(exploration.study("final"))]
    held = [one for one in finals if one["satisfies"]]
    winner = max(held, key=lambda one: one["u"], default=None)
    prototype = _prototype(exploration)
    searched = studies.finished(study)
    return {
        "title": f"Exploration of {settings.data['root']}: {exploration.name}",
        "remarks": _remarks(exploration, winner, prototype),
        "run": run_record(seed=exploration.seed, processes=1, device="cpu"),
        "settings": settings.definition(),
        "prototype": prototype,
        "generators": [{"number": int(k)} | figures for k, figures in generators.items()],
        "networks": [_searched(exploration, trial) for trial in searched],
        "candidates": _candidates(exploration),
        "finals": finals,
        "ranking": _ranking(exploration),
        "samplers": _samplers(exploration, study),
        "importance": importance_of(study),
        "winner": winner and {"network": winner["network"], "spec": winner["spec"]},
    }


def _remarks(
    exploration: Exploration, winner: dict[str, Any] | None, prototype: dict[str, Any]
) -> list[str]:
    wanted = vars(exploration.settings.requirements)
    asked = exploration.asked
    texts = [
        f"{name} {value:{',' if isinstance(value, int) else 'g'}}"
        + (" (the prototype's)" if getattr(asked, name) == PROTOTYPE else "")
        for name, value in wanted.items()
        if value is not None and name != "weight_bits"
    ]
    data = exploration.data
    remarks = [
        f"Requirements 1_r: {', '.join(texts) or 'none'}. U is {exploration.settings.performance}. "
        f"{len(data.classes)} classes, {len(data.train.paths):,} pictures train and "
        f"{len(data.val.paths):,} of the training split judge; pictures of {data.image_size} "
        "pixels.",
    ]
    if winner is None:
        remarks.append(
            "No network that was trained to the end meets the requirements: loosen them, train "
            "longer (alone.final_epochs), or search longer (search.rounds)."
        )
    else:
        remarks.append(
            f"Found: {winner['network']}, U {winner['u']:.2f} with top-1 {winner['top1']:.1f} %, "
            f"trained alone; the prototype reaches {prototype['u']:.2f} with "
            f"{prototype['top1']:.1f} % by the same recipe."
        )
    return remarks


def _searched(exploration: Exploration, trial: FrozenTrial) -> dict[str, Any]:
    space = exploration.settings.space
    return {
        "number": trial.number,
        "network": exploration.trainings.called(trial.params),
        "u": trial.value,
        "top1": trial.user_attrs.get("top1"),
        "parameters": trial.user_attrs["parameters"],
        "macs": trial.user_attrs["macs"],
        "satisfies": satisfies(trial),
        "constraints": trial.constraints,
        "traits": _traits(space, trial.params),
        "point": trial.params,
    }


def _candidates(exploration: Exploration) -> list[dict[str, Any]]:
    """The networks with a short training, each with its figures after its last epoch."""
    found = {}
    for rung in exploration.settings.alone.rungs:
        for trial in studies.finished(exploration.study(f"short-{rung}")):
            own = _searched(exploration, trial)
            supernet = exploration.score(trial.params)
            found[own["network"]] = own | {"supernet": supernet, "epochs": rung}
    return list(found.values())


def _traits(space: Space, point: Point) -> dict[str, float]:
    """A network summarised in a few numbers."""
    spec = space.spec(point)
    modules = [module for stage in STAGES for module in getattr(spec, stage)]
    multipliers = [module.multiplier for module in modules if hasattr(module, "multiplier")]
    return {
        "stem": spec.stem,
        **{f"{stage} width": getattr(spec, stage)[0].out_channels for stage in STAGES},
        "modules": len(modules),
        "condensers": sum(not hasattr(module, "multiplier") for module in modules),
        "multiplier": float(np.mean(multipliers)) if multipliers else 0.0,
    }


def _final(exploration: Exploration, trial: FrozenTrial) -> dict[str, Any]:
    found = _searched(exploration, trial)
    spec = exploration.settings.space.spec(trial.params)
    return found | {"val": _val(exploration, found["network"]), "spec": spec_to_dict(spec)}


def _prototype(exploration: Exploration) -> dict[str, Any]:
    """The prototype as represented in the space, trained by the same recipe."""
    point, settings = exploration.prototype, exploration.settings
    cost = exploration.first.cost(point)
    network, top1 = exploration.trainings.called(point), exploration.final
    taken = exploration.milliseconds(point)
    return {
        "network": network,
        "u": studies.finite(exploration.performance(top1, cost)),
        "top1": top1,
        "supernet": exploration.score(point),
        "parameters": cost.parameters,
        "macs": cost.macs,
        "satisfies": settings.requirements.holds(cost, top1=top1, milliseconds=taken),
        "val": _val(exploration, network),
    }


def _val(exploration: Exploration, network: str) -> float | None:
    """Top-1 on the val split."""
    return json.loads(exploration.val_file.read_text()).get(network)


def _ranking(exploration: Exploration) -> dict[str, Any]:
    """Kendall's tau between each training-free ranking and top-1 after training alone."""
    random = np.random.default_rng(exploration.settings.seed)
    rows = [
        {key: trial.user_attrs[key] for key in ("top1", *RANKERS[:-1])}
        | {"network": exploration.trainings.called(trial.params)}
        | {"random": float(random.random())}
        for trial in studies.finished(exploration.study("ranking"))
    ]
    top1 = [row["top1"] for row in rows]
    taus = {name: float(kendalltau([row[name] for row in rows], top1)[0]) for name in RANKERS}
    known = {name: tau for name, tau in taus.items() if np.isfinite(tau)}
    return {"epochs": exploration.settings.alone.epochs, "networks": rows, "tau": known}


def _samplers(exploration: Exploration, study: Study) -> list[dict[str, Any]]:
    """All searches in the storage with this definition, whatever their sampler and seed."""
    storage = study._storage
    definition = exploration.settings.definition()
    found = []
    for name in sorted(optuna.get_all_study_names(storage)):
        if not re.fullmatch(r"(generator|random|tpe|nsga2)-\d+", name):
            continue
        other = optuna.load_study(study_name=name, storage=storage)
        if other.user_attrs.get(studies.DEFINITION) != json.loads(json.dumps(definition)):
            continue
        trials, curve, best = studies.finished(other), [], -np.inf
        good = [satisfies(t) and t.state == TrialState.COMPLETE for t in trials]
        for place, (trial, is_good) in enumerate(zip(trials, good, strict=True), start=1):
            if is_good and trial.value is not None and trial.value > best:
                best = trial.value
            if best > -np.inf:
                curve.append((place, best))
        found.append(
            {
                "name": name,
                "asked": len(trials),
                "satisfying": sum(good),
                "curve": curve,
                **_trained(exploration, storage, name),
            }
        )
    return found


def _trained(exploration: Exploration, storage: Any, name: str) -> dict[str, Any]:
    """The best finally trained network of a search that meets the requirements.

    Returns:
        `final`, its U; `val_top1` and `val_u`, its top-1 and U on the val split; each None if there
        is no such network; and `is_over`, whether all final trainings are done.
    """
    found: dict[str, Any] = {"final": None, "val_top1": None, "val_u": None, "is_over": False}
    if f"{name}-final" not in optuna.get_all_study_names(storage):
        return found
    study = optuna.load_study(study_name=f"{name}-final", storage=storage)
    open_states = (TrialState.WAITING, TrialState.RUNNING)
    left = study.get_trials(deepcopy=False, states=open_states)
    found["is_over"] = bool(study.trials) and not left
    best = next((trial for trial in studies.ranked(study) if satisfies(trial)), None)
    val = exploration.output / name / "val.json"
    if best:
        found["final"] = best.value
        network = exploration.trainings.called(best.params)
        top1 = json.loads(val.read_text()).get(network) if val.exists() else None
        if top1 is not None:
            cost = exploration.first.cost(best.params)
            found |= {"val_top1": top1, "val_u": exploration.performance(top1, cost)}
    return found


def importance_of(study: Study) -> dict[str, float]:
    """The importance of each parameter for the value; empty if there are too few trials."""
    values = [trial.value for trial in studies.finished(study) if trial.value is not None]
    if len(values) < FEWEST or len(set(values)) < 3:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
