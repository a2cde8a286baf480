"""Reading the bytes of pictures and label images, strictly: a truncated file is an error.

Every picture is read here, so that all code sees the same pixels: upright, as EXIF's orientation
says, RGB, 8 bits per channel. Of 16 bits the high byte is used, which maps the full range, as
Pillow does for 16-bit colour, and OpenCV for colour and grey.
"""

import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from atto_det.data.files import check_file
from atto_det.data.orientation import TAG, UPRIGHT, Header, turn
from atto_det.errors import UserError, shown

logger = logging.getLogger(__name__)

PIXEL_LIMIT = "ATTO_DET_MAX_PIXELS"  # environment variable
_SETTINGS = threading.Lock()
_TAIL = 1 << 16  # bytes
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_dark_folders: set[Path] = set()  # folders with 12-bit values stored in 16 bits


def read_header(path: str | os.PathLike) -> Header:
    """Size and orientation of a picture, read only from its header.

    Raises:
        UserError: the file is missing, not a picture, or larger than allowed.
    """
    with opened(path) as image:
        return _header(image)


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """(height, width) of the upright picture in pixels, read only from the header.

    Raises:
        UserError: the file is missing, not a picture, or larger than allowed.
    """
    return read_header(path).size


def read_image(path: str | os.PathLike) -> np.ndarray:
    """A picture as RGB, uint8 (H, W, 3), upright; grey, palette and CMYK pictures are converted.

    Raises:
        UserError: the file is missing, truncated, not a picture, larger than allowed, or has 32
            bits per channel.
    """
    with opened(path) as image:
        orientation = _header(image).orientation
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
            grey = _high_byte(np.array(image), path)
            image = Image.fromarray(grey)
        elif image.mode in ("I", "F"):
            raise UserError(
                f"{path} has 32 bits a channel, and its white level is unknown: save it with "
                "8 or 16 bits"
            )
        return np.ascontiguousarray(turn(np.array(image.convert("RGB")), orientation))


def _header(image: Image.Image) -> Header:
    """The header of a picture that Pillow has opened."""
    orientation = UPRIGHT
    if image.format != "TIFF":  # Pillow turns TIFF files itself
        try:
            with warnings.catch_warnings(action="ignore"):
                orientation = image.getexif().get(TAG, UPRIGHT)
        except Exception:  # a defect that image viewers ignore
            logger.debug("%s has EXIF data that cannot be read", image.filename)
    if orientation not in range(1, 9):
        orientation = UPRIGHT
    height, width = image.height, image.width
    upright = Header(height, width, orientation)
    return Header(width, height, orientation) if upright.exchanged else upright


def _high_byte(grey: np.ndarray, path: str | os.PathLike) -> np.ndarray:
    """16-bit grey (H, W) as 8 bits; warns, once per folder, of 12-bit values stored in 16 bits."""
    highest = int(grey.max(initial=0))
    if 0 < highest < 4096 and Path(path).parent not in _dark_folders:
        _dark_folders.add(Path(path).parent)
        logger.warning(
            "%s has 16 bits, but no value above %d: if the camera gives 12 bits, multiply them by "
            "16 before saving, or the pictures are nearly black",
            path,
            highest,
        )
    return (grey >> 8).astype(np.uint8)


def check_whole(path: str | os.PathLike) -> None:
    """Check a picture quickly: read its header and, for JPEG and PNG, look for the end.

    Raises:
        UserError: the file is missing, not a picture, larger than allowed, or truncated.
    """
    with opened(path) as image:
        kind = image.format
    end = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}.get(kind)
    if end is None:
        return
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL))
        whole = _ends(file.read(), end)
        if not whole and size > _TAIL:  # some cameras append data to the picture
            file.seek(0)
            whole = _ends(file.read(), end)
    if not whole:
        raise UserError(f"{shown(Path(path), 400)} is cut short: replace this file by a whole copy")


def _ends(content: bytes, end: bytes) -> bool:
    """Whether `end` occurs in a picture's bytes, and not only in a preview before its coded part.

    JPEG's start-of-scan and end markers cannot occur in the coded data between them.
    """
    return content.find(end, max(0, content.rfind(b"\xff\xda") if end[0] == 0xFF else 0)) >= 0


def in_order(pixels: np.ndarray, given: str, wanted: str) -> np.ndarray:
    """Pixels (H, W, 3) whose channels have the order `given`, in the order `wanted`: a view.

    Args:
        given, wanted: "RGB" or "BGR".
    """
    return pixels if given == wanted else pixels[:, :, ::-1]


def take_picture(image: str | Path | np.ndarray, order: str, given: str = "BGR") -> np.ndarray:
    """A predictor's input as uint8 (H, W, 3), with channels in the order `order`.

    Args:
        image: a path, or uint8 (H, W, 3).
        given: order of an array's channels: "BGR", as OpenCV reads it, or "RGB".

    Raises:
        UserError: an unreadable picture, or an array of the wrong shape or type.
    """
    if isinstance(image, str | Path):
        return in_order(read_image(image), "RGB", order)
    fits = isinstance(image, np.ndarray) and image.dtype == np.uint8
    if not fits or image.shape[2:] != (3,) or not image.size:
        raise UserError("a picture must be a path or a uint8 array of shape (H, W, 3), BGR")
    if given not in ("RGB", "BGR"):
        raise UserError(f"the order of a picture's channels is {given!r}: give RGB or BGR")
    return in_order(image, given, order)


def read_palette_png(path: str | os.PathLike) -> np.ndarray:
    """A label PNG as its palette *indices*, uint8 (H, W), never its colours.

    8-bit grey PNGs are read as well, since their bytes are the labels, and so are colour PNGs whose
    colours are all in Pascal's palette, where each stands for one index. Other formats (16 bits, or
    fewer grey bits, which decoders stretch) are refused, since their meaning would be a guess.

    Raises:
        UserError: the file is missing, truncated, not a PNG, or has another format.
    """
    with opened(path) as image:
        with Path(path).open("rb") as file:
            header = file.read(26)
        if not header.startswith(_PNG_SIGNATURE):
            raise UserError(f"{path} is not a PNG: label images are PNGs with a palette")
        bits, colour_type = header[24], header[25]
        if (bits, colour_type) == (8, 2):
            labels = palette_indices(colour_codes(np.array(image)))
            if labels is not None:
                return labels
        if colour_type != 3 and (bits, colour_type) != (8, 0):
            raise UserError(
                f"{path} is a {bits}-bit {image.mode} picture: a label image needs a palette (or"
                " 8-bit grey) whose index is the label; other colours than Pascal's can be"
                " converted with `atto-det prepare-voc --from-colours`"
            )
        return np.array(image)


def write_palette_png(path: str | os.PathLike, labels: np.ndarray) -> None:
    """Write a label image, uint8 (H, W), as a PNG with Pascal's palette."""
    image = Image.fromarray(labels)
    image.putpalette(voc_palette().tobytes())
    image.save(path)


def colour_codes(colours: np.ndarray) -> np.ndarray:
    """RGB colours, uint8 (…, 3), as numbers 0xRRGGBB (…)."""
    red, green, blue = np.moveaxis(colours.astype(np.uint32), -1, 0)
    return red << 16 | green << 8 | blue


def palette_indices(codes: np.ndarray) -> np.ndarray | None:
    """Indices, uint8 (H, W), of colours 0xRRGGBB in Pascal's palette; None if one is not in it."""
    known = colour_codes(voc_palette())  # all different
    order = np.argsort(known)
    places = np.searchsorted(known[order], codes).clip(max=255)
    indices = order[places].astype(np.uint8)
    return indices if (known[indices] == codes).all() else None


def voc_palette() -> np.ndarray:
    """VOC's colour map, uint8 (256, 3): three bits of the index become the top of each channel."""
    index = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(
                np.uint8
            )
    return palette


@contextmanager
def opened(path: str | os.PathLike) -> Iterator[Image.Image]:
    """Pillow's image; every exception that decoding may raise becomes a `UserError`."""
    try:
        check_file(path)
        with _strict(), Image.open(path) as image:
            if image.width * image.height > pixel_limit():
                raise _too_large(path, image.width * image.height)
            yield image
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{shown(Path(path), 400)} does not exist") from error
    except Image.DecompressionBombError as error:
        raise _too_large(path, int(re.search(r"\d+", str(error))[0])) from error
    # Pillow's plugins raise many types on broken files (SyntaxError, struct.error, …).
    except Exception as error:
        raise UserError(
            f"{shown(Path(path), 400)} cannot be read as a picture ({shown(error)}): replace this"
            " file by a whole copy"
        ) from error


def _too_large(path: str | os.PathLike, pixels: int) -> UserError:
    return UserError(
        f"{path} has {pixels:,} pixels, more than the {pixel_limit():,} allowed: make it smaller, "
        f"or set {PIXEL_LIMIT} in the environment to a higher number"
    )


def pixel_limit() -> int:
    """The maximum number of pixels in a picture: `ATTO_DET_MAX_PIXELS`, or Pillow's own limit.

    Raises:
        UserError: the variable is not a whole number above 0.
    """
    text = os.environ.get(PIXEL_LIMIT)
    if text is None:
        return 2 * Image.MAX_IMAGE_PIXELS if Image.MAX_IMAGE_PIXELS else sys.maxsize
    if not re.fullmatch("[1-9][0-9]{0,17}", text):
        raise UserError(f"{PIXEL_LIMIT} is {shown(text)}: it must be a number of pixels")
    return int(text)


@contextmanager
def _strict() -> Iterator[None]:
    """Makes Pillow refuse truncated files whatever its settings, and disables its own pixel limit.

    Pillow's own limit would already warn at half of the number that it refuses.
    """
    wanted = (False, None if PIXEL_LIMIT in os.environ else Image.MAX_IMAGE_PIXELS)
    if wanted == (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS):
        yield
        return
    with _SETTINGS:
        before = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
        try:
            ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = wanted
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = before
