"""The settings of an exploration: the keys of its YAML file, checked."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from atto_det.config import load_yaml
from atto_det.config.ranges import whole
from atto_det.design.requirements import PERFORMANCES, Requirements
from atto_det.design.space import Space
from atto_det.errors import UserError, shown


@dataclass(frozen=True)
class SupernetSettings:
    """How the shared weights are trained.

    epochs: length of the training.
    learning_rate: replaces the recipe's.
    between: random networks in each step, in addition to the largest and the smallest.
    """

    epochs: int = 30
    learning_rate: float = 0.2
    between: int = 2


@dataclass(frozen=True)
class SearchSettings:
    """How networks are searched for and scored by the supernet.

    sampler: "generator", or Optuna's "random", "tpe" or "nsga2".
    rounds, population: rounds × population networks are scored.
    pictures: at most this many pictures are used to score a network.
    seeds: the U of a generator is the mean over the networks it draws with seeds 0 … seeds − 1.
    """

    sampler: str = "generator"
    rounds: int = 8
    population: int = 32
    pictures: int = 2000
    seeds: int = 8


@dataclass(frozen=True)
class AloneSettings:
    """Which networks are trained on their own, and for how long.

    epochs: length of a short training.
    candidates: the number of networks, best by the supernet first, that get a short training.
        Successive halving stops the worse ones after half of the epochs, a quarter, ….
    ranking: networks drawn from G_0 that get a complete short training, which measures how well
        the supernet ranks.
    finals: the number of candidates, best first, that get the final training.
    final_epochs: length of the final training, and of the prototype's.
    """

    epochs: int = 4
    candidates: int = 8
    ranking: int = 20
    finals: int = 2
    final_epochs: int = 12

    @property
    def rungs(self) -> list[int]:
        """The epochs of a short training after which it goes on for the better half alone."""
        found = [self.epochs]
        while found[0] > 1:
            found.insert(0, found[0] // 2)
        return found


@dataclass(frozen=True)
class Settings:
    """All settings of an exploration.

    Attributes:
        data: arguments of `atto_det.pretraining.data.ClassifierData`.
        seed: of the split of the data, and of all trainings. The search has a seed of its own.
        prototype: name or file of the network that G_0 is centred on.
        performance: name of U, one of `PERFORMANCES`.
        recipe: arguments of `atto_det.pretraining.module.Classifier`, used in every training.
    """

    seed: int
    data: dict[str, Any]
    prototype: str
    performance: str
    requirements: Requirements
    recipe: dict[str, Any]
    supernet: SupernetSettings
    search: SearchSettings
    alone: AloneSettings
    space: Space

    def definition(self) -> dict[str, Any]:
        """What determines the networks and their figures; equal for all searches that compare."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("requirements", "supernet", "search", "alone"):
            found[name] = asdict(found[name])
        del found["search"]["sampler"]
        return found | {"space": self.space.to_dict()}


def read_settings(path: str | Path) -> Settings:
    """Read the settings from a YAML file, or from one that comes with the package.

    Raises:
        UserError: a key is missing, unknown, of the wrong type or out of range.
    """
    from atto_det.pretraining.data import ClassifierData
    from atto_det.pretraining.module import Classifier

    content, where = load_yaml(path), str(path)
    known = [field.name for field in fields(Settings)]
    unknown = [key for key in content if key not in known]
    missing = [key for key in known if key not in content]
    if unknown or missing:
        wrong = f"lacks {missing[0]}" if missing else f"has an unknown key {shown(unknown[0])}"
        raise UserError(f"{where} {wrong}: an exploration has {', '.join(known)}")
    if not isinstance(content["prototype"], str):
        raise UserError(f"{where}: prototype must be the name or the file of a network")
    if (given := content["performance"]) not in [*PERFORMANCES]:
        names = ", ".join(PERFORMANCES)
        raise UserError(f"{where}: performance is {shown(given)}: choose {names}")
    check_seed(content["seed"], f"{where}: seed")
    own = {"seed", "teacher", "teacher_weights", "teacher_size"}
    data = _arguments(ClassifierData, content["data"], f"{where}: data", own | {"answers", "crops"})
    if not data.get("hold_out"):
        raise UserError(f"{where}: data.hold_out is missing: the share of pictures to score on")
    own |= {"network", "class_names", "temperature", "hard_share"}
    return Settings(
        seed=content["seed"],
        data=data,
        prototype=content["prototype"],
        performance=given,
        requirements=Requirements.from_dict(content["requirements"], where),
        recipe=_arguments(Classifier, content["recipe"], f"{where}: recipe", own),
        supernet=read_section(SupernetSettings, content["supernet"], f"{where}: supernet"),
        search=read_section(SearchSettings, content["search"], f"{where}: search"),
        alone=read_section(AloneSettings, content["alone"], f"{where}: alone"),
        space=Space.from_dict(content["space"], where),
    )


def check_seed(value: Any, called: str) -> None:
    """Refuse what torch and numpy do not take as a seed.

    Raises:
        UserError: not a whole number from 0 to 2³² − 1.
    """
    if wrong := whole(0, 2**32 - 1)(value):
        raise UserError(f"{called} is {shown(value)}: {wrong}")


def _arguments(kind: type, content: Any, where: str, skip: set[str]) -> dict[str, Any]:
    """`content` as arguments of a class, checked against the types that it declares."""
    from jsonargparse import ArgumentError, ArgumentParser

    if not isinstance(content, Mapping):
        raise UserError(f"{where} must hold keys and values")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, skip=skip)
    try:
        parser.parse_object(dict(content))
    except ArgumentError as error:
        raise UserError(f"{where}: {shown(error)}") from None
    return dict(content)


def read_section(kind: type, content: Any, where: str) -> Any:
    """A mapping as an instance of a dataclass whose fields are text and numbers above 0.

    Raises:
        UserError: an unknown key, or a value of another type.
    """
    names = {field.name: field for field in fields(kind)}
    if not isinstance(content, Mapping) or not set(content) <= set(names):
        raise UserError(f"{where} is a mapping with keys {', '.join(names)}")
    for name, value in content.items():
        wanted = getattr(names[name].type, "__name__", str(names[name].type))
        number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = {
            "str": isinstance(value, str),
            "int": number and value == int(value) and value >= 1,
            "float": number and value > 0,
        }
        if not fits[wanted]:
            raise UserError(f"{where}.{name} is {shown(value)}: give a {wanted} above 0")
    return kind(**content)
