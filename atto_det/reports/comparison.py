"""Trained detectors side by side: the cost and the accuracy of each.

A comparison is a JSON file from which the tables and the plot are made (`comparison_report.py`,
`comparison_plot.py`):

runs        for each training: its name (the config's), seed, run record, config, last evaluation,
            and the cost of each part at `work`
ablation    names: the base, then its variants; all other models are compared with the first run
work        input size, proposals and detections for costs and latencies
latency     the JSON of `atto-det benchmark`, or None
unlike      true if the schedules may differ; each run then has its folder's name, and
            "config_name", and the tables say how each differs from the first

Runs with the same name differ only in their seeds.
"""

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from atto_det.errors import UserError, write_file

SCHEDULE = ("DATASETS", "INPUT", "SOLVER", "TEST")
"""Sections of the configs that must be equal in all runs of a comparison."""

FEW = 3
"""Seeds of a base at which the differences between them say what may be chance."""

CostOf = Callable[[str, str], list[dict[str, Any]]]
"""The cost of each part, from a config's text and a name for it in messages."""


@dataclass(frozen=True)
class Model:
    """The runs of one config.

    Attributes:
        name: of the config.
        seeds: of its runs.
        ap_d, ap_m: of each run, in percent.
        parameters, macs: of one forward pass of the comparison's work.
        seconds: median latency by mode ("eager", "fast", "compile"); empty if not timed.
        coco: for each run, COCO's metrics of masks in percent; empty if they were not computed.
        steps: of its training.
        differences: of its schedule from the first model's, each as "KEY VALUE".
    """

    name: str
    seeds: tuple[int, ...]
    ap_d: tuple[float, ...]
    ap_m: tuple[float, ...]
    parameters: int
    macs: int
    seconds: dict[str, float]
    coco: tuple[dict[str, float | None], ...] = ()
    steps: int = 0
    differences: tuple[str, ...] = ()

    def column(self, key: str) -> float | None:
        """The mean over the seeds of one of `coco`'s metrics; None if a seed has none."""
        values = [coco.get(key) for coco in self.coco]
        return None if not values or None in values else statistics.fmean(values)

    def mean(self, measure: str) -> float:
        """The mean of "ap_d" or "ap_m" over the seeds."""
        return statistics.fmean(getattr(self, measure))

    def spread(self, measure: str) -> float | None:
        """Highest minus lowest "ap_d" or "ap_m" over the seeds; None for fewer than `FEW`."""
        values = getattr(self, measure)
        return max(values) - min(values) if len(values) >= FEW else None


def read_run(folder: Path, cost_of: CostOf, *, by_folder: bool = False) -> dict[str, Any]:
    """The results of `atto-det train` in `folder`, with the cost of the model.

    Args:
        by_folder: name the run after the folder instead of the config.

    Raises:
        UserError: no such run, a run without a final evaluation or without AP of masks, or an error
            of `cost_of`.
    """
    record = _read_json(folder / "run.json")
    text = _read(folder / "config.yaml")
    try:
        config = yaml.safe_load(text)
        name = Path(record["command"][record["command"].index("--config-file") + 1]).stem
        steps, data = config["SOLVER"]["MAX_ITER"], config["DATASETS"]["TEST"][0]
        run = {"name": name, "seed": record["seed"]}
        if by_folder:
            run |= {"name": folder.resolve().name, "config_name": name}
    except (KeyError, IndexError, TypeError, ValueError, yaml.YAMLError):
        raise UserError(
            f"{folder} is not a run of a --config-file with a seed, SOLVER.MAX_ITER and "
            "DATASETS.TEST: give output folders of atto-det train"
        ) from None
    path = folder / "evaluation" / f"{data}_{steps:07d}.json"
    if not path.exists():
        raise UserError(
            f"{folder} has no evaluation at its end, step {steps}, on {data}: let it finish, or "
            "leave it out"
        )
    evaluation = _read_json(path)
    if evaluation.get("AP_m") is None:
        raise UserError(f"{path} has no AP_m (a detector without masks?): leave {folder} out")
    run |= {"evaluation": evaluation, "run": record, "config": text}
    return run | {"costs": cost_of(text, f"the config in {folder}")}


def build(
    runs: list[dict], ablation: Sequence[str], work: dict[str, Any], *, unlike: bool = False
) -> dict[str, Any]:
    """The content of a comparison, without latencies.

    Args:
        unlike: schedules and start may differ. Runs that differ only in the seed get one name.

    Raises:
        UserError: the same seed of a config twice, or runs with different schedule or protocol.
    """
    first = runs[0]
    if unlike:
        names: dict[str, str] = {}
        for run in runs:
            run["name"] = names.setdefault(_but_seed(run), run["name"])
    for index, run in enumerate(runs):
        if any(
            (run["name"], run["seed"]) == (other["name"], other["seed"]) for other in runs[:index]
        ):
            raise UserError(f"{run['name']} with seed {run['seed']} was given twice: leave one out")
        for key, own, other in _unlike(_terms(first), _terms(run)):
            if unlike and not key.startswith("protocol"):
                continue
            raise UserError(
                f"{first['name']} has {key} {own}, {run['name']} has {other}: only runs that "
                "agree in it can be compared"
            )
        if run["name"] == first["name"] and run["costs"] != first["costs"]:
            raise UserError(f"two models have the name {run['name']}: rename the config of one")
    content = {"work": work, "ablation": list(ablation), "runs": runs, "latency": None}
    return content | ({"unlike": True} if unlike else {})


def _but_seed(run: dict[str, Any]) -> str:
    config = yaml.safe_load(run["config"])
    return json.dumps({k: v for k, v in config.items() if k not in ("SEED", "OUTPUT_DIR")})


def _terms(run: dict[str, Any]) -> dict[str, Any]:
    """What must be equal in runs to be compared."""
    config = yaml.safe_load(run["config"])
    terms = {section: config.get(section) for section in SCHEDULE}
    terms["MODEL.WEIGHTS"] = config["MODEL"].get("WEIGHTS")
    protocol = run["evaluation"]["protocol"]
    terms["protocol"] = {k: v for k, v in protocol.items() if k != "images_without_detections"}
    return terms


def _unlike(one: Any, other: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Keys, dotted, at which two nested dicts differ, with both values."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in {**one, **other}:
            yield from _unlike(one.get(name), other.get(name), f"{key}.{name}" if key else name)
    elif one != other:
        yield key, one, other


def add_latency(content: dict[str, Any], path: Path) -> None:
    """Use the figures in a JSON of `atto-det benchmark` for the comparison.

    Raises:
        UserError: the file is missing or another one, or it times none of the models at this work.
    """
    latency = _read_json(path)
    content["latency"] = latency
    try:
        known = latency["date"][:10] + latency["remarks"][0]  # what a report uses of it
        timed = known and any(model.seconds for model in models(content))
    except (KeyError, TypeError):
        raise UserError(
            f"{path} is not a JSON of atto-det benchmark: give its latency.json"
        ) from None
    if not timed:
        work = content["work"]
        names = ", ".join(dict.fromkeys(run["name"] for run in content["runs"]))
        raise UserError(
            f"{path} times none of {names} at {work['input']} with {work['proposals']} proposals "
            f"and {work['detections']} detections: run atto-det benchmark with their configs and "
            "these numbers"
        )


def models(content: dict[str, Any]) -> list[Model]:
    """The models of a comparison, in order of first appearance."""
    work = content["work"]
    seconds: dict[str, dict[str, float]] = {}
    for one in content["latency"]["latencies"] if content["latency"] else ():
        if all(one[key] == value for key, value in work.items()) and one["batch"] == 1:
            seconds.setdefault(one["detector"], {})[one["mode"]] = one["median_s"]
    result = []
    first = _terms(content["runs"][0])
    for name in dict.fromkeys(run["name"] for run in content["runs"]):
        runs = [run for run in content["runs"] if run["name"] == name]
        seeds = tuple(run["seed"] for run in runs)
        aps = (tuple(run["evaluation"][key] for run in runs) for key in ("AP_d", "AP_m"))
        costs = runs[0]["costs"]
        sums = (sum(cost[key] for cost in costs) for key in ("parameters", "macs"))
        times = seconds.get(runs[0].get("config_name", name), {})
        coco = tuple(run["evaluation"].get("coco", {}).get("mask", {}) for run in runs)
        steps = yaml.safe_load(runs[0]["config"])["SOLVER"].get("MAX_ITER", 0)
        unlike = tuple(f"{k} {other}" for k, _, other in _unlike(first, _terms(runs[0])))
        result.append(Model(name, seeds, *aps, *sums, times, coco, steps, unlike))
    return result


def load(path: Path) -> dict[str, Any]:
    """The content of a comparison's JSON.

    Raises:
        UserError: it is missing, damaged, or another JSON.
    """
    content = _read_json(path)
    try:
        models(content)
    except (KeyError, TypeError, IndexError):
        raise UserError(
            f"{path} is not a comparison: write one with --runs and --json, or name another file"
        ) from None
    return content


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a comparison's JSON.

    Raises:
        UserError: it cannot be written.
    """
    write_file(path, json.dumps(content, indent=1) + "\n")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_read(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON ({error}): write it again, or name another") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read: {reason}") from error
