"""A generated data set in VOC's layout: drawn objects of the 20 classes in cluttered scenes.

It replaces VOC where that is not available: small enough to be learned in minutes on a CPU, with
VOC's own difficulties (sizes, occlusion, truncation, void borders, difficult objects). The same
arguments and versions of Pillow and numpy give the same bytes.
"""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from atto_det.data.images import write_palette_png
from atto_det.data.masks import box_iou
from atto_det.data.mini_voc_paint import Sprite, paint_grain, paint_scene, paint_sprite
from atto_det.data.records import Progress
from atto_det.data.voc_folder import VOC_CLASSES, VocFiles
from atto_det.data.voc_image import VOID
from atto_det.errors import UserError, atomic_folder

# Increase this with every change of the pictures.
VERSION = 1
PARAMETERS_FILE = "mini_voc.json"
_OBJECTS_PER_IMAGE = (1, 2, 3, 4, 5)
_OBJECTS_ODDS = (0.22, 0.30, 0.24, 0.15, 0.09)
_MIN_VISIBLE = 0.4  # of a silhouette; less could only be guessed, even by people
_MIN_PIXELS = 60  # of a mask, without its void border
_MIN_BOX_IOU = 0.6  # of the visible part with the mask: thin limbs can be lost to the border
_DIFFICULT_BELOW = 0.55  # visible share


class _Placed(NamedTuple):
    name: str
    silhouette: np.ndarray  # bool (H, W), before anything covers it
    pixels: int  # of the whole silhouette, including what is outside the picture
    truncated: bool


def generate(
    root: str | os.PathLike,
    train: int = 400,
    val: int = 100,
    seed: int = 0,
    size: tuple[int, int] = (160, 240),
    progress: Progress = iter,
) -> bool:
    """Write a mini VOC to the folder `root`, completely or not at all.

    Args:
        root: folder to create; an empty one may exist.
        train, val: number of pictures in each split.
        seed: of all random choices.
        size: smallest and largest side of a picture in pixels.
        progress: wraps the list of image ids.

    Returns:
        False if `root` already holds the same data set, else True.

    Raises:
        UserError: an argument is out of range, `root` holds something else, or the disk is full.
    """
    if train < 1 or val < 1:
        raise UserError(f"a mini VOC needs at least 1 picture in each split, not {train} and {val}")
    if not 96 <= size[0] <= size[1] <= 1024:
        raise UserError(f"the sides of a mini VOC must be 96 to 1024 pixels, not {size}")
    root = Path(root)
    parameters = {
        "version": VERSION, "train": train, "val": val, "seed": seed, "size": list(size),
    }  # fmt: skip
    if root.exists() and any(root.iterdir()):
        if _parameters_of(root) == parameters:
            return False
        raise UserError(
            f"{root} exists and is not the mini VOC asked for ({parameters}): remove it or choose"
            " another folder"
        )
    with atomic_folder(root) as temporary:
        _write_all(temporary, train, val, seed, size, progress)
        (temporary / PARAMETERS_FILE).write_text(json.dumps(parameters) + "\n")
    return True


def _parameters_of(root: Path) -> dict | None:
    try:
        return json.loads((root / PARAMETERS_FILE).read_bytes())
    except (OSError, ValueError):
        return None


def _write_all(root: Path, train: int, val: int, seed: int, size, progress: Progress) -> None:
    for folder in ("Annotations", "JPEGImages", "SegmentationClass", "SegmentationObject"):
        (root / folder).mkdir()
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    ids = [f"mini_{number:06d}" for number in range(1, train + val + 1)]
    for split, names in (("train", ids[:train]), ("val", ids[train:]), ("trainval", ids)):
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    classes = _deal_classes(np.random.default_rng([seed, VERSION]), len(ids))
    for image_id in progress(ids):
        number = int(image_id[-6:])
        rng = np.random.default_rng([seed, VERSION, number])
        _write_image(VocFiles.of(root, image_id), rng, next(classes), size)


def _deal_classes(rng: np.random.Generator, images: int) -> Iterator[list[str]]:
    """The classes of each picture, dealt from shuffled decks so that all occur equally often."""
    deck: list[str] = []
    for count in rng.choice(_OBJECTS_PER_IMAGE, images, p=_OBJECTS_ODDS).tolist():
        while len(deck) < count:
            deck.extend(rng.permutation(VOC_CLASSES).tolist())
        yield [deck.pop(0) for _ in range(count)]


def _write_image(files: VocFiles, rng, names: list[str], size) -> None:
    width, height = (int(side) for side in rng.integers(size[0], size[1] + 1, 2))
    canvas = paint_scene(rng, height, width)
    placed: list[_Placed] = []
    for name in names:
        for _ in range(12):
            sprite, left, top = _propose(rng, name, len(names), height, width)
            candidate = _silhouette(sprite, name, left, top, height, width)
            if _all_visible([*placed, candidate]):
                placed.append(candidate)
                sprite.paste(canvas, left, top)
                break
    canvas = paint_grain(rng, canvas)
    labels = _labels(placed, (height, width))
    void = _borders(labels)
    objects = []
    for number, item in enumerate(placed, 1):
        visible = labels == number
        left, top, right, bottom = _box(visible)
        box = (left + 1, top + 1, right, bottom)  # VOC counts from 1 and includes the last pixel
        difficult = visible.sum() < _DIFFICULT_BELOW * item.pixels
        objects.append((item.name, item.truncated, difficult, box))
    categories = [0, *(VOC_CLASSES.index(item.name) + 1 for item in placed)]
    classes = np.array(categories, np.uint8)[labels]
    Image.fromarray(canvas).save(files.jpeg, quality=92)
    for path, values in ((files.class_png, classes), (files.object_png, labels)):
        write_palette_png(path, np.where(void, VOID, values).astype(np.uint8))
    files.xml.write_text(_xml(files.jpeg.name, width, height, objects))


def _propose(rng, name: str, crowd: int, height: int, width: int) -> tuple[Sprite, int, int]:
    """A sprite and the position of its upper left corner, which may lie outside the picture."""
    short = min(height, width)
    largest = short * (0.95 if crowd == 1 else 0.8 if crowd == 2 else 0.66)
    length = math.exp(rng.uniform(math.log(short * 0.26), math.log(largest)))
    sprite = paint_sprite(rng, name, length)
    sprite_height, sprite_width = sprite.alpha.shape
    spill = 0.3 if rng.random() < 0.2 else 0.0
    left = _place(rng, sprite_width, width, spill)
    return sprite, left, _place(rng, sprite_height, height, spill)


def _place(rng: np.random.Generator, length: int, room: int, spill: float) -> int:
    """A start position along one axis; up to `spill` of the length may stick out at either end."""
    ends = sorted((-spill * length, room - (1 - spill) * length))
    return round(rng.uniform(*ends))


def _silhouette(sprite: Sprite, name: str, left: int, top: int, height: int, width: int) -> _Placed:
    whole = sprite.alpha >= 0.5
    inside = np.zeros((height, width), bool)
    target, source = sprite.overlap(height, width, left, top)
    inside[target] = whole[source]
    pixels = int(whole.sum())
    return _Placed(name, inside, pixels, bool(inside.sum() < pixels))


def _labels(placed: list[_Placed], shape: tuple[int, int]) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    for number, item in enumerate(placed, 1):
        labels[item.silhouette] = number
    return labels


def _all_visible(placed: list[_Placed]) -> bool:
    """Whether enough of every object is still visible, including inside its void border."""
    labels = _labels(placed, placed[0].silhouette.shape)
    inner = np.where(_borders(labels), 0, labels)
    for number, item in enumerate(placed, 1):
        seen, kept = labels == number, inner == number
        if seen.sum() < _MIN_VISIBLE * item.pixels or kept.sum() < _MIN_PIXELS:
            return False
        if box_iou(_box(seen), _box(kept)) < _MIN_BOX_IOU:
            return False
    return True


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _borders(labels: np.ndarray) -> np.ndarray:
    """Both pixels of each neighbouring pair that differs: void lines two pixels wide, as in VOC."""
    border = np.zeros(labels.shape, bool)
    across = labels[:, 1:] != labels[:, :-1]
    down = labels[1:] != labels[:-1]
    border[:, 1:] |= across
    border[:, :-1] |= across
    border[1:] |= down
    border[:-1] |= down
    return border


def _xml(file_name: str, width: int, height: int, objects: list[tuple]) -> str:
    lines = [
        "<annotation>",
        "\t<folder>mini_voc</folder>",
        f"\t<filename>{escape(file_name)}</filename>",
        "\t<source>",
        "\t\t<database>mini VOC, generated</database>",
        "\t</source>",
        "\t<size>",
        f"\t\t<width>{width}</width>",
        f"\t\t<height>{height}</height>",
        "\t\t<depth>3</depth>",
        "\t</size>",
        "\t<segmented>1</segmented>",
    ]
    for name, truncated, difficult, box in objects:
        lines += [
            "\t<object>",
            f"\t\t<name>{name}</name>",
            "\t\t<pose>Unspecified</pose>",
            f"\t\t<truncated>{int(truncated)}</truncated>",
            f"\t\t<difficult>{int(difficult)}</difficult>",
            "\t\t<bndbox>",
        ]
        corners = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        lines += [f"\t\t\t<{tag}>{value}</{tag}>" for tag, value in corners]
        lines += ["\t\t</bndbox>", "\t</object>"]
    return "\n".join([*lines, "</annotation>", ""])
