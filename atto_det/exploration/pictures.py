"""Small pictures in memory: what the search trains on, and what judges it.

Both come from the training split, parted by a seed: the val split is looked at by nobody here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atto_det.data import image_folder
from atto_det.data.images import read_image
from atto_det.errors import UserError
from atto_det.nets.normalisation import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures and labels.

    pixels: uint8 (N, 3, S, S), RGB.
    labels: int64 (N,).
    classes: names of the classes.
    """

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Normalised pictures (B, 3, S, S) and labels (B,)."""
        rows = torch.as_tensor(indices)
        return normalise(self.pixels[rows]), self.labels[rows]

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All of them in order."""
        for start in range(0, len(self), size):
            yield self.batch(torch.arange(start, min(start + size, len(self))))


def normalise(pixels: Tensor) -> Tensor:
    """uint8 (B, 3, S, S) to ImageNet's mean 0 and standard deviation 1."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels.float() / 255 - mean) / std


def read_pictures(
    root: str | Path, size: int, *, judged: float, seed: int
) -> tuple[Pictures, Pictures]:
    """The training split of an image folder, parted into what trains and what judges.

    Args:
        root: folder with train/<class>/<picture>.
        size: side in pixels; other pictures are resized.
        judged: share of each class that judges, at least one picture.
        seed: of the parting.

    Raises:
        UserError: no such folder, fewer than two classes, a class of one picture, or an unreadable
            picture.
    """
    folder = image_folder.read_image_folder(root, "train")
    if len(folder.classes) < 2:
        raise UserError(f"{root} has one class: there is nothing to tell apart")
    pixels = np.empty((len(folder.paths), 3, size, size), np.uint8)
    for row, path in enumerate(folder.paths):
        picture = Image.fromarray(read_image(path))
        if picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.BILINEAR)
        pixels[row] = np.asarray(picture).transpose(2, 0, 1)
    labels = np.array(folder.labels)
    random = np.random.default_rng(seed)
    judges = np.zeros(len(labels), bool)
    for label, name in enumerate(folder.classes):
        rows = np.flatnonzero(labels == label)
        if len(rows) < 2:
            raise UserError(f"class {name} of {root} has one picture: the search needs two")
        count = min(max(round(judged * len(rows)), 1), len(rows) - 1)
        judges[random.permutation(rows)[:count]] = True
    parts = (
        Pictures(torch.from_numpy(pixels[rows]), torch.from_numpy(labels[rows]), folder.classes)
        for rows in (~judges, judges)
    )
    train, judge = parts
    return train, judge


def augmented(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 (B, 3, S, S) mirrored by chance and moved by up to an eighth, borders reflected."""
    count, _, size, _ = pixels.shape
    most = max(size // 8, 1)
    padded = torch.nn.functional.pad(pixels.float(), (most,) * 4, mode="reflect").byte()
    places = torch.randint(2 * most + 1, (count, 2), generator=generator)
    flips = torch.rand(count, generator=generator) < 0.5
    result = torch.empty_like(pixels)
    for row, ((top, left), flip) in enumerate(zip(places.tolist(), flips.tolist(), strict=True)):
        part = padded[row, :, top : top + size, left : left + size]
        result[row] = part.flip(2) if flip else part
    return result
