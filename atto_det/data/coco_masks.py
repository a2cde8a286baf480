"""Masks of COCO annotations, validated before they reach pycocotools' C code, which does not."""

from typing import NamedTuple

from pycocotools import mask as mask_utils

MAX_SIDE = 65535  # pixels; JPEG's limit


class Mask(NamedTuple):
    """The result of reading a `segmentation`.

    rle: compressed, with at least one pixel; None if there is no mask.
    reason: why there is no mask, as words that follow "annotations[3]", and the kind of finding.
    stray: number of invalid polygons, which were left out of the mask.
    """

    rle: dict | None
    kind: str = ""
    reason: str = ""
    stray: int = 0


def read_mask(value: object, height: int, width: int) -> Mask:
    """The mask of a `segmentation`: polygons, or an RLE of height x width, compressed or not."""
    wanted = f"needs polygons or an RLE of {height}x{width} (height x width) in 'segmentation'"
    stray = 0
    if isinstance(value, list):
        polygons = [polygon for polygon in value if _is_polygon(polygon)]
        stray = len(value) - len(polygons)
        if not polygons:
            return Mask(None, "no_mask", wanted)
        rle = mask_utils.merge(mask_utils.frPyObjects(polygons, height, width))
    else:
        runs = _runs(value, height, width)
        if runs is None:
            return Mask(None, "no_mask", wanted)
        # Encoded again, so that the input never reaches the C code.
        rle = mask_utils.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    if not mask_utils.area(rle):
        return Mask(None, "no_mask", "has an empty mask")
    return Mask(rle, stray=stray)


def is_number(value: object) -> bool:
    """Whether a JSON value is a number that can be a coordinate: not NaN, not huge."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _is_polygon(value: object) -> bool:
    # pycocotools takes four numbers as a box, reads out of bounds if the number of them is odd,
    # and allocates memory in proportion to the length of the outline.
    return (
        isinstance(value, list)
        and len(value) >= 6
        and len(value) % 2 == 0
        and all(map(is_number, value))
        and max(map(abs, value)) <= MAX_SIDE
    )


def _runs(value: object, height: int, width: int) -> list[int] | None:
    """The runs of an uncompressed RLE of this size, in column order; None if it is invalid."""
    if not isinstance(value, dict) or value.get("size") != [height, width]:
        return None
    runs = value.get("counts")
    if isinstance(runs, str):
        runs = _decompressed(runs)
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        return None
    return runs if sum(runs) == height * width else None


def _decompressed(counts: str) -> list[int] | None:
    """The runs of a compressed RLE, or None if it is malformed.

    Each character holds five bits, offset by 48, and a sixth bit that says that more follow. From
    the fourth run on, each run is stored as its difference to the one two before it.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            return None
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        if len(runs) > 2:
            value += runs[-2]
        if value < 0:
            return None
        runs.append(value)
        value = shift = 0
    return None if shift else runs
