"""Learning from a teacher: the crops that both teacher and student see, and the loss.

Crop k of picture i (its box, and whether it is mirrored) depends only on (seed, k, i). Answers for
it can therefore be stored, and are valid for students of any input size.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import torchvision.transforms.functional as T
from PIL import Image
from timm.data import create_transform
from timm.data.transforms import str_to_interp_mode
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import ColorJitter, RandomResizedCrop

from atto_det.data.images import read_image
from atto_det.errors import UserError

from .answers import Answers
from .samples import SampleKey, seeded

RATIO = (3 / 4, 4 / 3)  # of a crop's sides


class Crop(NamedTuple):
    """Part of a picture in pixels, and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool


@dataclass(frozen=True)
class CropRule:
    """How crops are drawn, as in arXiv 1409.4842.

    Attributes:
        scale: bounds of the share of the picture's area.
        horizontal_flip: probability.
        seed: determines them, together with number and picture.
    """

    scale: tuple[float, float]
    horizontal_flip: float
    seed: int

    def draw(self, picture: Image.Image, number: int, index: int) -> Crop:
        """Crop `number` of the picture with this index."""
        with seeded(self.seed, number, index):
            box = RandomResizedCrop.get_params(picture, self.scale, RATIO)
            return Crop(*box, bool(torch.rand(1) < self.horizontal_flip))


@dataclass(frozen=True)
class CropView:
    """How a network sees a crop: its side in pixels, and its normalisation."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str

    def of(
        self,
        picture: Image.Image,
        crop: Crop,
        change: Callable[[Image.Image], Image.Image] | None = None,
    ) -> Tensor:
        """The crop (3, size, size), normalised; `change` is applied to its pixels before."""
        interpolation = str_to_interp_mode(self.interpolation)
        part = T.resized_crop(picture, *crop[:4], [self.size, self.size], interpolation)
        if crop.mirrored:
            part = T.hflip(part)
        if change:
            part = change(part)
        return T.normalize(T.to_tensor(part), self.mean, self.std)

    def centre(self, share: float) -> Callable[[Image.Image], Tensor]:
        """A function that crops the centre, with `share` of the resized picture's side."""
        return create_transform(
            (self.size, self.size),
            crop_pct=share,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
        )


class TaughtPictures(Dataset):
    """Pictures by (epoch, index) as the student sees them, with labels and the teacher's part.

    An item is the student's view (3, S, S), the label among the teacher's classes (-1 if it is
    unknown), and then either the stored answer, classes (TOP,) and log_probabilities (TOP + 1,),
    or, if no answers are given, the teacher's view (3, S', S').

    Args:
        paths: of the pictures.
        labels: of the pictures.
        student, teacher: their views.
        rule: how crops are drawn; None for the central part.
        crop_share: of the central part.
        color_jitter: strength; applied only to the student's view.
        answers: stored answers for each crop. Epoch e uses crop e modulo their number.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Sequence[int],
        student: CropView,
        teacher: CropView,
        *,
        rule: CropRule | None,
        crop_share: float = 1.0,
        color_jitter: float = 0.0,
        answers: Sequence[Answers] | None = None,
    ) -> None:
        self.paths, self.labels = [str(path) for path in paths], labels
        self.student, self.teacher, self.rule = student, teacher, rule
        self.centres = student.centre(crop_share), teacher.centre(crop_share)
        self.jitter = ColorJitter(*[color_jitter] * 3) if color_jitter else None
        self.answers = answers

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: SampleKey) -> tuple | UserError:
        epoch, index = key
        try:
            picture = self.read(index)
        except UserError as error:  # if raised in a worker, it would be inside a traceback
            return error
        number = epoch % len(self.answers) if self.answers else epoch
        crop = self.rule and self.rule.draw(picture, number, index)
        label = self.labels[index]
        if self.answers:
            taught = [part[index] for part in self.answers[number]]
        else:
            taught = [self.teachers_view(picture, crop)]
        if crop is None:
            return (self.centres[0](picture), label, *taught)
        with seeded(self.rule.seed, epoch, index, 1):  # random numbers other than the crop's
            return (self.student.of(picture, crop, self.jitter), label, *taught)

    def read(self, index: int) -> Image.Image:
        """A picture at its own size."""
        return Image.fromarray(read_image(self.paths[index]))

    def teachers_view(self, picture: Image.Image, crop: Crop | None) -> Tensor:
        """The teacher's view (3, S', S') of the crop, or of the central part."""
        return self.centres[1](picture) if crop is None else self.teacher.of(picture, crop)


class TeachersView(Dataset):
    """The teacher's views in `TaughtPictures`, by (number of the crop, index)."""

    def __init__(self, pictures: TaughtPictures) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: SampleKey) -> Tensor | UserError:
        number, index = key
        try:
            picture = self.pictures.read(index)
        except UserError as error:
            return error
        rule = self.pictures.rule
        return self.pictures.teachers_view(picture, rule and rule.draw(picture, number, index))


def soft_loss(logits: Tensor, answers: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of student and teacher, averaged over the pictures.

    Both distributions are softened by `temperature`, and the divergence is multiplied by its
    square, so that gradients keep their size (arXiv 1503.02531, section 2.1).

    Args:
        logits: (B, C), the student's.
        answers: (B, C), the teacher's logits or log-probabilities.
    """
    target = (answers / temperature).log_softmax(1)
    found = (logits / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(found, target, reduction="batchmean", log_target=True)


def labels_among(paths: Sequence[Path], root: Path, classes: Sequence[str]) -> list[int]:
    """For each picture, the class that a folder between `root` and it is named after, or -1."""
    numbers = {name: number for number, name in enumerate(classes)}
    folders: dict[Path, int] = {}
    for folder in {path.parent for path in paths}:
        names = folder.relative_to(root).parts
        folders[folder] = next((numbers[name] for name in names if name in numbers), -1)
    return [folders[path.parent] for path in paths]


def fingerprint(paths: Sequence[Path], root: Path) -> dict[str, Any]:
    """The number of pictures, and a checksum of their names below `root` and their bytes.

    Raises:
        UserError: a picture cannot be read.
    """
    total = hashlib.sha256()
    for path in paths:
        try:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror})") from error
        line = f"{path.relative_to(root).as_posix()} {content}\n"
        total.update(line.encode(errors="surrogateescape"))
    return {"number": len(paths), "sha256": total.hexdigest()}
