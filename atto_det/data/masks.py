"""Run-length masks (COCO's compressed RLE) from label images, and back to boxes."""

import numpy as np
from pycocotools import mask as mask_utils


def encode_labels(labels: np.ndarray) -> dict[int, dict]:
    """The RLE of each object in a label image, uint8 (H, W), by value: not of 0 and 255 (void)."""
    columns_first = np.asfortranarray(labels)  # once for all values, since RLE goes by column
    present = np.flatnonzero(np.bincount(labels.ravel(), minlength=256)[1:255]) + 1
    return {
        value: mask_utils.encode((columns_first == value).view(np.uint8))
        for value in present.tolist()
    }


def mask_box(rle: dict) -> tuple[float, float, float, float]:
    """Tight XYXY box of a mask; its right and lower edges are one past the last pixel."""
    x, y, width, height = mask_utils.toBbox(rle).tolist()
    return x, y, x + width, y + height


def box_iou(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Intersection over union of two XYXY boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    union = areas - shared
    return shared / union if union > 0 else 0.0


def is_inside(box: tuple[float, ...], height: int, width: int) -> bool:
    """Whether any part of an XYXY box lies in a picture of this size."""
    left, top, right, bottom = box
    return min(right, width) > max(left, 0) and min(bottom, height) > max(top, 0)
