"""The settings of a search for a detector: the keys of its YAML file, checked."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import inf
from pathlib import Path

from atto_det.config import load_yaml
from atto_det.errors import UserError, shown
from atto_det.exploration.settings import check_seed, read_section

SAMPLERS = ("random", "tpe", "nsga2")


@dataclass(frozen=True)
class DetectorRequirements:
    """What is asked of a detector; None asks for nothing.

    Attributes:
        ap: at least, in percent, of the pictures held out: AP_m, or AP_d without masks.
        parameters: at most.
        macs: multiply-adds of one picture, at most.
        milliseconds: of one picture in ONNX Runtime in 8 bits on this machine, at most; masks
            pasted.
    """

    ap: float | None = None
    parameters: int | None = None
    macs: int | None = None
    milliseconds: float | None = None

    def excess(self, figures: Mapping[str, float | None]) -> dict[str, float]:
        """By how much each requirement on known figures is missed, as a share of it.

        All requirements hold where no value is above 0.
        """
        result = {}
        for name, limit in asdict(self).items():
            value = figures.get(name)
            if limit is not None and value is not None:
                result[name] = 1 - value / limit if name == "ap" else value / limit - 1
        return result


@dataclass(frozen=True)
class DetectorSearch:
    """How detectors are searched for.

    sampler: Optuna's "random", "tpe" or "nsga2".
    trials: the number of detectors asked for.
    startup: so many are drawn at random before TPE models them; a generation of NSGA-II.
    """

    sampler: str = "tpe"
    trials: int = 24
    startup: int = 8


@dataclass(frozen=True)
class DetectorSettings:
    """All settings of a search for a detector.

    Attributes:
        seed: of all trainings. The search has a seed of its own.
        detector: the experiment file that all detectors start from.
        options: config keys that all of them share, such as SOLVER.MAX_ITER.
        space: config keys, each with the values that are tried, as text.
    """

    seed: int
    detector: str
    options: dict[str, str]
    requirements: DetectorRequirements
    search: DetectorSearch
    space: dict[str, tuple[str, ...]]


def read_detector_settings(path: str | Path) -> DetectorSettings:
    """Read the settings from a YAML file, or from one that comes with the package.

    Raises:
        UserError: a key is missing, unknown, of the wrong type or out of range.
    """
    content, where = load_yaml(path), str(path)
    known = [field.name for field in fields(DetectorSettings)]
    for key in known:
        if key not in content:
            raise UserError(f"{where} lacks {key}: a search has {', '.join(known)}")
    for key in content:
        if key not in known:
            raise UserError(f"{where} has an unknown key {shown(key)}: give {', '.join(known)}")
    check_seed(content["seed"], f"{where}: seed")
    if not isinstance(content["detector"], str):
        raise UserError(f"{where}: detector must be an experiment file")
    for key in ("options", "requirements", "space"):
        if not isinstance(content[key], Mapping):
            raise UserError(f"{where}: {key} must hold keys and values")
    for key, values in content["space"].items():
        if not isinstance(values, list) or len(set(map(str, values))) < len(values) or not values:
            raise UserError(f"{where}: space.{key} must be a list of different values")
        if key in content["options"]:
            raise UserError(f"{where}: {key} is both in options and in space; remove one")
    if all(len(values) == 1 for values in content["space"].values()):
        raise UserError(f"{where}: space has only one detector: give a key several values")
    search = read_section(DetectorSearch, content["search"], f"{where}: search")
    if search.sampler not in SAMPLERS:
        raise UserError(
            f"{where}: search.sampler is {search.sampler!r}: choose one of {', '.join(SAMPLERS)}"
        )
    wanted = content["requirements"]
    names = [field.name for field in fields(DetectorRequirements)]
    for key, value in wanted.items():
        if key not in names:
            raise UserError(f"{where}: requirements.{shown(key)} is unknown: {', '.join(names)}")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and 0 < value < inf):
            raise UserError(f"{where}: requirements.{key} must be a number above 0, or null")
    return DetectorSettings(
        seed=content["seed"],
        detector=content["detector"],
        options={str(key): str(value) for key, value in content["options"].items()},
        requirements=DetectorRequirements(**wanted),
        search=search,
        space={str(key): tuple(map(str, values)) for key, values in content["space"].items()},
    )
