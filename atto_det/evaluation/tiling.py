"""Large pictures looked at in tiles that overlap, and what is found in them put together.

What a tile's border cuts is seen by its neighbour as well, at least in part. Two detections of one
class in two tiles are one object where their masks agree in the area that both tiles show; it then
has the masks of both, a box around both boxes, and the higher score.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from pycocotools import mask as rle_masks

from atto_det.errors import UserError

from .arrays import Detections, encode_crop

SHORTEST = 64  # side of a tile, in pixels
OVERLAP = 0.25  # of two neighbours, as a share of a tile's side, at least
SAME = 0.5  # IoU in the area that both show, at least


class Tile(NamedTuple):
    """A part of a picture, in its pixels; `bottom` and `right` are outside."""

    top: int
    left: int
    bottom: int
    right: int


def check_tile(side: int | None) -> None:
    """Raise a `UserError` unless it is the side of a tile, or None for no tiles."""
    if side is not None and (not isinstance(side, int) or side < SHORTEST):
        raise UserError(f"a tile has {side!r} pixels a side: give a whole number from {SHORTEST}")


def tiles_of(height: int, width: int, side: int) -> list[Tile]:
    """The tiles of a picture: as few as overlap by `OVERLAP`, spread evenly, row by row.

    None is larger than the picture.
    """
    rows, columns = (_starts(length, side) for length in (height, width))
    return [
        Tile(top, left, min(top + side, height), min(left + side, width))
        for top in rows
        for left in columns
    ]


def _starts(length: int, side: int) -> list[int]:
    if length <= side:
        return [0]
    steps = int(np.ceil((length - side) / ((1 - OVERLAP) * side)))
    return [(length - side) * step // steps for step in range(steps + 1)]


def detect_in_tiles(
    detect: Callable[[np.ndarray], Detections], image: np.ndarray, side: int | None
) -> Detections:
    """Detections of `detect` in a picture (H, W, 3), seen in tiles where it is larger than one.

    Args:
        side: of a tile; None for the picture as a whole.
    """
    height, width = image.shape[:2]
    if side is None or max(height, width) <= side:
        return detect(image)
    tiles = tiles_of(height, width, side)
    found = [detect(image[tile.top : tile.bottom, tile.left : tile.right]) for tile in tiles]
    return merge_tiles(tiles, found, height, width)


def merge_tiles(
    tiles: Sequence[Tile], found: Sequence[Detections], height: int, width: int
) -> Detections:
    """Detections of each tile, in its own pixels, as those of a picture, highest score first."""
    parts = [
        _Part(tile, index, one)
        for tile, one in zip(tiles, found, strict=True)
        for index in range(len(one.scores))
    ]
    groups = [[part] for part in parts]
    group_of = list(range(len(parts)))
    for _, first, second in sorted(_same(parts), key=lambda pair: -pair[0]):
        one, other = group_of[first], group_of[second]
        seen = {part.tile for part in groups[one]}
        if one != other and not any(part.tile in seen for part in groups[other]):
            groups[one] += groups[other]
            for index, group in enumerate(group_of):
                group_of[index] = one if group == other else group
            groups[other] = []
    merged = sorted(filter(None, groups), key=lambda group: -max(part.score for part in group))
    masks = all(one.rles is not None for one in found)
    boxes = [[part.box for part in group] for group in merged]
    rles = [rle_masks.merge([p.rle(height, width) for p in group]) for group in merged if masks]
    return Detections(
        boxes=np.array(
            [[*np.min(own, axis=0)[:2], *np.max(own, axis=0)[2:]] for own in boxes]
        ).reshape(-1, 4),
        rles=rles if masks else None,
        classes=np.array([group[0].label for group in merged], dtype=np.int64),
        scores=np.array([max(part.score for part in group) for group in merged], dtype=np.float64),
    )


class _Part:
    """What one tile shows of an object: its class, score, and box in pixels of the picture."""

    def __init__(self, tile: Tile, index: int, found: Detections) -> None:
        self.tile, self.label, self.score = tile, int(found.classes[index]), found.scores[index]
        self.box = found.boxes[index] + np.tile([tile.left, tile.top], 2)
        self._rle = None if found.rles is None else found.rles[index]

    def rle(self, height: int, width: int) -> dict:
        """The mask in a picture of that size."""
        crop = rle_masks.decode(self._rle).view(bool)
        return encode_crop(crop, self.tile.left, self.tile.top, height, width)

    def is_in(self, area: Tile) -> bool:
        """Whether the box reaches into a part of the picture."""
        x1, y1 = np.maximum(self.box[:2], (area.left, area.top))
        x2, y2 = np.minimum(self.box[2:], (area.right, area.bottom))
        return bool(x1 < x2 and y1 < y2)

    def inside(self, area: Tile) -> np.ndarray:
        """The mask in a part of the tile; of a detector without masks the box, as one."""
        top, left = self.tile.top, self.tile.left
        if self._rle is None:
            mask = np.zeros((self.tile.bottom - top, self.tile.right - left), bool)
            x1, y1, x2, y2 = np.rint(self.box - np.tile([left, top], 2)).astype(int)
            mask[y1:y2, x1:x2] = True
        else:
            mask = rle_masks.decode(self._rle).view(bool)
        return mask[area.top - top : area.bottom - top, area.left - left : area.right - left]


def _same(parts: Sequence[_Part]) -> list[tuple[float, int, int]]:
    """IoU in the area that both show, and the indices, of each two parts of one object."""
    pairs = []
    of_tile: dict[Tile, list[int]] = {}
    for index, part in enumerate(parts):
        of_tile.setdefault(part.tile, []).append(index)
    for (tile, own), (other, others) in combinations(of_tile.items(), 2):
        area = Tile(*map(max, tile[:2], other[:2]), *map(min, tile[2:], other[2:]))
        if area.top >= area.bottom or area.left >= area.right:
            continue
        near = [(index, parts[index].inside(area)) for index in others if parts[index].is_in(area)]
        for first in own if near else ():
            if not parts[first].is_in(area):
                continue
            mask = parts[first].inside(area)
            for second, its in near:
                if parts[first].label != parts[second].label:
                    continue
                overlap = np.logical_and(mask, its).sum() / max(1, np.logical_or(mask, its).sum())
                if overlap >= SAME:
                    pairs.append((float(overlap), first, second))
    return pairs
