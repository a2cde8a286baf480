"""Drawing instances on pictures, contact sheets, and writing pictures completely or not at all.

Images are BGR uint8 (H, W, 3), as in OpenCV; nothing here needs a display. Text is clearest with
OpenCV 5, whose fonts are outlines and have accents; OpenCV 4 draws strokes.
"""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from pycocotools import mask as rle_masks

from atto_det.errors import UserError, utf8, write_file
from atto_det.evaluation.arrays import mask_areas

FONT = cv2.FONT_HERSHEY_DUPLEX
BACKGROUND, INK = (34, 30, 28), (240, 240, 240)  # of sheets and captions
MASK_OPACITY = 0.45
LABEL_SHARE = 0.08  # of the picture's area that a label may hide
CROWDED = 0.25  # share of the picture covered by labels from which small objects get none
FINE = 25  # an outline's width is at most the side of its mask divided by this

Labels = Literal["auto", "all", "none"]
"""Which objects get labels: "auto" omits, in crowded pictures, objects smaller than their label."""

Color = tuple[int, int, int]


@lru_cache
def class_colors(count: int) -> tuple[Color, ...]:
    """One BGR colour per class, as different as possible; colour k is the same for every count.

    Each colour is the one with the largest distance, in CIE Lab, from those chosen before it.
    """
    levels = np.linspace(0, 255, 9)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    lab = cv2.cvtColor((grid / 255).astype(np.float32), cv2.COLOR_BGR2Lab)[0]
    # Neither dark, nor near white, nor grey, which are hard to see in photos.
    bright = (lab[:, 0] > 45) & (lab[:, 0] < 88) & (np.hypot(lab[:, 1], lab[:, 2]) > 45)
    bgr, lab = grid[0][bright].round().astype(int), lab[bright]
    chosen = [int(np.argmin(np.abs(bgr - (60, 60, 255)).sum(axis=1)))]  # a strong red
    distance = np.linalg.norm(lab - lab[chosen[0]], axis=1)
    while len(chosen) < min(count, len(bgr)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
    return tuple(tuple(bgr[chosen[k % len(chosen)]].tolist()) for k in range(count))


def draw_instances(
    image: np.ndarray,
    boxes: np.ndarray,
    rles: Sequence[dict | None] | None,
    classes: Sequence[int],
    class_names: Sequence[str],
    scores: Sequence[float] | None = None,
    labels: Labels = "auto",
) -> np.ndarray:
    """A copy of the image with masks, outlines, boxes and labels, at sizes that suit the image.

    Args:
        image: BGR uint8 (H, W, 3).
        boxes: (N, 4), x1 y1 x2 y2 in continuous pixel coordinates.
        rles: N masks of the image's size, as compressed by pycocotools; where it is None, or one
            instance's is, only boxes are drawn.
        classes: N indices into `class_names`, which also determine the colours; if there is only
            one class, each object has its own colour.
        scores: N numbers from 0 to 1, shown as percentages; the surest are labelled first.
        labels: which objects get a label.

    A label that would hide much of a tiny picture is omitted.

    Raises:
        UserError: the image is not BGR uint8, a mask has another size, or `labels` is not one of
            these words.
    """
    if labels not in get_args(Labels):
        raise UserError(f"labels is {labels!r}: give one of {', '.join(get_args(Labels))}")
    check_image(image)
    image = image.copy()
    height, width = image.shape[:2]
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    masked = [k for k, rle in enumerate(rles or ()) if rle is not None]
    for rle in (rles[k] for k in masked):
        if tuple(rle["size"]) != (height, width):
            raise UserError(
                f"a mask is {rle['size'][1]}×{rle['size'][0]} pixels but its image {width}×{height}"
            )
    colors = _instance_colors(classes, class_names)
    scale = max(0.36, (height * width) ** 0.5 / 900)  # of the text; 1 is about 22 pixels high
    line = max(1, round(scale * 2))

    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    if masked:
        areas[masked] = mask_areas([rles[k] for k in masked])
    for k in sorted(masked, key=lambda k: -areas[k]):  # small ones last, on top
        _draw_mask(image, rles[k], colors[k], _line(areas[k], line))
    for box, color, area in zip(boxes, colors, areas, strict=True):
        x1, y1, x2, y2 = np.rint(box).astype(int).tolist()
        far = (max(x1, x2 - 1), max(y1, y2 - 1))
        cv2.rectangle(image, (x1, y1), far, color, max(1, _line(area, line) // 2))
    if labels != "none":
        texts = [str(class_names[category]) for category in classes]
        if scores is not None:
            texts = [f"{text} {score:.0%}" for text, score in zip(texts, scores, strict=True)]
        order = np.argsort(-np.asarray(areas if scores is None else scores, float), kind="stable")
        if labels == "auto":
            order = _readable(order, texts, boxes, scale, height * width)
        placed: list[tuple[str, tuple[int, int, int, int], float, Color]] = []
        for k in order:
            taken = [label[1] for label in placed]
            if found := _place_label(image, texts[k], boxes[k], scale, taken):
                placed.append((texts[k], *found, colors[k]))
        for label in reversed(placed):  # the surest last, on top
            _draw_label(image, *label)
    return image


def _instance_colors(classes: Sequence[int], class_names: Sequence[str]) -> list[Color]:
    """Colours of the classes, or of single objects if there is only one class."""
    if len(class_names) > 1:
        colors = class_colors(len(class_names))
        return [colors[category] for category in classes]
    return list(class_colors(len(classes)))


def _line(area: float, line: int) -> int:
    """Thickness of an object's outline in pixels."""
    return min(line, max(1, round(area**0.5 / FINE)))


def _readable(
    order: np.ndarray, texts: Sequence[str], boxes: np.ndarray, scale: float, pixels: int
) -> np.ndarray:
    """Those of `order` that get a label: all, or in a crowd, objects larger than their label."""
    sizes = [_label_size(texts[k], scale) for k in order]
    areas = np.array([wide * high for wide, high in sizes], float)
    if areas.sum() <= CROWDED * pixels:
        return order
    sides = np.asarray(boxes, float)[order]
    return order[(sides[:, 2:] - sides[:, :2]).prod(axis=1) >= areas]


def contact_sheet(
    tiles: Sequence[np.ndarray],
    captions: Sequence[str],
    *,
    columns: int = 4,
    tile_size: tuple[int, int] = (480, 360),
    title: str | None = None,
) -> np.ndarray:
    """Pictures of any size in rows, each fitted into `tile_size` (width, height), with captions.

    Raises:
        UserError: there is no tile, or one is not BGR uint8.
    """
    if not tiles:
        raise UserError("a contact sheet needs at least one picture")
    columns = min(columns, len(tiles))
    width, gap = tile_size[0], max(8, tile_size[0] // 40)
    scale = max(0.4, width / 800)
    caption_height = round(44 * scale)
    fitted = [_fit(tile, tile_size) for tile in tiles]

    rows = []
    for start in range(0, len(fitted), columns):
        row = fitted[start : start + columns]
        height = max(tile.shape[0] for tile in row)
        strip = _blank(height + caption_height + gap, gap + columns * (width + gap))
        for k, (tile, caption) in enumerate(
            zip(row, captions[start : start + columns], strict=True)
        ):
            left = gap + k * (width + gap) + (width - tile.shape[1]) // 2
            top = (height - tile.shape[0]) // 2
            strip[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
            corner = (gap + k * (width + gap), height)
            _write_centred(strip, caption, (*corner, width, caption_height), scale)
        rows.append(strip)
    head = _blank(gap, rows[0].shape[1])
    if title:
        head = _blank(round(caption_height * 2), rows[0].shape[1])
        room = (gap, 0, head.shape[1] - 2 * gap, head.shape[0])
        _write_centred(head, title, room, scale * 1.6)
    return np.concatenate([head, *rows])


def side_by_side(
    left: np.ndarray, right: np.ndarray, captions: tuple[str, str] = ("ground truth", "prediction")
) -> np.ndarray:
    """Two pictures with captions above; the right one is scaled to the left one's height.

    Raises:
        UserError: one is not BGR uint8.
    """
    check_image(left)
    check_image(right)
    height = left.shape[0]
    if right.shape[0] != height:
        width = max(1, round(right.shape[1] * height / right.shape[0]))
        right = cv2.resize(right, (width, height), interpolation=cv2.INTER_AREA)
    scale = max(0.36, (height * left.shape[1]) ** 0.5 / 800)
    bar, gap = round(40 * scale), max(2, round(8 * scale))
    pair = _blank(height + bar, left.shape[1] + gap + right.shape[1])
    for image, start, caption in zip(
        (left, right), (0, left.shape[1] + gap), captions, strict=True
    ):
        pair[bar:, start : start + image.shape[1]] = image
        _write_centred(pair, caption, (start, 0, image.shape[1], bar), scale)
    return pair


def write_image(path: str | os.PathLike, image: np.ndarray) -> None:
    """Write a picture in the format of the path's suffix, completely or not at all.

    Raises:
        UserError: OpenCV cannot write that format, or the file cannot be written.
    """
    check_image(image)
    path = Path(path)
    if not path.suffix.isascii() or not cv2.haveImageWriter(f"a{path.suffix}"):
        raise UserError(
            f"{path} was not written: {path.suffix or 'no suffix'} is not a picture format that "
            f"OpenCV writes; use .png or .jpg"
        )
    content = encode_image(image, path.suffix)
    if content is None:
        height, width = image.shape[:2]
        raise UserError(
            f"{path} was not written: a {path.suffix} cannot be {width}×{height} pixels"
        )
    # Written by Python, since cv2.imwrite does not say why it failed.
    write_file(path, content)


def encode_image(image: np.ndarray, suffix: str) -> bytes | None:
    """A picture as the content of a file with this suffix; None if the format cannot hold it."""
    written, content = cv2.imencode(suffix, image)
    return content.tobytes() if written else None


def check_image(image: np.ndarray) -> None:
    """Raise a `UserError` unless the image is BGR uint8 (H, W, 3) with at least a pixel."""
    good = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3
    if not good or image.shape[2] != 3 or image.size == 0:
        form = f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}"
        raise UserError(f"an image must be BGR uint8 (H, W, 3), not {form.strip()}")


def _draw_mask(image: np.ndarray, rle: dict, color: Color, line: int) -> None:
    """Blend the mask's pixels and outline it, in place, changing only its surroundings."""
    x, y, width, height = rle_masks.toBbox(rle).astype(int).tolist()
    if width == 0 or height == 0:
        return
    part = np.s_[y : y + height, x : x + width]
    mask = np.ascontiguousarray(rle_masks.decode(rle)[part])
    tint = np.full_like(image[part], color)
    blended = cv2.addWeighted(image[part], 1 - MASK_OPACITY, tint, MASK_OPACITY, 0)
    np.copyto(image[part], blended, where=mask[:, :, None] > 0)
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(x, y))
    # Lighter than the class colour, so that neighbours of one class remain distinguishable.
    light = [255 - 0.35 * (255 - value) for value in color]
    cv2.drawContours(image, outlines, -1, light, line, cv2.LINE_AA)


def _place_label(
    image: np.ndarray,
    text: str,
    box: np.ndarray,
    scale: float,
    taken: list[tuple[int, int, int, int]],
) -> tuple[tuple[int, int, int, int], float] | None:
    """Where a label goes, x1 y1 x2 y2, and its text's scale; None if it would hide the picture.

    It is inside the image, at the corner of the box where it least covers the labels in `taken`.
    """
    height, width = image.shape[:2]
    text_width, _ = _text_size(text, scale)
    if text_width * 1.1 > width:  # shrink it, but keep it readable
        scale *= width / (text_width * 1.1)
    wide, high = _label_size(text, scale)
    if scale < 0.3 or wide > width or high > height or wide * high > LABEL_SHARE * width * height:
        return None

    x1, y1, x2, y2 = np.rint(box).astype(int).tolist()
    places = [(x1, y1 - high), (x1, y1), (x2 - wide, y1 - high), (x1, y2), (x1, y2 - high)]
    places += [(x2 - wide, y2), (x2 - wide, y1), ((x1 + x2 - wide) // 2, (y1 + y2 - high) // 2)]
    inside = [(min(max(x, 0), width - wide), min(max(y, 0), height - high)) for x, y in places]

    def covered(place: tuple[int, int]) -> int:
        x, y = place
        return sum(
            max(0, min(x + wide, r) - max(x, left)) * max(0, min(y + high, b) - max(y, top))
            for left, top, r, b in taken
        )

    x, y = min(inside, key=covered)  # the first of equally good ones
    return (x, y, x + wide, y + high), scale


def _draw_label(
    image: np.ndarray, text: str, place: tuple[int, int, int, int], scale: float, color: Color
) -> None:
    x1, y1, x2, y2 = place
    cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), color, cv2.FILLED)
    blue, green, red = color
    ink = (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 125 else (255, 255, 255)
    cap = _text_size(text, scale)[1]
    _write(image, text, (x1 + _padding(cap), y1 + _padding(cap) + cap), scale, ink)


def _label_size(text: str, scale: float) -> tuple[int, int]:
    """Width and height of a label in pixels."""
    width, cap = _text_size(text, scale)
    pad = _padding(cap)
    return width + 2 * pad, cap + 2 * pad


def _padding(cap: int) -> int:
    return max(2, round(cap * 0.3))


def _text_size(text: str, scale: float) -> tuple[int, int]:
    """Width, and height above the baseline, in pixels."""
    return cv2.getTextSize(utf8(text), FONT, scale, _thickness(scale))[0]


def _write(image: np.ndarray, text: str, corner: tuple[int, int], scale: float, ink: Color) -> None:
    """Write text in place; `corner` is the left end of its baseline."""
    # OpenCV crashes at what is not UTF-8.
    cv2.putText(image, utf8(text), corner, FONT, scale, ink, _thickness(scale), cv2.LINE_AA)


def _thickness(scale: float) -> int:
    return max(1, round(scale * 1.5))


def _fit(tile: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The tile, scaled to the largest size that fits into `size` (width, height)."""
    check_image(tile)
    factor = min(size[0] / tile.shape[1], size[1] / tile.shape[0])
    target = tuple(max(1, round(side * factor)) for side in (tile.shape[1], tile.shape[0]))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(tile, target, interpolation=how)


def _blank(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), BACKGROUND, dtype=np.uint8)


def _write_centred(
    image: np.ndarray, text: str, room: tuple[int, int, int, int], scale: float
) -> None:
    """Write text in the middle of room (x, y, width, height), cut off if it is too long."""
    x, y, width, height = room
    shown = utf8(text)
    while len(shown) > 3 and _text_size(shown, scale)[0] > width:
        shown = shown[: -4 if shown.endswith("...") else -1] + "..."
    (wide, cap), base = cv2.getTextSize(shown, FONT, scale, _thickness(scale))
    if wide <= width:
        room_pixels = image[y : y + height, x : x + width]  # so that nothing outside is changed
        corner = ((width - wide) // 2, (height - cap - base) // 2 + cap)
        _write(room_pixels, shown, corner, scale, INK)
