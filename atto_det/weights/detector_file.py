"""Detector files: a checkpoint's model, config and class names as `.safetensors`, in 16 bits.

Metadata:

    format      "atto_det detector 1"
    config      YAML text
    class_names, versions       JSON
    command     that started the training
    licence     says that the data's terms apply
    sha256      checksum of all of this and the tensors, verified on reading

It has half the size of a checkpoint and can be used wherever a checkpoint can
(`checkpoint.load_checkpoint`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from atto_det.bounded_yaml import parse_yaml
from atto_det.errors import UserError
from atto_det.weights.tensor_file import (
    LICENCE,
    check_format,
    check_sum,
    in_16_bits,
    in_32_bits,
    on_the_cpu,
    read_format,
    read_tensors,
    tensor_sum,
    write_tensors,
)

FORMAT = 1
_KIND = "atto_det detector"


def holds_detector(path: str | Path) -> bool:
    """Whether this is a detector file, intact or damaged."""
    return str(path).endswith(".safetensors") and read_format(path).startswith(_KIND)


def write_detector(path: str | Path, content: dict[str, Any]) -> str:
    """Write the model of a checkpoint, with its config and classes; returns the `sha256`.

    Args:
        content: of the checkpoint, with a checked "atto_det" part.

    Raises:
        UserError: the file cannot be written, or a weight is too large for 16 bits.
    """
    part, state = content["atto_det"], in_16_bits(on_the_cpu(content["model"]), path)
    data = ", ".join(trained_on(part["config"])) or "unknown data"
    metadata = {
        "format": f"{_KIND} {FORMAT}",
        "config": part["config"],
        "class_names": json.dumps(part["class_names"]),
        "versions": json.dumps(part.get("versions", {})),
        "command": part.get("command", ""),
        "licence": LICENCE.format(data),
    }
    metadata["sha256"] = tensor_sum(state, metadata)
    write_tensors(path, state, metadata)
    return metadata["sha256"]


def read_detector(path: str | Path) -> dict[str, Any]:
    """What a checkpoint would hold: "model" in 32 bits, and "atto_det".

    Raises:
        UserError: no such file, or a damaged, modified, foreign or newer one.
    """
    state, metadata = read_tensors(path, "detector file")
    kind, _, number = metadata.get("format", "").rpartition(" ")
    if kind != _KIND or not number.isdecimal() or len(number) > 9:
        raise UserError(
            f"{path} holds no detector: a training starts from a backbone by MODEL.WEIGHTS; where "
            "a classifier is wanted, give the .ckpt of its pretraining"
        )
    check_format(int(number), FORMAT, path)
    check_sum(state, metadata, path)
    try:
        part = {key: metadata[key] for key in ("config", "command")}
        part |= {key: json.loads(metadata[key]) for key in ("class_names", "versions")}
    except (KeyError, ValueError) as error:
        raise UserError(f"{path} lacks a part of its description: it was modified") from error
    return {"model": in_32_bits(state), "atto_det": part | {"format": 1}}


def trained_on(config: str) -> list[str]:
    """The training sets that a checkpoint's config names."""
    data = parse_yaml(config, "the config in the checkpoint").get("DATASETS", {})
    return list(data.get("TRAIN", ()))


def parameter_count(state: Mapping[str, Tensor]) -> int:
    """The number of trained values: of all tensors except the statistics and counters of norms."""
    kept = ("running_mean", "running_var", "num_batches_tracked")
    return sum(value.numel() for key, value in state.items() if not key.endswith(kept))
