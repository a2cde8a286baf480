"""What an exploration follows from: the keys of its YAML file, checked."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from atto_det.config import load_yaml
from atto_det.design.requirements import Requirements
from atto_det.design.space import Space
from atto_det.errors import UserError, shown


@dataclass(frozen=True)
class SupernetSettings:
    """The training of the shared weights.

    epochs: of it.
    learning_rate: in place of the recipe's.
    between: random networks of each step, beside the largest and the smallest.
    """

    epochs: int = 30
    learning_rate: float = 0.2
    between: int = 2


@dataclass(frozen=True)
class SearchSettings:
    """What is scored by the supernet.

    sampler: "generator", or Optuna's "random", "tpe" or "nsga2".
    rounds, population: networks scored are so many times so many.
    pictures: that score a network, at most.
    seeds: U of a generator is the mean over its networks of these many seeds, from 0.
    """

    sampler: str = "generator"
    rounds: int = 8
    population: int = 32
    pictures: int = 2000
    seeds: int = 8


@dataclass(frozen=True)
class AloneSettings:
    """What is trained alone.

    epochs: of a short training.
    candidates: the best by the supernet that get a short training, halved as it goes on.
    ranking: networks drawn from G_0 that get a whole short training, to measure how well the
        supernet ranks.
    finals: the best of the candidates that get the final training.
    final_epochs: of it, and of the prototype's.
    """

    epochs: int = 4
    candidates: int = 8
    ranking: int = 20
    finals: int = 2
    final_epochs: int = 12


@dataclass(frozen=True)
class Settings:
    """All of it.

    Attributes:
        data: arguments of `atto_det.pretraining.data.ClassifierData`.
        prototype: name or file of the network that G_0 lies around.
        recipe: arguments of `atto_det.pretraining.module.Classifier`, for all trainings.
    """

    data: dict[str, Any]
    prototype: str
    requirements: Requirements
    recipe: dict[str, Any]
    supernet: SupernetSettings
    search: SearchSettings
    alone: AloneSettings
    space: Space

    def definition(self) -> dict[str, Any]:
        """What networks and their figures mean, as plain values: studies of one agree in it."""
        return {
            "data": self.data,
            "prototype": self.prototype,
            "requirements": asdict(self.requirements),
            "recipe": self.recipe,
            "supernet": asdict(self.supernet),
            "epochs": [self.alone.epochs, self.alone.final_epochs],
            "space": self.space.to_dict(),
        }


def read_settings(path: str | Path) -> Settings:
    """The settings in a YAML file, or in one of those that come with the package.

    Raises:
        UserError: a key that is missing, unknown, of another type or out of its range.
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
    own = {"seed", "teacher", "teacher_weights", "teacher_size"}
    data = _arguments(ClassifierData, content["data"], f"{where}: data", own | {"answers", "crops"})
    if not data.get("hold_out"):
        raise UserError(f"{where}: data.hold_out is missing: the share of pictures that judges")
    own |= {"network", "class_names", "temperature", "hard_share"}
    return Settings(
        data=data,
        prototype=content["prototype"],
        requirements=Requirements.from_dict(content["requirements"], where),
        recipe=_arguments(Classifier, content["recipe"], f"{where}: recipe", own),
        supernet=_section(SupernetSettings, content["supernet"], f"{where}: supernet"),
        search=_section(SearchSettings, content["search"], f"{where}: search"),
        alone=_section(AloneSettings, content["alone"], f"{where}: alone"),
        space=Space.from_dict(content["space"], where),
    )


def _arguments(kind: type, content: Any, where: str, skip: set[str]) -> dict[str, Any]:
    """The arguments of a class, of the types that it takes."""
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


def _section(kind: type, content: Any, where: str) -> Any:
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
