"""EXIF's orientation: how a stored picture, and what was annotated on it, is turned upright.

A camera that is held sideways stores the pixels as its sensor has them, and says in EXIF tag 0x0112
how a viewer must turn them: 1 not at all, 2 mirrored, 3 by 180°, 4 upside down, 5 transposed, 6 by
90° clockwise, 7 transposed over the other diagonal, 8 by 90° counter-clockwise.
"""

from typing import NamedTuple

import numpy as np
from pycocotools import mask as mask_utils

Box = tuple[float, float, float, float]
TAG = 0x0112
UPRIGHT = 1

# For each orientation: whether rows and columns are exchanged, and then whether left and right, and
# top and bottom, of the result are.
_TURNS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


class Header(NamedTuple):
    """Header data of a picture: height and width as a viewer shows it, and its orientation.

    If `exchanged` is true, the pixels are stored with height and width exchanged.
    """

    height: int
    width: int
    orientation: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright picture."""
        return self.height, self.width

    @property
    def exchanged(self) -> bool:
        """Whether the picture is stored on its side."""
        return _TURNS[self.orientation][0]

    def drawn_on(self, size: tuple[int, int]) -> int | None:
        """The orientation by which annotations for this (height, width) must be turned.

        If the size is that of the upright picture, annotations apply to the upright picture; else,
        if it is that of the stored picture, they apply to the stored pixels; else None.
        """
        if tuple(size) == self.size:
            return UPRIGHT
        if self.exchanged and tuple(size) == (self.width, self.height):
            return self.orientation
        return None


def turn(array: np.ndarray, orientation: int) -> np.ndarray:
    """A stored picture, mask or label image (H, W, …), turned upright, as a view."""
    exchanged, mirrored, flipped = _TURNS[orientation]
    if exchanged:
        array = array.swapaxes(0, 1)
    return array[:: -1 if flipped else 1, :: -1 if mirrored else 1]


def turn_box(box: Box, orientation: int, height: int, width: int) -> Box:
    """An XYXY box of the stored picture in the upright one, which has this height and width."""
    exchanged, mirrored, flipped = _TURNS[orientation]
    left, top, right, bottom = (box[1], box[0], box[3], box[2]) if exchanged else box
    if mirrored:
        left, right = width - right, width - left
    if flipped:
        top, bottom = height - bottom, height - top
    return left, top, right, bottom


def turn_rle(rle: dict, orientation: int) -> dict:
    """The mask of a stored picture, turned to fit the upright picture."""
    if orientation == UPRIGHT:
        return rle
    return mask_utils.encode(np.asfortranarray(turn(mask_utils.decode(rle), orientation)))
