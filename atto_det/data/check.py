"""Checking a whole folder in VOC layout: every finding, not only the first."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from atto_det.data.records import Dataset, Finding, ImageRecord, Progress
from atto_det.data.voc import check_disjoint
from atto_det.data.voc_folder import VocFolder, list_splits, read_class_names, read_split
from atto_det.data.voc_image import read_voc_image
from atto_det.errors import UserError


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """The number of pictures in the list of a split, of usable objects, and of findings."""

    images: int
    objects: int
    difficult: int
    left_out: int
    errors: int


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The findings of `check_voc` in a folder."""

    root: str
    classes: int
    splits: dict[str, SplitCounts]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """Number of findings that make the folder unusable."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """Number of findings that only cost the objects concerned."""
        return sum(finding.severity == "warning" for finding in self.findings)

    def to_dict(self) -> dict:
        """The report as JSON values."""
        return {**asdict(self), "errors": self.errors, "warnings": self.warnings}


def check_voc(root: str | os.PathLike, progress: Progress = iter) -> CheckReport:
    """Read every picture of every split of `root` completely and collect all problems.

    In addition to the findings of `read_voc_image` there are: errors `list` (an unusable list) and
    `overlap` (train and val share images), and warnings `unlisted` (instance masks that are in no
    list).

    Raises:
        UserError: `root` has no lists at all, or an unusable class_names.txt.
    """
    root = Path(root).resolve()
    class_names = read_class_names(root)
    lists, findings = {}, []
    for split in list_splits(root):
        try:
            lists[split] = read_split(root, split)
        except UserError as error:
            findings.append(Finding("error", "list", "", str(error)))
    if {"train", "val"} <= lists.keys():
        try:
            check_disjoint(lists["train"], lists["val"], ("train", "val"))
        except UserError as error:
            findings.append(Finding("error", "overlap", "", str(error)))
    listed = list(dict.fromkeys(image_id for ids in lists.values() for image_id in ids))
    folder = VocFolder.of(root)
    records: dict[str, ImageRecord | None] = {}
    found: dict[str, list[Finding]] = {}
    for image_id in progress(listed):
        records[image_id], found[image_id] = read_voc_image(
            folder, image_id, class_names, decode=True
        )
        findings.extend(found[image_id])
    for path in sorted((root / "SegmentationObject").glob("*.png")):
        if path.stem not in found:
            message = (
                f"{path} is in no list of {root / 'ImageSets' / 'Segmentation'}: nothing uses it"
            )
            findings.append(Finding("warning", "unlisted", path.stem, message))
    splits = {
        split: _counts([records[name] for name in ids], [f for name in ids for f in found[name]])
        for split, ids in lists.items()
    }
    return CheckReport(str(root), len(class_names), splits, tuple(findings))


def report_of(
    path: Path,
    class_names: Sequence[str],
    read: Mapping[str, tuple[Dataset | None, Sequence[Finding]]],
) -> CheckReport:
    """The report on splits that `read_coco` or `read_yolo` returned."""
    splits = {
        split: _counts(dataset.records if dataset else (), found)
        for split, (dataset, found) in read.items()
    }
    findings = tuple(finding for _, found in read.values() for finding in found)
    return CheckReport(str(path), len(class_names), splits, findings)


def _counts(records: Sequence[ImageRecord | None], findings: Sequence[Finding]) -> SplitCounts:
    objects = [item for record in records if record for item in record.instances]
    severities = [finding.severity for finding in findings]
    return SplitCounts(
        images=len(records),
        objects=len(objects),
        difficult=sum(item.difficult for item in objects),
        left_out=severities.count("warning"),
        errors=severities.count("error"),
    )
