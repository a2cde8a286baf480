"""COCO's instance JSON: written with RLE masks, read with polygons, RLE or compressed RLE."""

import json
import os
from pathlib import Path

import numpy as np
from pycocotools import mask as mask_utils

from atto_det.data.masks import mask_box
from atto_det.data.records import Dataset, Finding, ImageRecord, Instance
from atto_det.errors import UserError

_MAX_SIDE = 65535  # of a picture in pixels, which is JPEG's limit


def to_coco(dataset: Dataset, image_root: str | os.PathLike) -> dict:
    """The data set as COCO's JSON object; the same data set gives the same object.

    Image, annotation and category ids count from 1 in the order of the data set. `bbox` is XYWH of
    the annotated box, `area` the number of mask pixels, and the extra key `difficult` is 0 or 1.

    Args:
        image_root: folder that `file_name` is relative to.

    Raises:
        UserError: a picture lies outside `image_root`.
    """
    image_root = Path(image_root).resolve()
    images, annotations = [], []
    for image_number, record in enumerate(dataset.records, 1):
        try:
            name = Path(record.file_name).relative_to(image_root).as_posix()
        except ValueError as error:
            raise UserError(f"{record.file_name} lies outside {image_root}") from error
        images.append(
            {
                "id": image_number,
                "file_name": name,
                "height": record.height,
                "width": record.width,
            }
        )
        for item in record.instances:
            left, top, right, bottom = item.box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_number,
                    "category_id": item.category + 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "area": int(mask_utils.area(item.rle)),
                    "iscrowd": 0,
                    "difficult": int(item.difficult),
                    "segmentation": {
                        "size": list(item.rle["size"]),
                        "counts": item.rle["counts"].decode("ascii"),
                    },
                }
            )
    categories = [
        {"id": number, "name": name} for number, name in enumerate(dataset.class_names, 1)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def load_coco(json_path: str | os.PathLike, image_root: str | os.PathLike) -> Dataset:
    """Read COCO's instance JSON.

    Categories are sorted by id and numbered from 0. An image's id is its `file_name` without the
    suffix. Left out, with one warning each: crowd regions (`crowd`: a region is no object, and
    neither training nor AP here has a use for it), empty masks (`no_mask`), empty boxes (`box`).
    The tight box of the mask stands in for a missing `bbox`; `difficult` is 0 where missing.

    Raises:
        UserError: the file is unreadable or malformed (it names the key), or a picture is missing.
    """
    path, image_root = Path(json_path), Path(image_root).resolve()
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON ({error})") from error
    reader = _Reader(path)
    images = reader.entries(content, "images")
    annotations = reader.entries(content, "annotations")
    categories = sorted(
        (reader.get(item, "id", int, where), reader.get(item, "name", str, where))
        for where, item in reader.entries(content, "categories")
    )
    numbers = {category: index for index, (category, _) in enumerate(categories)}
    if not categories or len(numbers) < len(categories):
        raise UserError(f"{path}: categories must have at least one entry, each with its own id")

    records, places = {}, {}
    for where, item in images:
        record = reader.image(item, where, image_root)
        key = reader.get(item, "id", (int, str), where)
        if key in records or record.image_id in places:
            raise UserError(f"{path}: {where} has the id or the file_name of another image")
        places[record.image_id] = key
        records[key] = (record, [])
    findings: list[Finding] = []
    for where, item in annotations:
        key = reader.get(item, "image_id", (int, str), where)
        if key not in records:
            raise UserError(f"{path}: {where} has the unknown image_id {key!r}")
        category = reader.get(item, "category_id", int, where)
        if category not in numbers:
            raise UserError(f"{path}: {where} has the unknown category_id {category}")
        record, instances = records[key]
        found = reader.instance(item, where, numbers[category], record)
        if isinstance(found, Instance):
            instances.append(found)
        else:
            kind, what = found
            message = f"{path}: {where} ({record.file_name}) {what}; it is left out"
            findings.append(Finding("warning", kind, record.image_id, message))
    return Dataset(
        tuple(name for _, name in categories),
        tuple(
            ImageRecord(old.image_id, old.file_name, old.height, old.width, tuple(instances))
            for old, instances in records.values()
        ),
        tuple(findings),
    )


class _Reader:
    """Picks values out of untrusted JSON; its errors name the file and the key."""

    def __init__(self, path: Path):
        self.path = path

    def entries(self, content: object, key: str) -> list[tuple[str, dict]]:
        """The objects in the list `key`, each with the words that say where it is."""
        items = self.get(content, key, list, "the top level")
        return [(f"{key}[{index}]", item) for index, item in enumerate(items)]

    def get(self, item: object, key: str, kind: type | tuple, where: str):
        value = item.get(key) if isinstance(item, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            names = kind if isinstance(kind, tuple) else (kind,)
            wanted = " or ".join(name.__name__ for name in names)
            raise UserError(f"{self.path}: {where} needs the key {key!r} ({wanted})")
        return value

    def image(self, item: dict, where: str, image_root: Path) -> ImageRecord:
        name = self.get(item, "file_name", str, where)
        height, width = (self.get(item, key, int, where) for key in ("height", "width"))
        file = image_root / name
        if not file.is_file():
            raise UserError(f"{file} does not exist ({self.path}: {where} lists it)")
        if not (1 <= height <= _MAX_SIDE and 1 <= width <= _MAX_SIDE):
            raise UserError(f"{self.path}: {where} needs a height and width of 1 to {_MAX_SIDE}")
        return ImageRecord(str(Path(name).with_suffix("")), str(file), height, width, ())

    def instance(
        self, item: dict, where: str, category: int, record: ImageRecord
    ) -> Instance | tuple[str, str]:
        """The object, or (kind, words) of the reason why it is left out."""
        if item.get("iscrowd", 0):
            return "crowd", "is a crowd region, not an object"
        rle = self.mask(item.get("segmentation"), where, record.height, record.width)
        if not mask_utils.area(rle):
            return "no_mask", "has an empty mask"
        box = mask_box(rle)
        if "bbox" in item:
            numbers = self.get(item, "bbox", list, where)
            if len(numbers) != 4 or not _are_numbers(numbers):
                raise UserError(f"{self.path}: {where} needs four numbers in 'bbox'")
            left, top, width, height = (float(number) for number in numbers)
            if width <= 0 or height <= 0:
                return "box", "has an empty box"
            box = (left, top, left + width, top + height)
        return Instance(category, box, rle, bool(item.get("difficult", 0)))

    def mask(self, value: object, where: str, height: int, width: int) -> dict:
        wrong = UserError(
            f"{self.path}: {where} needs polygons or an RLE of {height}x{width} (height x width) in"
            " 'segmentation'"
        )
        if isinstance(value, list):
            if not value or not all(_is_polygon(polygon) for polygon in value):
                raise wrong
            return mask_utils.merge(mask_utils.frPyObjects(value, height, width))
        if not isinstance(value, dict) or value.get("size") != [height, width]:
            raise wrong
        counts = value.get("counts")
        if isinstance(counts, list):
            sound = all(isinstance(run, int) and run >= 0 for run in counts)
            if not sound or sum(counts) != height * width:
                raise wrong
            return mask_utils.frPyObjects(value, height, width)
        if not isinstance(counts, str) or _compressed_length(counts) != height * width:
            raise wrong
        return {"size": [height, width], "counts": counts.encode("ascii")}


def _are_numbers(values: list) -> bool:
    return all(
        isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value)
        for value in values
    )


def _is_polygon(value: object) -> bool:
    # pycocotools takes four numbers for a box, reads on behind an odd number of them, and asks for
    # memory in proportion to the outline.
    return (
        isinstance(value, list)
        and len(value) >= 6
        and len(value) % 2 == 0
        and _are_numbers(value)
        and max(map(abs, value)) <= _MAX_SIDE
    )


def _compressed_length(counts: str) -> int:
    """Pixels that a compressed RLE covers, or -1 if it is malformed.

    pycocotools' C code trusts these strings, so they are followed here first: five bits a
    character from 48 on, the sixth says that more follow, and from the fourth run on each is
    stored as its difference to the one two before it.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 30:
            return -1
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        if len(runs) > 2:
            value += runs[-2]
        if value < 0:
            return -1
        runs.append(value)
        value = shift = 0
    return -1 if shift else sum(runs)
