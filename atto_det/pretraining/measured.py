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
) -> tuple[list[float], int]:
    """Top-1 in percent of classifiers in evaluation mode, and the number of pictures.

    Args:
        networks: functions from pictures to logits, with the classes of `description`.
        description: says how pictures are resized and normalised.
        root: folder of pictures by class, as for `ClassifierData`; those of val are used.
        progress: wraps the batches, as `rich.progress.track` does.

    Raises:
        UserError: no such pictures, or different classes.
    """
    data = val_data(root, description, mean=description.mean, std=description.std)
    right = [0] * len(networks)
    with torch.inference_mode():
        for batch in progress(data.val_dataloader()):
            images, labels = data.on_before_batch_transfer(batch, 0)
            for index, network in enumerate(networks):
                right[index] += int((network(images).argmax(1) == labels).sum())
    pictures = len(data.val.paths)
    return [100 * count / pictures for count in right], pictures


def val_data(
    root: str, description: Description, *, mean: Sequence[float], std: Sequence[float]
) -> ClassifierData:
    """The pictures of a folder, seen as in the training, but normalised by `mean` and `std`.

    Raises:
        UserError: no such pictures, or classes that differ from those of `description`.
    """
    trained = parse_yaml(description.recipe, "the recipe").get("data")
    trained = trained if isinstance(trained, dict) else {}  # of other programs: unknown
    view = {key: trained[key] for key in ("crop_share", "interpolation") if key in trained}
    class_list = trained.get("class_list")
    if class_list and Path(class_list).is_file():
        view["class_list"] = class_list
    data = ClassifierData(
        root,
        image_size=description.input_size,
        workers=0,
        mean=tuple(mean),
        std=tuple(std),
        **view,
    )
    if list(data.classes) != description.class_names:
        raise UserError(
            f"{data.root} has other classes ({len(data.classes)}) than the checkpoint "
            f"({len(description.class_names)}): name the folder that it was trained on"
        )
    return data
