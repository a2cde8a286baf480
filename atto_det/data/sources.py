"""A data set given by its path, in any form: VOC's layout, YOLO's data.yaml, or COCO JSON."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from atto_det.data.check import CheckReport, check_voc, report_of
from atto_det.data.coco import load_coco
from atto_det.data.coco_reader import read_coco
from atto_det.data.records import Dataset, Progress
from atto_det.data.voc import load_voc
from atto_det.data.voc_folder import VocFolder, list_splits, read_class_names
from atto_det.data.yolo import find_yolo, load_yolo, read_yolo, read_yolo_file


class Source(Protocol):
    """The splits of one data set.

    Attributes:
        class_names: by index.
        splits: names of the splits.
        image_root: folder that contains all pictures.
    """

    class_names: Sequence[str]
    splits: Sequence[str]
    image_root: Path

    def load(self, split: str, progress: Progress = iter) -> Dataset:
        """Read a split; a `UserError` reports the first problem."""

    def check(self, progress: Progress = iter) -> CheckReport:
        """Read every picture of every split completely and report all problems."""


class VocSource:
    """A folder in VOC's layout, or a tool's export to it; see voc_folder.py."""

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = Path(root)
        self.class_names = read_class_names(root)
        self.splits = list_splits(root)
        self.image_root = VocFolder.of(root).photo_folder

    def load(self, split: str, progress: Progress = iter) -> Dataset:
        """As `load_voc`."""
        return load_voc(self.root, split, progress=progress)

    def check(self, progress: Progress = iter) -> CheckReport:
        """As `check_voc`."""
        return check_voc(self.root, progress)


class YoloSource:
    """A YOLO data set; see yolo.py."""

    def __init__(self, path: str | os.PathLike) -> None:
        self.file = read_yolo_file(path)
        self.class_names = self.file.class_names
        self.splits = list(self.file.splits)
        pictures = [picture for split in self.splits for picture in self.file.splits[split]]
        self.image_root = Path(os.path.commonpath([picture.parent for picture in pictures]))

    def load(self, split: str, progress: Progress = iter) -> Dataset:
        """As `load_yolo`."""
        return load_yolo(self.file.path, split, progress)

    def check(self, progress: Progress = iter) -> CheckReport:
        """All findings of all splits."""
        read = {s: read_yolo(self.file, s, decode=True, progress=progress) for s in self.splits}
        return report_of(self.file.path, self.class_names, read)


class CocoSource:
    """A COCO JSON: one split, named after the file."""

    def __init__(self, path: str | os.PathLike, images: str | os.PathLike) -> None:
        self.path, self.image_root = Path(path), Path(images)
        self.splits = [self.path.stem]
        self.class_names: Sequence[str] = ()

    def load(self, split: str, progress: Progress = iter) -> Dataset:
        """As `load_coco`."""
        return load_coco(self.path, self.image_root)

    def check(self, progress: Progress = iter) -> CheckReport:
        """All findings."""
        read = read_coco(self.path, self.image_root, decode=True, progress=progress)
        return report_of(self.path, read[0].class_names if read[0] else (), {self.path.stem: read})


def open_source(path: str | os.PathLike, images: str | os.PathLike | None = None) -> Source:
    """The data set at `path`: a JSON of COCO, a data.yaml or its folder, or VOC layout.

    Args:
        images: folder of the pictures of a COCO JSON; by default that of the JSON.

    Raises:
        UserError: the file or folder cannot be read, or has none of these forms.
    """
    path = Path(path)
    if path.suffix == ".json":
        return CocoSource(path, images or path.parent)
    if (yaml := find_yolo(path)) and not (path / "ImageSets").is_dir():
        return YoloSource(yaml)
    return VocSource(path)
