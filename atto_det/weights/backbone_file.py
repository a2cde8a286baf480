"""Weights of trained classifiers, and the backbone files that detectors start from.

A backbone file (`.safetensors`) holds every tensor of a network except the classifier's head, with
the network's names, and in its metadata a `Description` (numbers and lists as JSON), `format`,
`licence` and `sha256`, the checksum of metadata and tensors, which is verified on reading.

Format 2 is for 8-bit weights: those of convolutions and dense layers are int8 tensors, and each
`…weight` has a `…weight_scale`, the step of each output channel's grid
(`atto_det.nets.quantisation`). They are read as floats on these grids.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from atto_det.errors import UserError
from atto_det.nets import create_classifier
from atto_det.nets.normalisation import ORDERS, Normalisation, absorb, is_colour
from atto_det.nets.quantisation import dequantise, fake_quantise, quantise
from atto_det.nets.registry import is_backbone, short_name
from atto_det.weights.checkpoint import load_checkpoint, save_checkpoint
from atto_det.weights.tensor_file import (
    LICENCE,
    check_finite,
    check_format,
    check_sum,
    in_16_bits,
    in_32_bits,
    on_the_cpu,
    read_tensors,
    tensor_sum,
    write_tensors,
)

FORMAT = 1
FORMAT_8_BITS = 2
TRAINING_PART = "atto_det_pretraining"  # where a pretraining checkpoint describes itself
STEM = "stem.conv.conv.weight"  # of every backbone; its input is the normalised picture
HEADS = ("fc", "classifier")  # the names of the networks' classifier layers
PART = "atto_det_backbone"  # where a `.pth` for Detectron2 stores the metadata
_KIND = "atto_det backbone"
_SCALE = "_scale"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """A description of trained weights.

    Attributes:
        network: its name, "attonet_a" …, or its spec as text.
        class_names: the classifier's classes.
        mean, std: of pictures scaled to 0..1, in the order `channel_order`, "RGB" or "BGR".
        input_size: side, in pixels, of the training pictures.
        weight_bits: 8 if the weights lie on an 8-bit grid, else None.
        recipe: YAML text of the training.
        data: root, and the number of pictures in train and val, 0 if it is not known.
        top1: percent on val, or None if it was not measured.
        epoch: epochs trained.
        versions: of the software that the training used.
        command: that started it.
    """

    network: str
    class_names: list[str]
    mean: list[float]
    std: list[float]
    channel_order: str
    input_size: int
    weight_bits: int | None
    recipe: str
    data: dict[str, Any]
    top1: float | None
    epoch: int
    versions: dict[str, str]
    command: str

    @property
    def normalisation(self) -> Normalisation:
        """The normalisation of the pictures in its training."""
        return Normalisation.of_unit_range(self.mean, self.std, self.channel_order)

    def __str__(self) -> str:
        top1 = "unknown top-1"
        if self.top1 is not None:
            top1 = f"top-1 {self.top1:.1f} %"
            top1 += f" on {self.data['val']} pictures" if self.data["val"] else ""
        bits = f" ({self.weight_bits}-bit weights)" if self.weight_bits else ""
        pictures = f"{self.data['train']} pictures of " if self.data["train"] else ""
        return (
            f"{short_name(self.network)}{bits}, {top1}, trained on {pictures}{self.data['root']} "
            f"({len(self.class_names)} classes, {self.input_size} pixels)"
        )


class Weights(NamedTuple):
    """Tensors by name, and their description."""

    state: dict[str, Tensor]
    description: Description


def _is_sound(name: str, value: Any) -> bool:
    """Whether a value is valid for the field `name` of a `Description`."""
    match name:
        case "network":
            return _is_text(value) and bool(value)
        case "class_names":
            return isinstance(value, list) and bool(value) and all(map(_is_text, value))
        case "mean":
            return is_colour(value) and all(0 <= number <= 1 for number in value)
        case "std":
            return is_colour(value) and all(0 < number <= 1 for number in value)
        case "channel_order":
            return value in ORDERS
        case "input_size":
            return _is_count(value) and value > 0
        case "weight_bits":
            return value is None or (_is_count(value) and value > 0)
        case "data":
            sound = isinstance(value, dict) and _is_text(value.get("root"))
            return sound and all(_is_count(value.get(split)) for split in ("train", "val"))
        case "top1":
            return value is None or (type(value) in (int, float) and 0 <= value <= 100)
        case "epoch":
            return _is_count(value)
        case "versions":
            return isinstance(value, dict) and all(map(_is_text, (*value, *value.values())))
        case _:
            return _is_text(value)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_FIELDS = tuple(field.name for field in dataclasses.fields(Description))
_TEXTS = ("network", "channel_order", "recipe", "command")  # the other values are JSON


def _describe(values: Mapping[str, Any], where: str) -> Description:
    """The checked description in `values`; further keys are ignored."""
    for name in _FIELDS:
        if name not in values or not _is_sound(name, values[name]):
            raise UserError(f"{where} has no valid {name} in its description: it was modified")
    return Description(**{name: values[name] for name in _FIELDS})


def read_pretraining(path: str | Path, content: dict[str, Any] | None = None) -> Weights:
    """The network in a pretraining checkpoint (`.ckpt`), including the head.

    Weights of an 8-bit training are returned rounded, as they were validated.

    Args:
        content: of the checkpoint, if it has already been read.

    Raises:
        UserError: no such file; a damaged, unsafe, foreign or newer one; or tensors that are not
            the network's, or not finite.
    """
    content = load_checkpoint(path) if content is None else content
    part = content.get(TRAINING_PART)
    if not isinstance(part, dict) or type(part.get("format")) is not int:
        raise UserError(
            f"checkpoint {path} is not one of atto_det's classifier training (atto-det export "
            "--network takes those of other programs)"
        )
    check_format(part["format"], FORMAT, path)
    description = _describe(part, f"checkpoint {path}")
    tensors = content.get("state_dict")
    state = {
        key.removeprefix("net."): value
        for key, value in (tensors.items() if isinstance(tensors, dict) else ())
        if str(key).startswith("net.")
    }
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"checkpoint {path} holds no weights of a network")
    if is_backbone(description.network):
        with torch.device("meta"):
            net = create_classifier(description.network, len(description.class_names))
        wrong = misfits(net.state_dict(), state)
        if wrong:
            raise UserError(
                f"checkpoint {path} is not a whole {short_name(description.network)}: {wrong}"
            )
    if description.weight_bits:  # the checkpoint has the weights before rounding
        state = rounded(state)
    return Weights(state, description)


def misfits(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """How the names and shapes of `given` differ from those in `expected`, in words; or ""."""
    groups = {
        "missing": expected.keys() - given.keys(),
        "left over": given.keys() - expected.keys(),
        "of another shape": {
            key for key in expected.keys() & given.keys() if expected[key].shape != given[key].shape
        },
    }
    parts = []
    for problem, names in groups.items():
        if names:
            first = ", ".join(sorted(names)[:3])
            more = ", …" if len(names) > 3 else ""
            tensors = "tensor is" if len(names) == 1 else "tensors are"
            parts.append(f"{len(names)} {tensors} {problem} ({first}{more})")
    return "; ".join(parts)


def without_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a network without its classifier's."""
    return {key: value for key, value in state.items() if key.partition(".")[0] not in HEADS}


def write_backbone(
    path: str | Path,
    state: Mapping[str, Tensor],
    description: Description,
    *,
    bits: Literal[8, 16, 32] = 32,
) -> str:
    """Write a backbone file, and return its `sha256`. A head in `state` is left out.

    Args:
        bits: per stored weight of convolutions and dense layers; norms always have 32. With 8 bits,
            weights are rounded to one grid per output channel; the description then says so, and
            its `top1` should be that of the rounded weights.

    Raises:
        UserError: the file cannot be written, or a weight is too large for 16 bits.
    """
    state = on_the_cpu(without_head(state))
    if bits == 16:
        state = in_16_bits(state, path)
    elif bits == 8:
        state = _in_8_bits(state)
        description = dataclasses.replace(description, weight_bits=8)
    metadata = _metadata(state, description, FORMAT_8_BITS if bits == 8 else FORMAT)
    write_tensors(path, state, metadata)
    return metadata["sha256"]


def rounded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the weights of convolutions and dense layers rounded to their 8-bit grids."""
    # These are the tensors with more than one dimension.
    return {k: fake_quantise(v) if v.ndim > 1 else v for k, v in state.items()}


def _in_8_bits(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    result = {}
    for key, value in state.items():
        if value.ndim > 1:
            result[key], result[key + _SCALE] = quantise(value)
        else:
            result[key] = value
    return result


def as_floats(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a backbone file in single precision, whatever the bits of its weights."""
    result = {}
    for key, value in state.items():
        if key + _SCALE in state:
            result[key] = dequantise(value, state[key + _SCALE])
        elif not key.endswith(_SCALE):
            result[key] = value
    return in_32_bits(result)


def read_backbone(path: str | Path) -> Weights:
    """The backbone and its description in a file of `write_backbone`.

    Raises:
        UserError: no such file, or a damaged, modified, foreign or newer one.
    """
    state, metadata = read_tensors(path, "backbone file")
    return check_backbone(state, metadata, path)


def check_backbone(state: dict[str, Tensor], metadata: Any, path: str | Path) -> Weights:
    """Check a backbone that was read from `path` against its `metadata`.

    Raises:
        UserError: foreign or newer metadata, or tensors that do not match the description.
    """
    texts = isinstance(metadata, dict) and all(map(_is_text, (*metadata, *metadata.values())))
    kind, _, number = metadata.get("format", "").rpartition(" ") if texts else ("", "", "")
    if kind != _KIND or not number.isdecimal() or len(number) > 9:
        raise UserError(f"{path} is not a backbone file of atto_det: make one with atto-det export")
    check_format(int(number), FORMAT_8_BITS, path)
    check_sum(state, metadata, path)
    try:
        values = {k: metadata[k] if k in _TEXTS else json.loads(metadata[k]) for k in _FIELDS}
    except (KeyError, ValueError):
        values = {}
    state = as_floats(state)
    check_finite(state, path)
    return Weights(state, _describe(values, str(path)))


def write_detectron2(
    path: str | Path, state: Mapping[str, Tensor], description: Description, target: Normalisation
) -> str:
    """Write a backbone as `.pth` for Detectron2's checkpointer; returns its `sha256`.

    The stem is converted for pictures normalised as `target`
    (`atto_det.nets.normalisation.absorb`). With `matching_heuristics`, Detectron2 finds where the
    names belong in a detector.

    Raises:
        UserError: a mean that cannot be absorbed, or the file cannot be written.
    """
    state = without_head(state)
    state[STEM] = absorb(state[STEM], description.normalisation, target)
    mean, std = ([value / 255 for value in colour] for colour in (target.mean, target.std))
    description = dataclasses.replace(
        description, mean=mean, std=std, channel_order=target.channel_order
    )
    metadata = _metadata(state, description)
    save_checkpoint(path, {"model": state, "matching_heuristics": True, PART: metadata})
    return metadata["sha256"]


def _metadata(
    state: Mapping[str, Tensor], description: Description, number: int = FORMAT
) -> dict[str, str]:
    values = dataclasses.asdict(description)
    metadata = {k: v if k in _TEXTS else json.dumps(v) for k, v in values.items()}
    metadata["format"] = f"{_KIND} {number}"
    metadata["licence"] = LICENCE.format(description.data["root"])
    metadata["sha256"] = tensor_sum(state, metadata)
    return metadata
