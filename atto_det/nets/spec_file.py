"""A network's spec as plain values, for YAML, checkpoints and metadata, and back.

    stem: 8
    res2:
    - {kind: atto, compress: 8, multiplier: 4, mix: 16, expand: 176}
    - {kind: condenser, down: 24, embed: 12, up: 176}
    …

As one line of JSON, which is also YAML, it can be used wherever a network's name can.

Reading it only creates frozen dataclasses of this package, from numbers, words and lists of words.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from atto_det.bounded_yaml import parse_yaml
from atto_det.errors import UserError, shown
from atto_det.nets.backbone import STAGES, BackboneSpec, ModuleSpec
from atto_det.nets.blocks import AttoModuleSpec
from atto_det.nets.bottleneck import BottleneckSpec
from atto_det.nets.condenser import CondenserSpec
from atto_det.nets.pepe import PEPESpec
from atto_det.nets.squeeze import SqueezeExcitationSpec

SPEC_TYPES: dict[str, type] = {
    "atto": AttoModuleSpec,
    "bottleneck": BottleneckSpec,
    "condenser": CondenserSpec,
    "pepe": PEPESpec,
    "squeeze_excitation": SqueezeExcitationSpec,
}
KEEPING = (CondenserSpec, SqueezeExcitationSpec)  # they keep size and channels: no opening
WIDEST = 16_384  # channels, so that a file cannot make us use up the memory
MOST_MODULES = 64  # per stage


def spec_to_dict(spec: BackboneSpec) -> dict[str, Any]:
    """A spec as numbers, words, lists and dicts, without default values."""
    names = {kind: name for name, kind in SPEC_TYPES.items()}
    stages = {}
    for stage in STAGES:
        stages[stage] = [
            {"kind": names[type(module)], **_given(module)} for module in getattr(spec, stage)
        ]
    return {"stem": spec.stem, **stages}


def spec_to_text(spec: BackboneSpec) -> str:
    """A spec as one line that begins with a brace; equal specs give equal lines."""
    return json.dumps(spec_to_dict(spec))


def spec_from_text(text: str, where: str) -> BackboneSpec:
    """The spec that `spec_to_text` wrote.

    Raises:
        UserError: invalid YAML, or as `spec_from_dict`.
    """
    return spec_from_dict(parse_yaml(text, where), where)


def _given(module: ModuleSpec) -> dict[str, Any]:
    """The fields of a module that differ from their defaults, tuples as lists."""
    result = {}
    for field in dataclasses.fields(module):
        value = getattr(module, field.name)
        if value != field.default:
            result[field.name] = list(value) if isinstance(value, tuple) else value
    return result


def spec_from_dict(content: Any, where: str) -> BackboneSpec:
    """The spec that `spec_to_dict` wrote.

    Args:
        where: the file or key that `content` comes from, for messages.

    Raises:
        UserError: a key that is missing, unknown, of the wrong type or out of range; it names
            stage and module.
    """
    keys = ("stem", *STAGES)
    if not isinstance(content, Mapping) or set(content) != set(keys):
        raise UserError(f"{where}: a network has the keys {', '.join(keys)}, and no others")
    stem = content["stem"]
    if type(stem) is not int or not 1 <= stem <= WIDEST:
        raise UserError(f"{where}: stem is {shown(stem)}: give a whole number, 1 to {WIDEST}")
    stages: dict[str, tuple[ModuleSpec, ...]] = {}
    for stage in STAGES:
        rows = content[stage]
        if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_MODULES:
            raise UserError(f"{where}: {stage} must be a list of 1 to {MOST_MODULES} modules")
        stages[stage] = tuple(
            _module(row, f"{where}: module {number} of {stage}")
            for number, row in enumerate(rows, start=1)
        )
    spec = BackboneSpec(stem=stem, **stages)
    _check_joints(spec, where)
    return spec


def _module(row: Any, where: str) -> ModuleSpec:
    kind = SPEC_TYPES.get(str(row.get("kind"))) if isinstance(row, Mapping) else None
    if kind is None:
        raise UserError(f"{where} must be a mapping with kind: one of {', '.join(SPEC_TYPES)}")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values = {key: value for key, value in row.items() if key != "kind"}
    unknown = [key for key in values if key not in fields]
    missing = [
        name
        for name, field in fields.items()
        if name not in values and field.default is dataclasses.MISSING
    ]
    if unknown or missing:
        wrong = f"no {missing[0]}" if missing else f"an unknown key {shown(unknown[0])}"
        raise UserError(f"{where} has {wrong}: {row['kind']} takes {', '.join(fields)}")
    for name, value in values.items():
        default = fields[name].default
        expected = int if default is dataclasses.MISSING else type(default)
        if expected is tuple:
            words = isinstance(value, list) and all(isinstance(word, str) for word in value)
            if not words:
                raise UserError(f"{where}: {name} must be a list of words")
            values[name] = tuple(value)
        elif type(value) is not expected:
            raise UserError(f"{where}: {name} is {shown(value)}: give a {expected.__name__}")
        elif expected is int and not 1 <= value <= WIDEST:
            raise UserError(f"{where}: {name} is {value}: give 1 to {WIDEST}")
    try:
        return kind(**values)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _check_joints(spec: BackboneSpec, where: str) -> None:
    """Check that all modules of a stage have its channels, and that only some kinds open one."""
    for stage in STAGES:
        first, *others = getattr(spec, stage)
        if isinstance(first, KEEPING):
            kind = next(name for name, kind in SPEC_TYPES.items() if isinstance(first, kind))
            raise UserError(f"{where}: {stage} opens with a {kind}, which keeps its channels")
        for number, module in enumerate(others, start=2):
            if module.out_channels != first.out_channels:
                raise UserError(
                    f"{where}: module {number} of {stage} gives {module.out_channels} channels "
                    f"where its stage has {first.out_channels}"
                )
