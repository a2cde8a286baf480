"""Resizes pictures to the network's input size, exactly as Detectron2 does."""

import numpy as np
from PIL import Image


def resized_shape(height: int, width: int, short: int, longest: int) -> tuple[int, int]:
    """Height and width with a shorter side of `short`, or less if `longest` would be exceeded.

    The order of operations matters, since its rounding decides single pixels. No side is shorter
    than a pixel, however narrow the picture.
    """
    scale = short / min(height, width)
    new = (float(short), scale * width) if height < width else (scale * height, float(short))
    if max(new) > longest:
        scale = longest / max(new)
        new = (new[0] * scale, new[1] * scale)
    return max(1, int(new[0] + 0.5)), max(1, int(new[1] + 0.5))


def resize(
    image: np.ndarray,
    height: int,
    width: int,
    *,
    smooth: bool = True,
    part: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
    """uint8 (H, W) or (H, W, 3) at another size: bilinear with antialiasing, or the nearest pixel.

    The latter is for masks and labels.

    Args:
        part: top, left, height and width of the part of the resized picture that is needed; the
            rest is not computed.
    """
    if part is None:
        part = (0, 0, height, width)
    top, left, rows, columns = part
    if image.shape[:2] == (height, width):
        return image[top : top + rows, left : left + columns]
    kind = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    down, across = image.shape[0] / height, image.shape[1] / width
    box = (left * across, top * down, (left + columns) * across, (top + rows) * down)
    box = np.minimum(box, np.tile(image.shape[1::-1], 2)).tolist()  # rounding may exceed the size
    return np.asarray(Image.fromarray(image).resize((columns, rows), kind, box=box))
