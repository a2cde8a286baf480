"""Writing a data set in VOC's layout, from COCO JSON or YOLO labels, completely or not at all."""

import os
import shutil
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

import numpy as np
from pycocotools import mask as mask_utils

from atto_det.data.images import write_palette_png
from atto_det.data.records import Dataset, ImageRecord, Instance, Progress
from atto_det.data.voc_folder import MOST_CLASSES
from atto_det.data.voc_image import VOID
from atto_det.errors import Outputs, UserError, atomic_folder, shown, utf8


class Written(NamedTuple):
    """What `to_voc` wrote, and what VOC's label images could not hold.

    pictures, objects: in all splits; a picture that is in two splits counts once.
    covered: pixels that belong to two objects; the smaller object gets them.
    hidden: objects of which no pixel is left.
    bare: objects with a box alone, among others with masks: readers of label images miss them.
    """

    pictures: int
    objects: int
    covered: int
    hidden: int
    bare: int


def to_voc(
    splits: Mapping[str, Dataset], target: str | os.PathLike, progress: Progress = iter
) -> Written:
    """Write the splits of a data set to the new folder `target` in VOC's layout.

    Photos are copied unchanged. Label images are written if any object has a mask; otherwise only
    boxes are written. Crowd regions become void.

    Raises:
        UserError: `target` exists, the splits have different classes, a class name cannot be
            written as a line, there are more classes or more objects in a picture than an 8-bit
            label image can hold, or a file cannot be written.
    """
    target = Path(target)
    names = next(iter(splits.values())).class_names
    if any(dataset.class_names != names for dataset in splits.values()):
        raise UserError("the splits have different classes: they cannot be one folder")
    if len(names) > MOST_CLASSES:
        raise UserError(f"{len(names)} classes are more than VOC's layout holds ({MOST_CLASSES})")
    for name in names:
        if name.splitlines() != [name.strip()] or not all(map(_is_readable, name)):
            raise UserError(
                f"the class {shown(name)} cannot be written to class_names.txt, a line for each: "
                "rename it, without spaces around it, line breaks and control characters"
            )
    if names[:1] == ["_background_"]:
        raise UserError("the class _background_ at the beginning has a meaning there: rename it")
    if target.exists():
        raise UserError(f"{target} exists: choose a folder that does not exist")
    records = {r.file_name: r for dataset in splits.values() for r in dataset.records}
    masks = any(item.rle for record in records.values() for item in record.instances)
    with atomic_folder(target) as temporary:
        ids = _ids(records, temporary)
        for folder in ("JPEGImages", "Annotations", "ImageSets/Segmentation"):
            (temporary / folder).mkdir(parents=True)
        for folder in ("SegmentationClass", "SegmentationObject") if masks else ():
            (temporary / folder).mkdir()
        covered = hidden = 0
        for record in progress(list(records.values())):
            name = ids[record.file_name]
            suffix = Path(record.file_name).suffix
            shutil.copyfile(record.file_name, temporary / "JPEGImages" / f"{name}{suffix}")
            xml = _xml(record, names, f"{name}{suffix}")
            (temporary / "Annotations" / f"{name}.xml").write_text(xml, encoding="utf-8")
            if masks:
                more = _write_labels(record, temporary, name)
                covered, hidden = covered + more[0], hidden + more[1]
        for split, dataset in splits.items():
            lines = "".join(f"{ids[record.file_name]}\n" for record in dataset.records)
            (temporary / "ImageSets/Segmentation" / f"{split}.txt").write_text(lines, "utf-8")
        text = "".join(f"{name}\n" for name in names)
        (temporary / "class_names.txt").write_text(text, encoding="utf-8")
    instances = [item for record in records.values() for item in record.instances]
    bare = sum(item.rle is None for item in instances) if masks else 0
    return Written(len(records), len(instances), covered, hidden, bare)


def _is_readable(character: str) -> bool:
    """Whether XML and a reader of UTF-8 keep it."""
    return unicodedata.category(character) not in ("Cc", "Cs", "Cn") and character != "\ufeff"


def _ids(records: Mapping[str, ImageRecord], folder: Path) -> dict[str, str]:
    """An image id for each file, without folders, that can be written as a line."""
    outputs = Outputs(folder, "")
    result = {}
    for file, record in records.items():
        line = "_".join(record.image_id.strip("/").splitlines())
        result[file] = outputs(utf8(line).replace("\ufeff", "").strip().replace("/", "_")).name
    return result


def _write_labels(record: ImageRecord, folder: Path, name: str) -> tuple[int, int]:
    """Write both label images; returns the number of shared pixels and of hidden objects."""
    if len(record.instances) >= VOID:
        raise UserError(
            f"{record.file_name} has {len(record.instances)} objects, and a label image of VOC "
            f"holds {VOID - 1}: keep this data set as COCO JSON (DATASETS.COCO)"
        )
    objects = np.zeros((record.height, record.width), np.uint8)
    for item in record.crowds:
        objects[mask_utils.decode(item.rle) > 0] = VOID
    drawn = [
        (number, mask_utils.decode(item.rle) > 0)
        for number, item in enumerate(record.instances, 1)
        if item.rle
    ]
    covered = 0
    for number, mask in sorted(drawn, key=lambda pair: -int(pair[1].sum())):  # small ones last
        covered += int(((objects[mask] > 0) & (objects[mask] < VOID)).sum())
        objects[mask] = number
    table = np.zeros(256, np.uint8)
    table[VOID] = VOID
    for number, item in enumerate(record.instances, 1):
        table[number] = item.category + 1
    write_palette_png(folder / "SegmentationObject" / f"{name}.png", objects)
    write_palette_png(folder / "SegmentationClass" / f"{name}.png", table[objects])
    present = set(np.unique(objects).tolist())
    return covered, sum(number not in present for number, _ in drawn)


def _xml(record: ImageRecord, names: Sequence[str], file_name: str) -> str:
    def row(item: Instance) -> str:
        left, top, right, bottom = item.box
        # VOC counts pixels from 1 and includes the last one.
        sides = zip(
            ("xmin", "ymin", "xmax", "ymax"), (left + 1, top + 1, right, bottom), strict=True
        )
        corners = "".join(f"<{tag}>{round(side, 3):g}</{tag}>" for tag, side in sides)
        return (
            f"<object><name>{escape(names[item.category])}</name>"
            f"<difficult>{int(item.difficult)}</difficult><bndbox>{corners}</bndbox></object>\n"
        )

    rows = "".join(map(row, record.instances))
    size = f"<width>{record.width}</width><height>{record.height}</height><depth>3</depth>"
    return (
        f"<annotation>\n<filename>{escape(file_name)}</filename>\n<size>{size}</size>\n{rows}"
        "</annotation>\n"
    )
