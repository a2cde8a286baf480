"""Tensors and texts in a safetensors file, with a checksum of both."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atto_det.errors import UserError, write_file

LICENCE = (
    "Weights trained by atto_det on {}; the terms of that data apply to the use of the weights."
)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_tensors(path: str | Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, in the file's order, and metadata, unverified; errors call the file `what`.

    Raises:
        UserError: no such file, or a damaged one.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise UserError(f"{what} {path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            return load_file(path), file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a safetensors file, or a damaged one ({error})") from error


def read_format(path: str | Path) -> str:
    """The entry "format" of a file's metadata; "" if there is none, or no such file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format", "")
    except (SafetensorError, OSError):
        return ""


def write_tensors(path: str | Path, state: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a file, completely or not at all.

    Raises:
        UserError: it cannot be written.
    """
    from safetensors.torch import save

    write_file(path, save(dict(state), metadata))


def on_the_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies in the form that a file needs."""
    return {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in state.items()
    }


def in_16_bits(state: Mapping[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """Weights of convolutions and dense layers in 16 bits; norms and biases unchanged.

    Raises:
        UserError: a weight is too large for 16 bits.
    """
    state = {k: v.half() if v.ndim > 1 else v for k, v in state.items()}
    check_finite(state, path)
    return state


def in_32_bits(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in 32 bits for computing: the reverse of `in_16_bits`."""
    return {k: v.float() if v.dtype == torch.float16 else v for k, v in state.items()}


def check_finite(weights: Mapping[str, Any], path: str | Path) -> None:
    """Refuse the weights of a diverged training.

    Raises:
        UserError: a tensor holds NaN or infinity; it names the first.
    """
    for name, value in weights.items():
        plain = isinstance(value, Tensor) and value.dtype in _FLOATS
        plain = plain and value.layout == torch.strided and not value.is_meta
        if plain and not torch.isfinite(value).all():
            raise UserError(
                f"{path} holds values that are NaN or infinite, first in {str(name)[:100]}: its "
                "training diverged; take an earlier one"
            )


def check_format(number: int, newest: int, path: str | Path) -> None:
    """Refuse a file of a later version.

    Raises:
        UserError: its format is above the newest one that this version reads.
    """
    if number > newest:
        raise UserError(
            f"{path} has format {number}, newer than this version of atto_det reads ({newest}); "
            "update atto_det"
        )


def tensor_sum(state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> str:
    """A checksum of the metadata (without itself) and each tensor's name, type, shape and bytes."""
    others = {key: value for key, value in (metadata or {}).items() if key != "sha256"}
    total = hashlib.sha256(b"" if metadata is None else json.dumps(others, sort_keys=True).encode())
    for name, tensor in sorted(state.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()


def check_sum(state: Mapping[str, Tensor], metadata: Mapping[str, str], path: str | Path) -> None:
    """Refuse a file that is not as it was written.

    Raises:
        UserError: its checksum differs.
    """
    if metadata.get("sha256") != tensor_sum(state, metadata):
        raise UserError(
            f"{path} was damaged or modified (its sha256 differs): copy or export it again"
        )
