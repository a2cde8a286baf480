"""A picture with its objects, resized, cropped, mirrored and padded."""

import math
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as mask_utils

from atto_det import data
from atto_det.errors import UserError
from atto_det.ops.resize import resize

EMPTY = 1e-5  # pixels; a box with a shorter side is dropped


@dataclass(frozen=True)
class Scene:
    """A picture and its objects, as the network sees them.

    Attributes:
        image: uint8 (H, W, 3), RGB unless stated otherwise.
        boxes: float64 (M, 4), x1 y1 x2 y2 in its pixels.
        classes: int64 (M,), from 0.
        masks: uint8 (M, H, W), 0 or 1; None in drawings for a detector without masks.
    """

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    masks: np.ndarray | None

    def only(self, kept: np.ndarray) -> "Scene":
        """The same picture with only the objects selected by an index or bool array."""
        return Scene(self.image, self.boxes[kept], self.classes[kept], self.masks[kept])


def load_scene(
    record: data.ImageRecord,
    shape: tuple[int, int],
    part: tuple[int, int, int, int] | None = None,
    *,
    mirrored: bool = False,
) -> Scene:
    """A picture and its objects resized to `shape` (height, width), then cropped, then mirrored.

    An object without a mask gets its box as the mask.

    Objects of which nothing is left are dropped. If the crop cuts an object, its new box encloses
    what is left of its mask; all other boxes stay as annotated.

    Args:
        part: top, left, height and width of the crop.

    Raises:
        UserError: the picture is unreadable, truncated or not of the annotated size.
    """
    top, left, height, width = part or (0, 0, *shape)
    columns = slice(None, None, -1 if mirrored else 1)
    image = resize(read_picture(record), *shape, part=part)[:, columns]
    masks = np.empty((len(record.instances), height, width), np.uint8)
    for mask, instance in zip(masks, record.instances, strict=True):
        mask[:] = _mask(record, instance, shape, (top, left, height, width))[:, columns]
    boxes = np.array([o.box for o in record.instances], np.float64).reshape(-1, 4)
    boxes *= np.tile([shape[1] / record.width, shape[0] / record.height], 2)
    boxes = boxes.clip(0, [shape[1], shape[0]] * 2) - [left, top, left, top]
    if mirrored:
        boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    classes = np.array([o.category for o in record.instances], np.int64)
    return _cut(Scene(np.ascontiguousarray(image), boxes, classes, masks))


def _mask(
    record: data.ImageRecord,
    instance: data.Instance,
    shape: tuple[int, int],
    part: tuple[int, int, int, int],
) -> np.ndarray:
    """An object's mask, or its box if it has none, within a part of the resized picture."""
    top, left, height, width = part
    if instance.rle is not None:
        # Decoded masks are stored column by column, so that transposing needs no copy.
        turned = mask_utils.decode(instance.rle).T
        part = (left, top, width, height)
        return resize(turned, *shape[::-1], smooth=False, part=part).T
    mask = np.zeros((height, width), np.uint8)
    x1, y1, x2, y2 = instance.box
    across, down = shape[1] / record.width, shape[0] / record.height
    rows = [math.floor(y1 * down) - top, math.ceil(y2 * down) - top]
    columns = [math.floor(x1 * across) - left, math.ceil(x2 * across) - left]
    mask[slice(*np.clip(rows, 0, height)), slice(*np.clip(columns, 0, width))] = 1
    return mask


def on_canvas(scene: Scene, shape: tuple[int, int], padding: np.ndarray) -> Scene:
    """A scene of height and width `shape`: cropped or padded on the right and at the bottom.

    Args:
        padding: uint8 (3,), the colour of new pixels.
    """
    if scene.image.shape[:2] == shape:
        return scene
    height, width = map(min, scene.image.shape, shape)
    image = np.empty((*shape, 3), np.uint8)
    image[:] = padding
    image[:height, :width] = scene.image[:height, :width]
    masks = np.zeros((len(scene.masks), *shape), np.uint8)
    masks[:, :height, :width] = scene.masks[:, :height, :width]
    return _cut(Scene(image, scene.boxes, scene.classes, masks))


def _cut(scene: Scene) -> Scene:
    """The scene without what lies outside the picture: see `load_scene`."""
    height, width = scene.image.shape[:2]
    clipped = scene.boxes.clip(0, [width, height, width, height])
    cut = np.flatnonzero((clipped != scene.boxes).any(1) & scene.masks.any((1, 2)))
    clipped[cut] = mask_boxes(scene.masks[cut])
    scene = Scene(scene.image, clipped, scene.classes, scene.masks)
    sides = clipped[:, 2:] - clipped[:, :2]
    return scene.only((sides > EMPTY).all(1) & scene.masks.any((1, 2)))


def mask_boxes(masks: np.ndarray) -> np.ndarray:
    """Tight boxes (M, 4) of non-empty masks (M, H, W); x2 and y2 are one past the last pixel."""
    columns, rows = masks.any(1), masks.any(2)
    first = [columns.argmax(1), rows.argmax(1)]
    last = [a.shape[1] - a[:, ::-1].argmax(1) for a in (columns, rows)]
    return np.stack([*first, *last], axis=1).astype(np.float64)


def read_picture(record: data.ImageRecord) -> np.ndarray:
    """The pixels of a record, uint8 RGB (H, W, 3).

    Raises:
        UserError: the picture is unreadable, truncated or not of the annotated size.
    """
    image = data.read_image(record.file_name)
    if image.shape[:2] != (record.height, record.width):
        raise UserError(
            f"{record.file_name} measures {image.shape[1]}×{image.shape[0]} pixels, but its "
            f"annotation says {record.width}×{record.height}"
        )
    return image
