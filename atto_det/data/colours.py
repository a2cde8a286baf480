"""Coloured label images, as annotation tools export them, converted to palette indices.

A colour table assigns a colour to each class: CVAT's labelmap.txt (`cup:250,50,83:parts:actions`)
or lines that begin in the same way. In SegmentationObject each colour is an object. With Pascal's
own palette, objects get its indices, in the order of the XMLs; other colours are numbered in the
order in which they occur, from top to bottom.
"""

import os
import shutil
from pathlib import Path

import numpy as np

from atto_det.data.images import colour_codes, opened, palette_indices, write_palette_png
from atto_det.data.records import Progress
from atto_det.data.voc_folder import MOST_CLASSES
from atto_det.data.voc_image import VOID
from atto_det.errors import UserError, atomic_folder, shown


def read_colours(path: str | os.PathLike) -> dict[str, int]:
    """The colour of each class in a table, 0xRRGGBB, in the table's order, without the background.

    Raises:
        UserError: the file is unreadable, a line has the wrong form, or a class or colour is
            repeated.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error})") from error
    found: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        parts = rest.split(":")[0].split(",")
        if len(parts) != 3 or not all(p.strip().isdecimal() and int(p) < 256 for p in parts):
            raise UserError(
                f"{path}, line {number}: {shown(line, 60)} is not a class and colour, such as "
                "cup:250,50,83"
            )
        red, green, blue = map(int, parts)
        colour = red << 16 | green << 8 | blue
        if name == "background" or colour == 0:
            continue
        if name in found or colour in found.values():
            raise UserError(f"{path}, line {number}: this class or colour is in an earlier line")
        found[name] = colour
    if not 1 <= len(found) <= MOST_CLASSES:
        raise UserError(f"{path} has {len(found)} classes; it needs 1 to {MOST_CLASSES}")
    return found


def from_colours(
    folder: str | os.PathLike,
    table: str | os.PathLike,
    target: str | os.PathLike,
    progress: Progress = iter,
) -> int:
    """Copy a folder in VOC's layout to the new folder `target`, with label images as indices.

    Returns:
        The number of pictures that have label images.

    Raises:
        UserError: `target` exists, there are no label images, a colour is not in the table, a
            picture has more objects than an 8-bit image can hold, or objects have other colours
            than Pascal's although there are XMLs, which number the objects.
    """
    folder, target = Path(folder), Path(target)
    colours = read_colours(table)
    if target.exists():
        raise UserError(f"{target} exists: choose a folder that does not exist")
    names = sorted(path.name for path in (folder / "SegmentationObject").glob("*.png"))
    if not names:
        raise UserError(
            f"{folder / 'SegmentationObject'} has no PNG: classes alone do not tell objects apart; "
            "export instance masks"
        )
    with atomic_folder(target) as temporary:
        for name in ("JPEGImages", "Annotations", "ImageSets"):
            if (folder / name).is_dir():
                shutil.copytree(folder / name, temporary / name)
        counted = (temporary / "Annotations").is_dir()
        for name in ("SegmentationClass", "SegmentationObject"):
            (temporary / name).mkdir()
        for name in progress(names):
            classes = _classes(folder / "SegmentationClass" / name, colours)
            objects = _objects(folder / "SegmentationObject" / name, counted)
            write_palette_png(temporary / "SegmentationClass" / name, classes)
            write_palette_png(temporary / "SegmentationObject" / name, objects)
        text = "".join(f"{name}\n" for name in colours)
        (temporary / "class_names.txt").write_text(text, encoding="utf-8")
    return len(names)


def _codes(path: Path) -> np.ndarray:
    """The colours of a picture, 0xRRGGBB (H, W); only lossless formats are allowed."""
    with opened(path) as image:
        if image.format != "PNG":
            raise UserError(f"{path} is not a PNG: other formats change colours")
        return colour_codes(np.array(image.convert("RGB")))


def _classes(path: Path, colours: dict[str, int]) -> np.ndarray:
    codes = _codes(path)
    labels = np.zeros(codes.shape, np.uint8)
    known = codes == 0
    for index, colour in enumerate(colours.values(), 1):
        here = codes == colour
        labels[here] = index
        known |= here
    void = ~known & (codes == 0xE0E0C0)  # Pascal's colour for void
    labels[void] = VOID
    known |= void
    if not known.all():
        y, x = np.argwhere(~known)[0].tolist()
        code = int(codes[y, x])
        raise UserError(
            f"{path} has the colour {code >> 16},{code >> 8 & 255},{code & 255} at x {x}, y {y}, "
            "which is not in the table"
        )
    return labels


def _objects(path: Path, counted: bool) -> np.ndarray:
    codes = _codes(path)
    if (labels := palette_indices(codes)) is not None:
        return labels
    if counted:
        raise UserError(
            f"{path} has other colours than Pascal's palette, so it is unknown which object of "
            "its XML is which: remove Annotations, and boxes follow from the masks"
        )
    values, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    order = [k for k in np.argsort(first).tolist() if values[k] not in (0, 0xE0E0C0)]
    if len(order) >= VOID:
        raise UserError(f"{path} has {len(order)} objects; VOC's layout holds {VOID - 1}")
    table = np.zeros(len(values), np.uint8)
    table[values == 0xE0E0C0] = VOID
    for number, k in enumerate(order, 1):
        table[k] = number
    return table[inverse.reshape(codes.shape)]
