"""One picture of a folder in VOC's layout: the rules by which files become objects.

Loading and checking both use `read_voc_image`, so that they cannot disagree. Value k in
SegmentationObject is the k-th `<object>` of the XML; 255 is void and belongs to no object.
"""

import math
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
import numpy as np
from defusedxml import DefusedXmlException

from atto_det.data.files import read_bytes
from atto_det.data.images import read_header, read_image, read_palette_png
from atto_det.data.masks import box_iou, encode_labels, is_inside, mask_box
from atto_det.data.orientation import UPRIGHT, Header, turn, turn_box
from atto_det.data.records import Finding, ImageRecord, Instance
from atto_det.data.voc_folder import VocFiles, VocFolder
from atto_det.errors import UserError, shown

VOID = 255
# VOC's void border, 5 pixels wide, runs along the outline of an object. The box encloses all of it,
# but the mask lacks its inner half: for a person of 10x25 pixels, that alone gives an IoU below
# 0.4.
VOID_MARGIN = 3
# Below this, even with the border added, box and mask can hardly belong to one object. The lowest
# value among 4,133 hand-drawn car parts is 0.89; of 275 VOC objects whose masks a program derived
# from boxes, 3 are below it (without the border 13, most of them small and correct).
MIN_BOX_MASK_IOU = 0.5


class _Object(NamedTuple):
    name: str
    box: tuple[float, float, float, float]
    difficult: bool


class _Report:
    """Collects the findings of one picture."""

    def __init__(self, image_id: str):
        self.image_id = image_id
        self.findings: list[Finding] = []

    @property
    def failed(self) -> bool:
        return any(item.severity == "error" for item in self.findings)

    def error(self, kind: str, message: str) -> None:
        self.findings.append(Finding("error", kind, self.image_id, message))

    def warning(self, kind: str, message: str) -> None:
        self.findings.append(Finding("warning", kind, self.image_id, message))

    def note(self, kind: str, message: str) -> None:
        self.findings.append(Finding("note", kind, self.image_id, message))

    def attempt(self, read, *arguments):
        """The result of `read`; if it fails, None, and the error is recorded."""
        try:
            return read(*arguments)
        except UserError as error:
            self.error("file", str(error))
            return None


def read_voc_image(
    folder: VocFolder, image_id: str, class_names: tuple[str, ...], *, decode: bool = False
) -> tuple[ImageRecord | None, list[Finding]]:
    """Read one picture's size, objects and masks, and collect all problems in them.

    Args:
        image_id: name of the picture's files without suffix.
        class_names: classes by index; SegmentationClass holds the index + 1.
        decode: decode the whole JPEG (about 4 ms for 500x375) rather than only its header.

    Returns:
        The record, and the findings, of these kinds. Errors (the record is then None): `file`
        (missing, unreadable or malformed), `size`, `class`. Warnings (that object is left out):
        `no_object`, `no_mask`, `box`, `class` (of a mask without an XML). Notes: `orientation`.
    """
    report = _Report(image_id)
    files = report.attempt(folder.files, image_id)
    if files is None:
        return None, report.findings
    header = report.attempt(_decoded_header if decode else read_header, files.jpeg)
    annotation = files.xml and report.attempt(_read_xml, files.xml)
    classes = files.class_png and report.attempt(read_palette_png, files.class_png)
    labels = files.object_png and report.attempt(read_palette_png, files.object_png)
    if report.findings:
        return None, report.findings

    sizes = {
        files.xml: annotation and annotation[0],
        files.class_png: None if classes is None else classes.shape,
        files.object_png: None if labels is None else labels.shape,
    }
    turns = {path: _orientation(report, path, size, files, header) for path, size in sizes.items()}
    if report.failed:
        return None, report.findings
    objects = annotation and [
        item._replace(box=turn_box(item.box, turns[files.xml], *header.size))
        for item in annotation[1]
    ]
    if labels is None:
        instances = _boxes_alone(report, files, objects, class_names, header.size)
    else:
        labels, classes = (
            turn(labels, turns[files.object_png]),
            turn(classes, turns[files.class_png]),
        )
        instances = _with_masks(report, files, labels, classes, objects, class_names)
    if report.failed:
        return None, report.findings
    as_stored = classes is None or turns[files.class_png] != UPRIGHT
    semantic = None if as_stored else str(files.class_png)
    return (
        ImageRecord(image_id, str(files.jpeg), *header.size, instances, semantic),
        report.findings,
    )


def _orientation(
    report: _Report, path: Path | None, size: tuple[int, int] | None, files: VocFiles, head: Header
) -> int:
    """The orientation to turn an annotation file of this size by; an error if no size matches."""
    if size is None or path is None:
        return UPRIGHT
    found = head.drawn_on(size)
    if found is None:
        report.error(
            "size",
            f"{path} is {size[1]}x{size[0]} pixels, but {files.jpeg.name} is"
            f" {head.width}x{head.height}: all files of a picture must have one size",
        )
    elif found != UPRIGHT:
        report.note(
            "orientation",
            f"{path} has the size of {files.jpeg.name} as stored, not upright as its EXIF "
            f"orientation {found} shows it: its annotations are turned with the picture",
        )
    return found or UPRIGHT


def _boxes_alone(report, files, objects, class_names, size) -> tuple[Instance, ...]:
    """The objects of an XML, without masks."""
    categories = _categories(report, files, objects, class_names)
    instances = []
    for number, item in enumerate(objects, 1):
        if not is_inside(item.box, *size):
            report.warning(
                "box",
                f"{files.xml}: object {number} ({item.name}) has the box {item.box}, which lies"
                f" outside {files.jpeg.name}; it is left out",
            )
        elif item.name in categories:
            category = categories[item.name]
            instances.append(Instance(category, item.box, None, item.difficult, f"object {number}"))
    return tuple(instances)


def _with_masks(report, files, labels, classes, objects, class_names) -> tuple[Instance, ...]:
    categories = _categories(report, files, objects or [], class_names)
    # counts[value in SegmentationObject, value in SegmentationClass], in pixels
    pairs = labels.astype(np.uint16) * 256 + classes
    counts = np.bincount(pairs.ravel(), minlength=65536).reshape(256, 256)
    _check_class_values(report, files, counts, class_names)
    if report.failed:
        return ()
    if objects is None:
        return _masks_alone(report, files, labels, counts)
    _check_agreement(report, files, counts, objects, class_names)
    if report.failed:
        return ()
    return _instances(report, files, labels, objects, categories)


def _categories(report, files, objects, class_names) -> dict[str, int]:
    """Class indices by name; each object with an unknown class is an error."""
    categories = {name: index for index, name in enumerate(class_names)}
    for number, item in enumerate(objects, 1):
        if item.name not in categories:
            report.error(
                "class",
                f"{files.xml}: object {number} is a {shown(item.name)}, which is not one of the"
                f" {len(class_names)} classes ({', '.join(class_names[:3])}, …); class_names.txt"
                " beside the folders may name others",
            )
    return categories


def _check_class_values(report, files, counts, class_names) -> None:
    present = np.flatnonzero(counts.sum(axis=0))
    for value in present[(present > len(class_names)) & (present != VOID)].tolist():
        report.error(
            "class",
            f"{files.class_png} has pixels of value {value}, but there are only"
            f" {len(class_names)} classes (0 is background, 255 void)",
        )


def _check_agreement(report, files, counts, objects, class_names) -> None:
    """Check that the non-void pixels of every object have the object's class."""
    names = ("background", *class_names)
    for number, item in enumerate(objects[: VOID - 1], 1):
        row = counts[number, :VOID]
        wrong = row.copy()
        wrong[names.index(item.name, 1)] = 0
        if wrong.any():
            report.error(
                "class",
                f"{files.object_png}: object {number} is a {item.name} in {files.xml.name}, but"
                f" {int(wrong.sum())} of its {int(row.sum())} pixels are"
                f" {names[int(wrong.argmax())]} in SegmentationClass",
            )


def _masks_alone(report, files, labels, counts) -> tuple[Instance, ...]:
    """The objects of SegmentationObject without XMLs, with tight boxes."""
    instances = []
    for value, rle in encode_labels(labels).items():
        votes = counts[value, :VOID]
        if np.count_nonzero(votes) != 1 or not votes[1:].any():
            report.warning(
                "class",
                f"{files.object_png}: mask value {value} has pixels of the values"
                f" {np.flatnonzero(votes).tolist()} in SegmentationClass, where there should be one"
                " class; it is left out",
            )
            continue
        category = int(votes.argmax()) - 1
        instances.append(Instance(category, mask_box(rle), rle, label=f"mask value {value}"))
    return tuple(instances)


def _instances(report, files, labels, objects, categories) -> tuple[Instance, ...]:
    masks = encode_labels(labels)
    instances = []
    for number, item in enumerate(objects, 1):
        rle = masks.pop(number, None)
        if rle is None:
            report.warning(
                "no_mask",
                f"{files.object_png}: object {number} ({item.name}) of {files.xml.name} has no"
                " pixel; it is left out",
            )
            continue
        overlap = box_agreement(item.box, rle)
        if overlap < MIN_BOX_MASK_IOU:
            report.warning(
                "box",
                f"{files.object_png}: object {number} ({item.name}) has a mask whose box overlaps"
                f" the one in {files.xml.name} by {overlap:.4f} (IoU), less than"
                f" {MIN_BOX_MASK_IOU}; it is left out",
            )
            continue
        category = categories[item.name]
        instances.append(Instance(category, item.box, rle, item.difficult, f"object {number}"))
    for value in masks:
        report.warning(
            "no_object",
            f"{files.object_png}: mask value {value} has no object in {files.xml.name}, which has"
            f" {len(objects)}; it is left out",
        )
    return tuple(instances)


def box_agreement(box: tuple[float, float, float, float], rle: dict) -> float:
    """IoU of a box with the mask's box, without or with the void border added, whichever is higher.

    1 if no side differs by more than a pixel, which is the error of drawing masks in whole pixels.
    """
    mask = mask_box(rle)
    if all(abs(side - other) <= 1 for side, other in zip(box, mask, strict=True)):
        return 1.0
    left, top, right, bottom = mask
    m = VOID_MARGIN
    grown = (left - m, top - m, right + m, bottom + m)
    return max(box_iou(box, mask), box_iou(box, grown))


def _decoded_header(path: Path) -> Header:
    read_image(path)
    return read_header(path)


def _read_xml(path: Path) -> tuple[tuple[int, int], list[_Object]]:
    """((height, width), objects in the order of the file)."""
    try:
        top = defusedxml.ElementTree.fromstring(read_bytes(path), forbid_dtd=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be read ({error.strerror})") from error
    except DefusedXmlException as error:
        raise UserError(
            f"{path} declares a document type or entities, which no VOC annotation needs and an"
            " attack would; remove the declaration"
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path} is not well-formed XML ({error})") from error
    size = (
        int(_number(top, "size/height", path)),
        int(_number(top, "size/width", path)),
    )
    return size, [
        _read_object(item, f"{path}: object {number}")
        for number, item in enumerate(top.findall("object"), 1)
    ]


def _read_object(item: Element, where: str) -> _Object:
    name = (item.findtext("name") or "").strip()
    if not name:
        raise UserError(f"{where} has no <name>")
    left, top, right, bottom = (
        _number(item, f"bndbox/{side}", where) for side in ("xmin", "ymin", "xmax", "ymax")
    )
    if right < left or bottom < top:
        raise UserError(f"{where} ({name}) has an empty box: {left, top, right, bottom}")
    difficult = (item.findtext("difficult") or "0").strip() == "1"
    # VOC counts pixels from 1 and includes the last one.
    return _Object(name, (left - 1, top - 1, right, bottom), difficult)


def _number(element: Element, tag: str, where: object) -> float:
    text = element.findtext(tag)
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not abs(value) < 1e9:  # nor NaN
        raise UserError(
            f"{where} has no number in <{tag.replace('/', '><')}> (found {shown(text)})"
        )
    return value
