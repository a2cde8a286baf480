"""A teacher's answers, which a student learns: computed at each step or stored once."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from atto_det.data.image_folder import ImageFolder
from atto_det.data.picture_tree import read_tree_splits
from atto_det.errors import UserError

from .answers import TOP, Answers, Store, shorten
from .distillation import (
    CropRule,
    CropView,
    TaughtPictures,
    TeachersView,
    fingerprint,
    labels_among,
)
from .samples import collate
from .teacher import Teacher

SPLITS = ("train", "val")


class Lessons:
    """A teacher, and the pictures for which it gives answers.

    Args:
        teacher: the trained network.
        root: folder of pictures, as for `read_tree_splits`.
        student: the student's view of a crop; the teacher has its own size and normalisation.
        rule: how training crops are drawn.
        crop_share: of the central crop, the only one used of held-out pictures.
        color_jitter: strength; applied only to the student's view.
        folder: of stored answers; None to run the teacher at each step.
        crops: number of crops of each training picture for stored answers.

    Attributes:
        train, val: pictures, with labels among the teacher's classes, or -1.

    Raises:
        UserError: as `read_tree_splits`.
    """

    def __init__(
        self,
        teacher: Teacher,
        root: Path,
        *,
        student: CropView,
        rule: CropRule,
        crop_share: float,
        color_jitter: float,
        folder: str | None,
        crops: int,
    ) -> None:
        self.teacher, self.root = teacher, root
        self.student = student
        self.view = CropView(teacher.size, teacher.mean, teacher.std, student.interpolation)
        self.rule, self.crop_share, self.color_jitter = rule, crop_share, color_jitter
        self.folder, self.crops = folder, crops
        self.train, self.val = (
            ImageFolder(teacher.classes, paths, tuple(labels_among(paths, root, teacher.classes)))
            for paths in read_tree_splits(root)
        )

    def pictures(self, split: str) -> TaughtPictures:
        """The pictures of train, in random crops, or of val, in the central one.

        Raises:
            UserError: stored answers are missing, damaged, or belong to something else.
        """
        return self._pictures(split, self._store(split).load() if self.folder else None)

    def store(
        self, splits: tuple[str, ...], batch: int, workers: int, device: torch.device
    ) -> None:
        """Compute, on `device`, the teacher's answers that are not stored yet.

        Raises:
            UserError: no folder was given, it holds answers for something else, a picture cannot be
                read, or a file cannot be written.
        """
        if not self.folder:
            raise UserError("name the folder for the answers: --data.answers FOLDER")
        for split in splits:
            views = TeachersView(self._pictures(split, None))

            def ask(crop: int, indices: range, views: TeachersView = views) -> Iterator[Answers]:
                places = [(crop, index) for index in indices]
                loader = DataLoader(
                    views, batch, sampler=places, num_workers=workers, collate_fn=collate
                )
                for pictures in loader:
                    if isinstance(pictures, UserError):
                        raise pictures
                    yield shorten(self.teacher.answer(pictures.to(device)).cpu())

            self._store(split).fill(ask)

    def _pictures(self, split: str, answers: list[Answers] | None) -> TaughtPictures:
        folder = self._images(split)
        return TaughtPictures(
            folder.paths,
            folder.labels,
            self.student,
            self.view,
            rule=self.rule if split == "train" else None,
            crop_share=self.crop_share,
            color_jitter=self.color_jitter,
            answers=answers,
        )

    def _images(self, split: str) -> ImageFolder:
        return self.train if split == "train" else self.val

    def _store(self, split: str) -> Store:
        train, paths = split == "train", self._images(split).paths
        rule = self.rule
        seen = (
            {"scale": rule.scale, "horizontal_flip": rule.horizontal_flip, "seed": rule.seed}
            if train
            else {"crop_share": self.crop_share}
        )
        key = (
            self.teacher.describe()
            | seen
            | {
                "format": 1,
                "top": TOP,
                "interpolation": self.view.interpolation,
                "pictures": fingerprint(paths, self.root),
            }
        )
        return Store(Path(self.folder, split), key, len(paths), self.crops if train else 1)
