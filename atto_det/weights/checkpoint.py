"""The checkpoint format of both engines: a self-contained `.pth` file.

    model       state dict
    atto_det    format (1), config (YAML text), class_names, versions, command
    optimizer, scheduler, trainer, iteration …  in checkpoints to resume from

It is written to a temporary name and renamed. It is read with `weights_only`: a pickle that would
run code is refused.
"""

import pickle
import platform
import sys
import time
import warnings
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from atto_det import __version__
from atto_det.errors import UserError, atomic_path
from atto_det.weights.detector_file import read_detector
from atto_det.weights.tensor_file import check_finite, check_format
from atto_det.weights.zoo import find_file

FORMAT = 1
_PACKAGES = (
    *("torch", "torchvision", "detectron2", "timm", "lightning"),
    *("numpy", "pycocotools", "pillow", "onnxruntime", "openvino"),
)


def versions() -> dict[str, str]:
    """Versions of the software that a result depends on: this project, Python, and libraries."""
    found = {"atto_det": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def run_record(*, seed: int, processes: int, device: str) -> dict[str, Any]:
    """What a run's results depend on, besides its config, for the JSON in its folder."""
    return {
        "command": sys.argv,
        "seed": seed,
        "processes": processes,
        "device": device,
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def description(config: str, class_names: list[str]) -> dict[str, Any]:
    """What makes a checkpoint self-contained: config, class names, versions, command."""
    return {
        "format": FORMAT,
        "config": config,
        "class_names": list(class_names),
        "versions": versions(),
        "command": " ".join(sys.argv),
    }


def save_checkpoint(path: str | Path, content: dict[str, Any]) -> None:
    """Write `content` to `path`, which afterwards holds either the old or the complete new file.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    # Through a Python file, whose OSError gives the reason, while torch's own writer hides it.
    # Closing the unfinished archive then fails a second time.
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint, tensors on the CPU. Only tensors and plain values are read.

    Args:
        path: a `.pth`, a detector file (`.safetensors`), or "zoo:NAME" of one that comes with the
            package.

    Raises:
        UserError: no such file; a damaged one; one that would create other objects; or weights
            that are not finite.
    """
    path = find_file(path)
    if path.is_dir():
        raise UserError(f"checkpoint {path} is a folder: give a file, such as its model_best.pth")
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    content = read_detector(path) if path.suffix == ".safetensors" else _unpickled(path)
    if not isinstance(content, dict):
        raise UserError(f"checkpoint {path} holds a {type(content).__name__} instead of weights")
    for weights in (content, content.get("model"), content.get("state_dict")):
        if isinstance(weights, dict):
            check_finite(weights, path)
    return content


def _unpickled(path: Path) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # about pickles, which are refused anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if _is_zip(path):
            raise UserError(
                f"checkpoint {path} holds more than tensors and plain values, and reading that "
                "could run code; it was not read"
            ) from error
        raise UserError(f"{path} is not a checkpoint of PyTorch, or a damaged one") from error
    except Exception as error:  # a damaged pickle may raise any exception
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"checkpoint {path} cannot be read: {error.strerror}") from error
        raise UserError(f"checkpoint {path} is damaged: copy or train it again") from error


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return False


def read_description(content: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """The "atto_det" part of a checkpoint that was read from `path`, validated.

    Raises:
        UserError: the part is missing (a foreign checkpoint), malformed, or of a newer format.
    """
    part = content.get("atto_det")
    if part is None:
        raise UserError(
            f"checkpoint {path} does not carry its config: it was not written by atto_det; "
            "give the config of its training too (--config-file, or cfg=… of a Predictor)"
        )
    well_formed = (
        isinstance(part, dict)
        and isinstance(part.get("format"), int)
        and isinstance(part.get("config"), str)
        and isinstance(part.get("class_names"), list)
        and all(isinstance(name, str) for name in part["class_names"])
        and isinstance(content.get("model"), dict)
    )
    if not well_formed:
        raise UserError(f"checkpoint {path} has a malformed atto_det part")
    check_format(part["format"], FORMAT, f"checkpoint {path}")
    return part


def load_weights(model: nn.Module, content: dict[str, Any], path: str | Path) -> None:
    """Load the model part of one of our checkpoints; all tensors must match.

    Raises:
        UserError: a tensor is missing, unexpected, or of the wrong shape; it names the first one.
    """
    given = content["model"]
    check_fit(model.state_dict(), given, path)
    model.load_state_dict(given)


def check_fit(own: dict[str, torch.Tensor], given: Any, path: str | Path) -> None:
    """Check that the tensors of checkpoint `path` match a model's in name and shape.

    Raises:
        UserError: a tensor is missing, unexpected, or of the wrong shape; it names the first one.
    """
    if not isinstance(given, dict):
        raise UserError(f"checkpoint {path} holds a {type(given).__name__} for the model's tensors")
    wrong = [
        key
        for key in sorted(own.keys() | given.keys(), key=str)
        if key not in own
        or key not in given
        or not isinstance(given[key], torch.Tensor)
        or own[key].shape != given[key].shape
    ]
    if wrong:
        raise UserError(
            f"{len(wrong)} tensors of checkpoint {path} do not fit the config, the first being "
            f"{wrong[0]}: it belongs to another model, or the file was modified"
        )
