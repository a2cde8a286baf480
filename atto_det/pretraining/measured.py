"""Measured top-1: read from a checkpoint, given as text, or measured now."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from atto_det.bounded_yaml import parse_yaml
from atto_det.errors import UserError
from atto_det.pretraining.data import ClassifierData
from atto_det.reports.table2 import Data, Measured
from atto_det.weights.backbone_file import Description, read_pretraining


def read_measured(path: str | Path) -> Measured:
    """The measurement stored in a pretraining checkpoint.

    Raises:
        UserError: no such checkpoint, or one without a top-1.
    """
    found = read_pretraining(path).description
    if found.top1 is None:
        raise UserError(
            f"checkpoint {path} carries no top-1: it was written before the first validation; "
            f"take a later one, or give --top1 {found.network}=PERCENT"
        )
    data = Data(
        found.data["root"],
        found.data["train"],
        found.data["val"],
        tuple(found.class_names),
        found.input_size,
    )
    seed = _seed(found.recipe, path)
    runs = () if seed is None else ((seed, found.top1),)
    return Measured(found.network, found.top1, data, found.weight_bits, runs)


def _seed(recipe: str, path: str | Path) -> int | None:
    """That of a training by `atto-det pretrain`; others keep theirs elsewhere."""
    seed = parse_yaml(recipe, f"the recipe in {path}").get("seed_everything")
    return seed if type(seed) is int else None


def parse_top1(text: str) -> Measured:
    """NETWORK=PERCENT as a measurement on unspecified data.

    Raises:
        UserError: another form, or a percentage out of range.
    """
    network, _, number = text.partition("=")
    try:
        top1 = float(number)
    except ValueError:
        raise UserError(f"--top1 {text} is not NETWORK=PERCENT, as in attonet_a=31.4") from None
    return Measured(network, top1)


def measure_top1(
    networks: Sequence[nn.Module],
    description: Description,
    root: str,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    **settings: Any,
) -> list[float]:
    """Top-1 in percent of classifiers in evaluation mode, on the val pictures of one folder.

    Args:
        networks: functions from pictures to logits, with the classes of `description`.
        description: says how pictures are resized and normalised.
        root: folder of pictures by class, as for `ClassifierData`.
        progress: wraps the batches, as `rich.progress.track` does.
        settings: further arguments of `ClassifierData`, such as the class list.

    Raises:
        UserError: no such pictures, or different classes.
    """
    data = val_data(root, description, mean=description.mean, std=description.std, **settings)
    right = [0] * len(networks)
    with torch.inference_mode():
        for batch in progress(data.val_dataloader()):
            images, labels = data.on_before_batch_transfer(batch, 0)
            for index, network in enumerate(networks):
                right[index] += int((network(images).argmax(1) == labels).sum())
    return [100 * count / len(data.val.paths) for count in right]


def val_data(
    root: str,
    description: Description,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    **settings: Any,
) -> ClassifierData:
    """The pictures of a folder, sized as in `description`, normalised by `mean` and `std`.

    Args:
        settings: further arguments of `ClassifierData`.

    Raises:
        UserError: no such pictures, or classes that differ from those of `description`.
    """
    data = ClassifierData(
        root,
        image_size=description.input_size,
        workers=0,
        mean=tuple(mean),
        std=tuple(std),
        **settings,
    )
    if list(data.classes) != description.class_names:
        raise UserError(
            f"{data.root} has other classes ({len(data.classes)}) than the checkpoint "
            f"({len(description.class_names)}): name the folder that it was trained on"
        )
    return data
