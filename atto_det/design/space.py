"""The space that is explored: the possible numbers and kinds of modules of a network.

A point of the space is a dict from each dimension's name to one of its choices, all of them plain
values that Optuna can store. `Space.spec` turns it into a network's spec.

| dimension | meaning |
|---|---|
| `stem` | channels of the stem |
| `res3.width` | channels of the stage |
| `res3.2.kind` | kind of its third module: "atto", "bottleneck", "condenser", or "identity" for \
no module; the first module always exists and is not a condenser |
| `res3.2.compress` | channels of the module's first convolution: an AttoNet module's `compress`, \
a condenser's `down` |
| `res3.2.multiplier` | of its depthwise convolution, in AttoNet modules |
| `res3.2.mix` | channels of the third convolution: `mix`, or a condenser's `embed` |

PEPE modules are AttoNet modules with other names (`atto_det.nets.pepe`): "atto" covers both.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atto_det.errors import UserError, shown
from atto_det.nets.backbone import STAGES, BackboneSpec, ModuleSpec
from atto_det.nets.blocks import AttoModuleSpec
from atto_det.nets.bottleneck import BottleneckSpec
from atto_det.nets.condenser import CondenserSpec

Value = int | str
Point = dict[str, Value]

KINDS = ("atto", "bottleneck", "condenser", "identity")
OPENING = ("atto", "bottleneck")
DEPTHS = {"res2": 3, "res3": 4, "res4": 6, "res5": 3}  # of the prototype, arXiv 1903.07209
_GROUPS = CondenserSpec.groups


@dataclass(frozen=True)
class Space:
    """The choices of each dimension.

    Attributes:
        stem: channels of the stem.
        width, compress, mix: by stage, channels.
        multiplier: of depthwise convolutions.
        kinds: of modules that do not open a stage, among `KINDS`.
        opening: of modules that open a stage, among `OPENING`.
        depth: by stage, the maximum number of modules, including identities.

    Raises:
        UserError: a dimension without a choice or with an invalid one, or a space of one point.
    """

    stem: tuple[int, ...]
    width: Mapping[str, tuple[int, ...]]
    compress: Mapping[str, tuple[int, ...]]
    mix: Mapping[str, tuple[int, ...]]
    multiplier: tuple[int, ...] = (1, 2, 4)
    kinds: tuple[str, ...] = ("atto", "identity")
    opening: tuple[str, ...] = ("atto",)
    depth: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        for name, known in (("kinds", KINDS), ("opening", OPENING)):
            wrong = [kind for kind in getattr(self, name) if kind not in known]
            if wrong:
                raise UserError(f"space.{name} has {shown(wrong[0])}: choose among {known}")
        for name in ("width", "compress", "mix"):
            if set(getattr(self, name)) != set(STAGES):
                raise UserError(f"space.{name} needs choices for each of {', '.join(STAGES)}")
        if "condenser" in self.kinds:
            for name in ("compress", "mix"):
                for stage, choices in getattr(self, name).items():
                    odd = [value for value in choices if value % _GROUPS]
                    if odd:
                        raise UserError(
                            f"space.{name}.{stage} has {odd[0]}, but condensers need multiples of "
                            f"{_GROUPS}"
                        )
        for name, choices in self.dimensions.items():
            if not choices or len(set(choices)) < len(choices):
                raise UserError(f"space: {name} needs choices, each once, not {shown(choices)}")
            low = [c for c in choices if not isinstance(c, str) and (type(c) is not int or c < 1)]
            if low:
                raise UserError(f"space: {name} has {shown(low[0])}: give whole numbers from 1")
        if all(len(choices) == 1 for choices in self.dimensions.values()):
            raise UserError("the space has one point: give a dimension more than one choice")

    @property
    def depths(self) -> Mapping[str, int]:
        """The maximum number of modules of each stage."""
        return self.depth or DEPTHS

    @property
    def dimensions(self) -> dict[str, tuple[Value, ...]]:
        """Name of each dimension to its choices, in the order of the network."""
        result: dict[str, tuple[Value, ...]] = {"stem": tuple(self.stem)}
        for stage, index in self._places():
            if index == 0:
                result[f"{stage}.width"] = tuple(self.width[stage])
            kinds = self.opening if index == 0 else self.kinds
            result[f"{stage}.{index}.kind"] = tuple(kinds)
            result[f"{stage}.{index}.compress"] = tuple(self.compress[stage])
            result[f"{stage}.{index}.multiplier"] = tuple(self.multiplier)
            result[f"{stage}.{index}.mix"] = tuple(self.mix[stage])
        return result

    def spec(self, point: Mapping[str, Value]) -> BackboneSpec:
        """The network at a point.

        Raises:
            UserError: a dimension is missing, or a value is not one of its choices.
        """
        for name, choices in self.dimensions.items():
            if point.get(name) not in choices:
                raise UserError(
                    f"{name} is {shown(point.get(name))}, which is not among the space's choices "
                    f"{shown(choices)}"
                )
        stages: dict[str, list[ModuleSpec]] = {stage: [] for stage in STAGES}
        for stage, index in self._places():
            module = _module(point, stage, index)
            if module is not None:
                stages[stage].append(module)
        made = {stage: tuple(modules) for stage, modules in stages.items()}
        return BackboneSpec(stem=_number(point, "stem"), **made)

    def nearest(self, spec: BackboneSpec) -> Point:
        """The point whose choices are closest to the numbers of a spec of AttoNet modules.

        Modules that the spec lacks become identities, if the space allows them.
        """
        point: Point = {"stem": _nearest(self.stem, spec.stem)}
        for stage, index in self._places():
            modules: Sequence[Any] = getattr(spec, stage)
            own = modules[min(index, len(modules) - 1)]
            kinds = self.opening if index == 0 else self.kinds
            there = index < len(modules) or "identity" not in kinds
            point[f"{stage}.width"] = _nearest(self.width[stage], own.out_channels)
            wanted = "atto" if "atto" in kinds else kinds[0]
            point[f"{stage}.{index}.kind"] = wanted if there else "identity"
            for name, choices in (
                ("compress", self.compress[stage]),
                ("multiplier", self.multiplier),
                ("mix", self.mix[stage]),
            ):
                point[f"{stage}.{index}.{name}"] = _nearest(choices, getattr(own, name))
        return {name: point[name] for name in self.dimensions}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML."""
        return {
            "stem": list(self.stem),
            **{
                name: {stage: list(choices) for stage, choices in getattr(self, name).items()}
                for name in ("width", "compress", "mix")
            },
            "multiplier": list(self.multiplier),
            "kinds": list(self.kinds),
            "opening": list(self.opening),
            "depth": dict(self.depths),
        }

    @classmethod
    def from_dict(cls, content: Any, where: str) -> "Space":
        """The space that `to_dict` wrote; `where` names its source in messages.

        Raises:
            UserError: an unknown or missing key, or values of the wrong type.
        """
        required = ("stem", "width", "compress", "mix")
        optional = ("multiplier", "kinds", "opening", "depth")
        if not isinstance(content, Mapping):
            raise UserError(f"{where}: space must be a mapping")
        unknown = [key for key in content if key not in (*required, *optional)]
        missing = [key for key in required if key not in content]
        if unknown or missing:
            wrong = f"lacks {missing[0]}" if missing else f"has an unknown key {shown(unknown[0])}"
            raise UserError(f"{where}: space {wrong}; its keys: {', '.join(required + optional)}")
        values: dict[str, Any] = {}
        for key, value in content.items():
            if key in ("width", "compress", "mix"):
                if not isinstance(value, Mapping) or not all(
                    isinstance(one, list) for one in value.values()
                ):
                    raise UserError(f"{where}: space.{key} must have a list for each stage")
                values[key] = {stage: tuple(choices) for stage, choices in value.items()}
            elif key == "depth":
                numbers = isinstance(value, Mapping) and set(value) == set(STAGES)
                if not numbers or any(type(n) is not int or n < 1 for n in value.values()):
                    raise UserError(f"{where}: space.depth needs a number from 1 for each stage")
                values[key] = dict(value)
            elif isinstance(value, list):
                values[key] = tuple(value)
            else:
                raise UserError(f"{where}: space.{key} must be a list, not {shown(value)}")
        try:
            return cls(**values)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None

    def _places(self) -> Iterator[tuple[str, int]]:
        """Stage and index of each module."""
        for stage in STAGES:
            for index in range(self.depths[stage]):
                yield stage, index


def _module(point: Mapping[str, Value], stage: str, index: int) -> ModuleSpec | None:
    head, width = f"{stage}.{index}", _number(point, f"{stage}.width")
    compress, mix = _number(point, f"{head}.compress"), _number(point, f"{head}.mix")
    kind = point[f"{head}.kind"]
    if kind == "atto":
        return AttoModuleSpec(compress, _number(point, f"{head}.multiplier"), mix, width)
    if kind == "bottleneck":
        return BottleneckSpec(compress, width)
    if kind == "condenser":
        return CondenserSpec(compress, mix, width)
    return None


def _number(point: Mapping[str, Value], name: str) -> int:
    value = point[name]
    assert isinstance(value, int)
    return value


def _nearest(choices: Sequence[int], value: int) -> int:
    return min(choices, key=lambda choice: (abs(choice - value), choice))
