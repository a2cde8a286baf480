"""YOLO's segmentation labels, as Ultralytics and Roboflow write them.

data.yaml names the classes and, for each split, folders of pictures or lists of pictures. Beside
each folder `images` is a folder `labels` with a text file for each picture, which has a line for
each object:

    2 0.12 0.30 0.18 0.29 0.20 0.41 …     class, and a polygon's points x y
    2 0.15 0.35 0.08 0.12                 class, and a box's centre x y, width, height

Numbers are fractions of the upright picture's width and height. A box has no mask.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pycocotools import mask as mask_utils

from atto_det.bounded_yaml import parse_yaml, read_text
from atto_det.data.files import read_utf8
from atto_det.data.images import read_header, read_image
from atto_det.data.masks import is_inside
from atto_det.data.orientation import Header
from atto_det.data.records import (
    Dataset,
    Finding,
    ImageRecord,
    Instance,
    Progress,
    image_ids,
    unusable,
)
from atto_det.data.voc_folder import PHOTO_SUFFIXES
from atto_det.errors import UserError, shown

SPLITS = ("train", "val", "test")
_SLACK = 0.01  # fraction of the side by which rounding in other tools may exceed the edge


class YoloFile(NamedTuple):
    """The content of data.yaml: its path, the class names by index, the pictures of each split."""

    path: Path
    class_names: tuple[str, ...]
    splits: dict[str, list[Path]]


def find_yolo(path: str | os.PathLike) -> Path | None:
    """The data.yaml at or in `path`; None if that is not a YOLO data set."""
    path = Path(path)
    if path.suffix in (".yaml", ".yml"):
        return path
    found = path / "data.yaml"
    return found if found.is_file() else None


def read_yolo_file(path: str | os.PathLike) -> YoloFile:
    """Read data.yaml and list the pictures.

    Raises:
        UserError: it is missing, not YAML or lacks names, or a split's folder is missing or empty.
    """
    path = Path(path).resolve()
    try:
        content = parse_yaml(read_text(path, "file"), str(path))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    names = content.get("names")
    if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
        names = [names[index] for index in range(len(names))]
    fits = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    if not fits or len(set(names)) < len(names):
        raise UserError(
            f"{path} needs 'names': a list of class names, or a section of them by index from 0; "
            f"it has {shown(names)}"
        )
    base = path.parent
    if isinstance(content.get("path"), str):
        base = base / content["path"]
        base = base if base.is_dir() else path.parent  # the path is of another machine
    splits = {
        split: _pictures(base, content[split], path) for split in SPLITS if content.get(split)
    }
    if not splits:
        raise UserError(f"{path} names no pictures: it needs 'train' or 'val'")
    return YoloFile(path, tuple(names), splits)


def load_yolo(path: str | os.PathLike, split: str, progress: Progress = iter) -> Dataset:
    """Read one split of a YOLO data set.

    A line that cannot be read is left out, with a warning that gives the reason.

    Raises:
        UserError: as `read_yolo_file`; no such split; or an unreadable picture or label file.
    """
    file = read_yolo_file(path)
    if split not in file.splits:
        raise UserError(f"{file.path} has no split {split}: it has {', '.join(file.splits)}")
    dataset, findings = read_yolo(file, split, progress=progress)
    if dataset is None:
        raise unusable(findings, str(file.path))
    return dataset


def read_yolo(
    file: YoloFile, split: str, *, decode: bool = False, progress: Progress = iter
) -> tuple[Dataset | None, list[Finding]]:
    """Read a split as `load_yolo` does, and list all problems in it.

    Returns:
        The data set (None if there are errors) and the findings. Errors: `file`. Warnings, each for
        one line of a label file: `label`, `category`, `box`, `no_mask`.
    """
    pictures = file.splits[split]
    root = os.path.commonpath([picture.parent for picture in pictures])
    names = [picture.relative_to(root).as_posix() for picture in pictures]
    findings: list[Finding] = []
    records, owners = [], {}
    for image_id, picture in zip(image_ids(names), progress(pictures), strict=True):
        labels = _labels_of(picture)
        if (other := owners.setdefault(labels, picture)) != picture:
            message = f"{picture} and {other.name} share the labels {labels}: rename one of them"
            findings.append(Finding("error", "file", image_id, message))
            continue
        try:
            if decode:
                read_image(picture)
            header = read_header(picture)
            lines = _lines(labels)
        except UserError as error:
            findings.append(Finding("error", "file", image_id, str(error)))
            continue
        instances = []
        for number, line in lines:
            where = f"{labels}, line {number}"
            found = _instance(line, header, file.class_names, f"line {number}")
            if isinstance(found, Instance):
                instances.append(found)
            else:
                kind, reason = found
                message = f"{where} {reason}; it is left out"
                findings.append(Finding("warning", kind, image_id, message))
        records.append(ImageRecord(image_id, str(picture), *header.size, tuple(instances)))
    if any(item.severity == "error" for item in findings):
        return None, findings
    return Dataset(file.class_names, tuple(records), tuple(findings)), findings


def _pictures(base: Path, value: object, path: Path) -> list[Path]:
    """The pictures of a split, from folders or from text files that list them."""
    found: list[Path] = []
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, str):
            raise UserError(
                f"{path}: a split must be a folder or a list of them, not {shown(item)}"
            )
        place = base / item
        # Roboflow writes ../train/images for a folder beside data.yaml.
        for other in (item, item.removeprefix("../")):
            if _exists(path.parent / other) and not _exists(place):
                place = path.parent / other
        if place.suffix == ".txt" and _exists(place):
            try:
                rows = read_utf8(place).split("\n")
            except (OSError, ValueError) as error:
                raise UserError(f"{place} cannot be read ({error})") from error
            found += [place.parent / row.strip() for row in rows if row.strip()]
        elif _exists(place):
            found += sorted(p for p in place.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES)
        else:
            raise UserError(f"{path}: there is no folder {shown(place, 400)}")
    if not found:
        raise UserError(f"{path}: {shown(value)} holds no picture ({', '.join(PHOTO_SUFFIXES)})")
    return [Path(os.path.normpath(picture)) for picture in found]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long
        return False


def _labels_of(picture: Path) -> Path:
    """labels/… for images/… (the last folder with that name); else beside the picture."""
    parts = list(picture.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _lines(path: Path) -> list[tuple[int, str]]:
    """The non-empty lines of a label file, numbered from 1; none if there is no file."""
    try:
        text = read_utf8(path)
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({shown(error)})") from error
    return [(k, line) for k, line in enumerate(text.splitlines(), 1) if line.strip()]


def _instance(
    line: str, header: Header, class_names: Sequence[str], label: str
) -> Instance | tuple[str, str]:
    """The object in a line, or (kind, words) for why it is left out."""
    try:
        numbers = [float(word) for word in line.split()]
    except ValueError:
        return "label", f"has words that are not numbers ({shown(line, 60)})"
    if len(numbers) != 5 and (len(numbers) < 7 or len(numbers) % 2 == 0):
        return "label", (
            f"has {len(numbers)} numbers: it needs a class and four of a box, or those of three "
            "points or more"
        )
    category, places = numbers[0], np.array(numbers[1:])
    if not category.is_integer() or not 0 <= category < len(class_names):
        return "category", f"has the class {category:g}, but there are {len(class_names)}"
    if not np.isfinite(places).all() or places.min() < -_SLACK or places.max() > 1 + _SLACK:
        return "label", "has numbers outside 0 to 1: they must be shares of the picture's sides"
    height, width = header.size
    if len(places) == 4:
        x, y, w, h = places * [width, height, width, height]
        box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        if w <= 0 or h <= 0 or not is_inside(box, height, width):
            return "box", "has an empty box, or one outside the picture"
        return Instance(int(category), tuple(map(float, box)), None, label=label)
    points = places.reshape(-1, 2).clip(0, 1) * [width, height]
    rle = mask_utils.merge(mask_utils.frPyObjects([points.ravel().tolist()], height, width))
    if not mask_utils.area(rle):
        return "no_mask", "has a polygon without a pixel"
    box = (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())
    return Instance(int(category), box, rle, label=label)
