"""Classifiers trained by other programs, such as the reference scripts of timm and torchvision.

Their files hold a state dict, alone or together with the state of the training. What a backbone
file must state about its weights (normalisation, size, data) is taken from the script's arguments,
if the file has them.
"""

import argparse
import json
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atto_det.errors import UserError
from atto_det.nets import create_classifier, get_spec
from atto_det.nets.normalisation import IMAGENET_MEAN, IMAGENET_STD
from atto_det.weights.backbone_file import Description, Weights, misfits
from atto_det.weights.checkpoint import load_checkpoint
from atto_det.weights.tensor_file import check_finite, read_tensors

# Where the scripts store the weights; averaged ones first, since these were validated.
_PLACES = ("state_dict_ema", "model_ema", "state_dict", "model")
_WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod|model|net|backbone)\.)+")


def read_foreign(
    path: str | Path,
    network: str,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    input_size: int | None = None,
) -> Weights:
    """The network in a file of another program, including the head.

    Args:
        path: a state dict (`.pth`, `.safetensors`), or a checkpoint of timm's or torchvision's
            training scripts, of which averaged weights are used if there are any.
        network: one of `list_backbones()`, or a spec as text; the file does not reliably say it.
        mean, std: of the three colours, RGB, scaled to 0..1; by default from the script's
            arguments, else ImageNet's, which both scripts use.
        input_size: side of the training pictures; by default from the script's arguments, else 224.

    Raises:
        UserError: an unknown network; a missing, damaged or unsafe file; or tensors that are not
            the network's, or not finite.
    """
    get_spec(network, "--network")
    if input_size is not None and input_size < 1:
        raise UserError(f"--input-size is {input_size}: give at least 1 pixel")
    content = _read(path)
    arguments = content.get("args")
    arguments = dict(vars(arguments)) if isinstance(arguments, argparse.Namespace) else {}
    told = content.get("arch", arguments.get("model"))
    if isinstance(told, str) and told != network:
        raise UserError(f"{path} holds {told}, and --network is {network}: give one of them")
    place = next((key for key in _PLACES if isinstance(content.get(key), Mapping)), "")
    state = _state(content[place] if place else content)
    if "fc.weight" not in state:
        raise UserError(
            f"{path} holds no classifier {network}: it has no tensor fc.weight; a detector's "
            "weights and a backbone without its dense layer are not exported"
        )
    with torch.device("meta"):
        expected = create_classifier(network, len(state["fc.weight"])).state_dict()
    wrong = misfits(expected, state)
    if wrong:
        raise UserError(f"{path} holds no whole {network}: {wrong}")
    state = {key: value.to(expected[key].dtype) for key, value in state.items()}
    check_finite(state, path)
    epoch = content.get("epoch")
    description = Description(
        network=network,
        class_names=[str(index) for index in range(len(state["fc.weight"]))],
        mean=_colour(mean or arguments.get("mean") or IMAGENET_MEAN, "--mean"),
        std=_colour(std or arguments.get("std") or IMAGENET_STD, "--std"),
        channel_order="RGB",
        input_size=input_size or _size(arguments),
        weight_bits=None,
        recipe=json.dumps(arguments, indent=2, default=str),  # JSON is also YAML
        data={"root": _data(arguments), "train": 0, "val": 0},
        top1=_top1(content, arguments),
        epoch=epoch + 1 if type(epoch) is int and epoch >= 0 else 0,
        versions={},
        command=f"exported from {Path(path).name}" + (f", {place}" if place else ""),
    )
    return Weights(state, description)


def _read(path: str | Path) -> dict[str, Any]:
    if str(path).endswith(".safetensors"):
        return read_tensors(path, "weights file")[0]
    try:
        # The scripts' arguments are in a Namespace, which only holds values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return load_checkpoint(path)
    except UserError as error:
        if not isinstance(error.__cause__, pickle.UnpicklingError):
            raise
        raise UserError(
            f"{error}. If you trust it, save its weights alone (of a whole module with "
            ".state_dict() instead of ['state_dict']), and export these: torch.save("
            f"torch.load({str(path)!r}, weights_only=False)['state_dict'], 'weights.pth')"
        ) from error


def _state(tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors with a classifier's names for them, without the prefixes of wrappers."""
    named = {_WRAPPERS.sub("", str(key)): value for key, value in tensors.items()}
    named.pop("n_averaged", None)  # a counter of torch.optim.swa_utils
    return {key: value for key, value in named.items() if isinstance(value, Tensor)}


def _colour(values: Any, flag: str) -> list[float]:
    """Three numbers from 0 to 1.

    Raises:
        UserError: the values are not.
    """
    numbers = isinstance(values, list | tuple) and all(isinstance(v, int | float) for v in values)
    if not numbers or len(values) != 3 or not all(0 <= v <= 1 for v in values):
        raise UserError(f"{flag} must be three numbers from 0 to 1 (red, green, blue): {values}")
    if flag == "--std" and 0 in values:
        raise UserError(f"--std must be above 0: {values}")
    return [float(value) for value in values]


def _size(arguments: Mapping[str, Any]) -> int:
    """Side of the pictures, from the arguments of timm's or torchvision's script, or 224."""
    shape = arguments.get("input_size")  # timm's: channels, height, width
    sizes = [arguments.get(key) for key in ("img_size", "train_crop_size")]
    sizes.append(shape[-1] if isinstance(shape, list | tuple) and shape else None)
    return next((size for size in sizes if type(size) is int and size > 0), 224)


def _data(arguments: Mapping[str, Any]) -> str:
    keys = ("data_dir", "data", "data_path", "dataset")
    return next((str(arguments[key]) for key in keys if arguments.get(key)), "data not stated")


def _top1(content: Mapping[str, Any], arguments: Mapping[str, Any]) -> float | None:
    """The top-1 that timm's script measured, in percent."""
    value = content.get("metric")
    if not isinstance(value, int | float) or arguments.get("eval_metric") != "top1":
        return None
    return float(value) if 0 <= value <= 100 else None
