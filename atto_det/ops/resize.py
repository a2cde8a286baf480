"""Pictures at the size that the network sees, exactly as Detectron2 resizes them."""

import numpy as np
from PIL import Image


def resized_shape(height: int, width: int, short: int, longest: int) -> tuple[int, int]:
    """Height and width with a shorter side of `short`, or less where `longest` would be exceeded.

    In this order of operations, since its rounding decides single pixels.
    """
    scale = short / min(height, width)
    new = (short, scale * width) if height < width else (scale * height, short)
    if max(new) > longest:
        scale = longest / max(new)
        new = (new[0] * scale, new[1] * scale)
    return int(new[0] + 0.5), int(new[1] + 0.5)


def resize(image: np.ndarray, height: int, width: int, *, smooth: bool = True) -> np.ndarray:
    """uint8 (H, W) or (H, W, 3) at another size: bilinear with antialiasing, or the nearest pixel.

    The nearest is for masks and labels.
    """
    if image.shape[:2] == (height, width):
        return image
    kind = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(image).resize((width, height), kind))
