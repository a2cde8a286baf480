"""Reading the bytes of pictures and label images, strictly: half a file is an error."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from atto_det.errors import UserError

_LENIENCE = threading.Lock()
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """(height, width) in pixels from the header alone.

    Raises:
        UserError: the file is missing or is no picture.
    """
    with _opened(path) as image:
        return image.height, image.width


def read_image(path: str | os.PathLike) -> np.ndarray:
    """A picture as RGB, uint8 (H, W, 3); grey, palette and CMYK pictures are converted.

    An EXIF orientation is not applied: masks and boxes were drawn on the pixels as stored.

    Raises:
        UserError: the file is missing, truncated or no picture.
    """
    with _opened(path) as image:
        return np.array(image.convert("RGB"))


def rgb_picture(image: str | Path | np.ndarray) -> np.ndarray:
    """What a predictor is given, as RGB uint8 (H, W, 3).

    Args:
        image: a path, or uint8 (H, W, 3) in BGR order, as OpenCV reads it.

    Raises:
        UserError: an unreadable picture, or an array of another form.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    fits = isinstance(image, np.ndarray) and image.dtype == np.uint8
    if not fits or image.shape[2:] != (3,) or not image.size:
        raise UserError("a picture must be a path or a uint8 array of shape (H, W, 3), BGR")
    return image[:, :, ::-1]


def read_palette_png(path: str | os.PathLike) -> np.ndarray:
    """A label PNG as its palette *indices*, uint8 (H, W), never its colours.

    8-bit grey PNGs are read too, because there the stored byte is the label. Any other form
    (colour, 16 bits, fewer grey bits, which decoders stretch) would need a guess and is refused.

    Raises:
        UserError: the file is missing, truncated, no PNG, or of another form.
    """
    with _opened(path) as image:
        with Path(path).open("rb") as file:
            header = file.read(26)
        if not header.startswith(_PNG_SIGNATURE):
            raise UserError(f"{path} is no PNG: label images are PNGs with a palette")
        bits, colour_type = header[24], header[25]
        if colour_type != 3 and (bits, colour_type) != (8, 0):
            raise UserError(
                f"{path} is a {bits}-bit {image.mode} picture: a label image needs a palette (or"
                " 8-bit grey) whose index is the label; save it with Pillow's mode 'P'"
            )
        return np.array(image)


def voc_palette() -> np.ndarray:
    """VOC's colour map, uint8 (256, 3): three bits of the index go to the top of each channel."""
    index = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(
                np.uint8
            )
    return palette


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[Image.Image]:
    """Pillow's image, with everything that decoding it may raise turned into a `UserError`."""
    try:
        with _strict(), Image.open(path) as image:
            yield image
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    # Pillow's plugins raise many types on broken files (SyntaxError and struct.error among them).
    except Exception as error:
        raise UserError(
            f"{path} cannot be read as a picture ({error}): replace this file by a whole copy"
        ) from error


@contextmanager
def _strict() -> Iterator[None]:
    """Make Pillow refuse truncated files even where somebody asked it globally not to."""
    if not ImageFile.LOAD_TRUNCATED_IMAGES:
        yield
        return
    with _LENIENCE:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = True
