"""A picture to measure with: a photo, or a painted scene if none is given."""

from pathlib import Path

import numpy as np
from PIL import Image

from atto_det.data.images import read_image
from atto_det.data.mini_voc_paint import paint_grain, paint_scene


def sample_picture(height: int, width: int, path: str | Path | None, seed: int) -> np.ndarray:
    """A picture of this size: uint8 RGB (3, height, width).

    Args:
        path: of a photo, or None for a scene painted from `seed`.

    Raises:
        UserError: the photo is missing or damaged.
    """
    if path is None:
        rng = np.random.default_rng(seed)
        pixels = paint_grain(rng, paint_scene(rng, height, width))
    else:
        photo = Image.fromarray(read_image(path))
        pixels = np.asarray(photo.resize((width, height), Image.Resampling.BILINEAR))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
