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
class DataSettings:
    """`root` below the data root, `size` in pixels, share of each class that is `judged`."""

    root: str
    size: int = 64
    judged: float = 0.2


@dataclass(frozen=True)
class SupernetSettings:
    """The training of the shared weights."""

    steps: int = 6000
    batch: int = 64
    learning_rate: float = 0.1


@dataclass(frozen=True)
class SearchSettings:
    """Optuna's `sampler`, and how many networks are judged: `rounds` times `population`."""

    sampler: str = "generator"
    rounds: int = 8
    population: int = 32


@dataclass(frozen=True)
class Settings:
    """All of it."""

    data: DataSettings
    prototype: str
    requirements: Requirements
    supernet: SupernetSettings
    search: SearchSettings
    space: Space

    def definition(self) -> dict[str, Any]:
        """What networks and their scores mean, as plain values: studies of one agree in it."""
        return {
            "data": asdict(self.data),
            "requirements": asdict(self.requirements),
            "supernet": asdict(self.supernet),
            "space": self.space.to_dict(),
        }


def read_settings(path: str | Path) -> Settings:
    """The settings in a YAML file, or in one of those that come with the package.

    Raises:
        UserError: a key that is missing, unknown, of another type or out of its range.
    """
    content, where = load_yaml(path), str(path)
    known = [field.name for field in fields(Settings)]
    unknown = [key for key in content if key not in known]
    missing = [key for key in known if key not in content]
    if unknown or missing:
        wrong = f"lacks {missing[0]}" if missing else f"has an unknown key {shown(unknown[0])}"
        raise UserError(f"{where} {wrong}: an exploration has {', '.join(known)}")
    if not isinstance(content["prototype"], str):
        raise UserError(f"{where}: prototype must be a network's name")
    return Settings(
        data=_section(DataSettings, content["data"], f"{where}: data"),
        prototype=content["prototype"],
        requirements=Requirements.from_dict(content["requirements"], where),
        supernet=_section(SupernetSettings, content["supernet"], f"{where}: supernet"),
        search=_section(SearchSettings, content["search"], f"{where}: search"),
        space=Space.from_dict(content["space"], where),
    )


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
    try:
        made = kind(**content)
    except TypeError as error:
        raise UserError(f"{where}: {error}") from None
    if getattr(made, "judged", 0.5) >= 1:
        raise UserError(f"{where}.judged is {made.judged}: a share below 1")
    return made
