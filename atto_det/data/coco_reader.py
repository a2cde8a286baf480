"""Reading COCO's instance JSON: whatever can be used is used, the rest is reported.

An invalid entry of `images` or `categories` is an error, and the file is not used. An invalid entry
of `annotations` is only left out, and reported with its id and the reason.
"""

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from atto_det.data.coco_masks import MAX_SIDE, is_number, read_mask
from atto_det.data.files import read_bytes
from atto_det.data.images import read_header, read_image
from atto_det.data.masks import is_inside, mask_box
from atto_det.data.orientation import UPRIGHT, Box, turn_box, turn_rle
from atto_det.data.records import Dataset, Finding, ImageRecord, Instance, Progress, image_ids
from atto_det.data.voc_image import MIN_BOX_MASK_IOU, box_agreement
from atto_det.errors import UserError, shown


class _Picture(NamedTuple):
    """An entry of `images`: its record, and what is needed to interpret its annotations."""

    record: ImageRecord
    stated: tuple[int, int]  # height and width of the masks
    orientation: int  # by which masks and boxes must be turned
    instances: list[Instance]
    crowds: list[Instance]


class _Wrong(Exception):
    """Why an annotation is left out: the kind of finding, and words that follow its name."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def read_coco(
    json_path: str | os.PathLike,
    image_root: str | os.PathLike,
    *,
    decode: bool = False,
    progress: Progress = iter,
) -> tuple[Dataset | None, list[Finding]]:
    """Read a file as `load_coco` does, and list all problems in it.

    Args:
        decode: decode each picture completely rather than only its header.
        progress: wraps the list of pictures to show the progress.

    Returns:
        The data set (None if there are errors) and the findings. Errors: `structure`, `file`,
        `size`. Warnings, each for one annotation: `crowd`, `no_mask`, `box`, `image`, `category`,
        `structure`. Notes: `orientation`, `polygon`, `boxes`, `category`.

    Raises:
        UserError: the file is not JSON.
    """
    return _Reader(Path(json_path), Path(image_root).resolve()).read(decode, progress)


class _Reader:
    def __init__(self, path: Path, image_root: Path) -> None:
        self.path, self.image_root = path, image_root
        self.findings: list[Finding] = []
        self.checked = self.apart = self.corners = 0  # counts for comparing boxes with masks

    def read(self, decode: bool, progress: Progress) -> tuple[Dataset | None, list[Finding]]:
        content = _load(self.path)
        lists = [self.entries(content, key) for key in ("images", "annotations", "categories")]
        if None in lists:
            return None, self.findings
        images, annotations, categories = lists
        used = {_plain(_get(item, "category_id")) for _, item in annotations} - {None}
        names = self.categories(categories, used)
        pictures = self.pictures(images, decode, progress)
        if self.failed:
            return None, self.findings
        numbers = {category: index for index, category in enumerate(names)}
        for where, item in annotations:
            self.annotation(where, item, pictures, numbers)
        self.judge_boxes()
        records = tuple(
            replace(one.record, instances=tuple(one.instances), crowds=tuple(one.crowds))
            for one in pictures.values()
        )
        if annotations and not any(item.instances or item.crowds for item in records):
            first = next(item for item in self.findings if item.severity == "warning")
            self.error(
                "structure",
                f"{self.path}: none of its {len(annotations)} annotations can be used; the first: "
                f"{first.message}",
            )
            return None, self.findings
        dataset = Dataset(tuple(names.values()), records, tuple(self.findings), tuple(names))
        return dataset, self.findings

    @property
    def failed(self) -> bool:
        return any(item.severity == "error" for item in self.findings)

    def error(self, kind: str, message: str, image_id: str = "") -> None:
        self.findings.append(Finding("error", kind, image_id, message))

    def note(self, kind: str, message: str, image_id: str = "") -> None:
        self.findings.append(Finding("note", kind, image_id, message))

    def entries(self, content: object, key: str) -> list[tuple[str, object]] | None:
        """The entries of the list `key`, each with words that say where it is."""
        items = _get(content, key)
        if not isinstance(items, list):
            self.error("structure", f"{self.path}: the top level needs the key '{key}' (list)")
            return None
        return [(f"{key}[{index}]", item) for index, item in enumerate(items)]

    def categories(self, entries: list, used: set) -> dict[int | str, str]:
        """Class names by id, in the order of the ids, without unused roots."""
        found: dict[int | str, dict] = {}
        for where, item in entries:
            number, name = _plain(_get(item, "id")), _get(item, "name")
            if number is None or not isinstance(name, str):
                key = "id' (int or str)" if number is None else "name' (str)"
                self.error("structure", f"{self.path}: {where} needs the key '{key}")
            elif number in found:
                self.error("structure", f"{self.path}: {where} has the id of another category")
            else:
                found[number] = item
        if not found and not self.failed:
            self.error("structure", f"{self.path}: categories must have at least one entry")
        names = Counter(item["name"] for item in found.values())
        parents = [item.get("supercategory") for item in found.values()]
        for number, item in list(found.items()):
            # Roboflow writes the root of its tree as a category; other tools repeat a name.
            idle = not (number in used or _other_form(number) in used)
            name, last = item["name"], names[item["name"]] == 1
            own_parent = item.get("supercategory") == name and names[name] == 1
            if idle and (not last or (name in parents and not own_parent)):
                del found[number]
                names[name] -= 1
                self.note(
                    "category",
                    f"{self.path}: category {shown(number)} ({shown(name)}) has no annotation, and "
                    "is the root of the others or has the name of another; it is not a class",
                )
        if twice := [name for name, count in names.items() if count > 1]:
            ids = [number for number, item in found.items() if item["name"] == twice[0]]
            self.error(
                "structure",
                f"{self.path}: the categories {shown(ids)} all have the name {shown(twice[0])}: "
                "rename them, or give their annotations one id",
            )
        order = sorted(found, key=lambda number: (isinstance(number, str), number))
        return {number: found[number]["name"] for number in order}

    def pictures(self, entries: list, decode: bool, progress: Progress) -> dict:
        """The usable entries of `images` by id; the others are reported as errors."""
        stated = (_get(item, "file_name") for _, item in entries)
        files = list(dict.fromkeys(name for name in stated if isinstance(name, str)))
        ids = dict(zip(files, image_ids(files), strict=True))
        found: dict[int | str, _Picture] = {}
        names: set[str] = set()
        for where, item in progress(entries):
            name, number = _get(item, "file_name"), _plain(_get(item, "id"))
            if number is None or not isinstance(name, str) or not Path(name).name:
                key = "id' (int or str)" if number is None else "file_name' (str)"
                self.error("structure", f"{self.path}: {where} needs the key '{key}")
                continue
            if number in found or name in names:
                self.error(
                    "structure",
                    f"{self.path}: {where} has the id or the file_name of another image",
                )
                continue
            names.add(name)
            if picture := self.picture(where, item, number, ids[name], decode):
                found[number] = picture
        return found

    def picture(
        self, where: str, item: dict, number: int | str, image_id: str, decode: bool
    ) -> _Picture | None:
        file = self.image_root / item["file_name"]
        sides = [_whole(item.get(key)) for key in ("height", "width")]
        missing = [item.get(key) is None for key in ("height", "width")]
        if not all(missing) and not all(side and 1 <= side <= MAX_SIDE for side in sides):
            self.error(
                "structure",
                f"{self.path}: {where} needs a height and width of 1 to {MAX_SIDE}",
                image_id,
            )
            return None
        try:
            if decode:
                read_image(file)
            header = read_header(file)
        except UserError as error:
            self.error("file", f"{error} ({self.path}: {where} lists it)", image_id)
            return None
        stated = header.size if all(missing) else (sides[0], sides[1])
        orientation = header.drawn_on(stated)
        if orientation is None:
            self.error(
                "size",
                f"{file} measures {header.width}x{header.height} pixels, but {self.path}: {where} "
                f"says {stated[1]}x{stated[0]} (width x height)",
                image_id,
            )
            return None
        if orientation != UPRIGHT:
            self.note(
                "orientation",
                f"{self.path}: {where} has the size of {file.name} as stored, not upright as its "
                f"EXIF orientation {orientation} shows it: its annotations are turned with it",
                image_id,
            )
        record = ImageRecord(image_id, str(file), header.height, header.width, (), coco_id=number)
        return _Picture(record, stated, orientation, [], [])

    def annotation(self, where: str, item: object, pictures: dict, numbers: dict) -> None:
        """Add an object to its picture, or report a finding."""
        picture = _lookup(pictures, _get(item, "image_id"))
        label = where
        if (own := _plain(_get(item, "id"))) is not None:
            label = f"{where} (id {shown(own, 60)})"
        try:
            if _plain(_get(item, "image_id")) is None:
                raise _Wrong("structure", "needs the key 'image_id' (int or str)")
            if picture is None:
                raise _Wrong("image", f"has the unknown image_id {shown(item['image_id'])}")
            if _plain(item.get("category_id")) is None:
                raise _Wrong("structure", "needs the key 'category_id' (int or str)")
            category = _lookup(numbers, item["category_id"])
            if category is None:
                raise _Wrong(
                    "category", f"has the unknown category_id {shown(item['category_id'])}"
                )
            instance = self.instance(label, item, category, picture)
        except _Wrong as wrong:
            file = f" ({picture.record.file_name})" if picture else ""
            message = f"{self.path}: {label} {wrong}{file}; it is left out"
            image_id = picture.record.image_id if picture else ""
            self.findings.append(Finding("warning", wrong.kind, image_id, message))
            return
        if item.get("iscrowd") in (None, 0, "0"):
            picture.instances.append(instance)
            return
        picture.crowds.append(instance)
        message = (
            f"{self.path}: {label} is a crowd region, not an object ({picture.record.file_name}); "
            "training leaves it out, evaluation treats it as void"
        )
        self.findings.append(Finding("warning", "crowd", picture.record.image_id, message))

    def instance(self, label: str, item: dict, category: int, picture: _Picture) -> Instance:
        height, width = picture.stated
        is_crowd = item.get("iscrowd") not in (None, 0, "0")
        mask = read_mask(item.get("segmentation"), height, width)
        box = _box(item)
        rle = mask.rle
        if rle is None and box is None:
            raise _Wrong("crowd" if is_crowd else mask.kind, mask.reason)
        if box is None:
            box = mask_box(rle)
        elif not is_inside(box, height, width):
            raise _Wrong("box", f"has a box that lies outside the picture ({shown(box)})")
        elif rle is not None and not is_crowd:
            self.compare(box, rle)
        if rle is None and is_crowd:
            rle = read_mask([_corners(box, height, width)], height, width).rle
            if rle is None:
                raise _Wrong("crowd", mask.reason)
        if mask.stray:
            self.note(
                "polygon",
                f"{self.path}: {label} has {mask.stray} polygons that have fewer than three points "
                f"or are malformed ({picture.record.file_name}); the mask consists of the others",
                picture.record.image_id,
            )
        box = turn_box(box, picture.orientation, picture.record.height, picture.record.width)
        rle = rle and turn_rle(rle, picture.orientation)
        difficult = item.get("difficult") in (1, True, "1")
        return Instance(category, box, rle, difficult, label)

    def compare(self, box: Box, rle: dict) -> None:
        """Raise an error unless box and mask belong to one object, as in VOC's layout."""
        self.checked += 1
        overlap = box_agreement(box, rle)
        if overlap >= MIN_BOX_MASK_IOU:
            return
        self.apart += 1
        left, top, right, bottom = box
        corners = (left, top, right - left, bottom - top)  # if XYXY was meant
        if corners[2] > left and corners[3] > top:
            self.corners += box_agreement(corners, rle) >= MIN_BOX_MASK_IOU
        raise _Wrong(
            "box",
            f"has a mask whose box overlaps its 'bbox' by {overlap:.4f} (IoU), less than "
            f"{MIN_BOX_MASK_IOU}",
        )

    def judge_boxes(self) -> None:
        """Add a note if many boxes disagree with their masks."""
        if not self.apart:
            return
        share = f"{self.apart} of {self.checked} boxes ({self.apart / self.checked:.0%})"
        why = (
            f"{self.corners} agree if read as x1, y1, x2, y2; COCO's are x, y, width, height"
            if self.corners
            else "look at some of them"
        )
        self.note("boxes", f"{self.path}: {share} disagree with their masks; {why}")


def _load(path: Path) -> object:
    try:
        return json.loads(read_bytes(path))
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be read ({error.strerror})") from error
    except RecursionError as error:
        raise UserError(f"{path} is not a JSON of COCO: its lists are nested too deeply") from error
    except ValueError as error:
        raise UserError(f"{shown(path)} is not JSON ({shown(error)})") from error


def _get(item: object, key: str) -> object:
    return item.get(key) if isinstance(item, dict) else None


def _plain(value: object) -> int | str | None:
    """An id as it may appear in JSON: 7, "7" or 7.0; None if the value is not an id."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _other_form(number: int | str | None) -> int | str | None:
    """An integer id as text, or a text id as an integer."""
    if isinstance(number, int):
        return str(number) if abs(number) < 10**18 else None
    if isinstance(number, str) and number.isdecimal() and len(number) < 19:
        return int(number)
    return None


def _lookup(found: dict, value: object):
    """The value with this id, or with the same id written as text or as a number."""
    number = _plain(value)
    return found.get(number, found.get(_other_form(number)))


def _whole(value: object) -> int | None:
    number = _plain(value)
    return number if isinstance(number, int) else _other_form(number)


def _box(item: dict) -> Box | None:
    """The annotation's `bbox` as XYXY; None if it has none."""
    if item.get("bbox") is None:
        return None
    numbers = item["bbox"]
    if not isinstance(numbers, list) or len(numbers) != 4 or not all(map(is_number, numbers)):
        raise _Wrong("box", "needs four numbers in 'bbox'")
    left, top, width, height = map(float, numbers)
    if width <= 0 or height <= 0:
        raise _Wrong("box", "has an empty box")
    return left, top, left + width, top + height


def _corners(box: Box, height: int, width: int) -> list[float]:
    """A box as a polygon, clipped to the picture."""
    left, right = max(box[0], 0), min(box[2], width)
    top, bottom = max(box[1], 0), min(box[3], height)
    return [left, top, right, top, right, bottom, left, bottom]
