"""The simplest masks."""

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as rle_masks


def rectangle(height: int, width: int, box: Sequence[float]) -> dict:
    """In a picture of this size, the pixels inside a box x1 y1 x2 y2 with whole-numbered corners.

    Compressed, as by pycocotools.
    """
    mask = np.zeros((height, width), np.uint8, order="F")
    x1, y1, x2, y2 = map(round, box)
    mask[y1:y2, x1:x2] = 1
    return rle_masks.encode(mask)
