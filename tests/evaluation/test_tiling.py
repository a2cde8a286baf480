"""Objects over the borders of tiles come out whole, and once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle_masks

from atto_det.errors import UserError
from atto_det.evaluation import Detections
from atto_det.evaluation.arrays import encode_masks
from atto_det.evaluation.tiling import (
    OVERLAP,
    check_tile,
    detect_in_tiles,
    merge_tiles,
    tiles_of,
)


def painted(height: int, width: int, **objects: tuple[int, int, int, int]) -> np.ndarray:
    """A picture of rectangles (x1, y1, x2, y2), object k of value k + 1, class k % 2."""
    picture = np.zeros((height, width, 3), np.uint8)
    for value, (x1, y1, x2, y2) in enumerate(objects.values(), start=1):
        picture[y1:y2, x1:x2] = value
    return picture


def seen(image: np.ndarray, masks: bool = True) -> Detections:
    """A perfect detector of what is in a picture or a tile; larger areas are surer."""
    values = [value for value in np.unique(image) if value]
    inside = [image[:, :, 0] == value for value in values]
    boxes = [[x.min(), y.min(), x.max() + 1, y.max() + 1] for y, x in map(np.nonzero, inside)]
    return Detections(
        boxes=np.array(boxes, float).reshape(-1, 4),
        rles=encode_masks(np.array(inside).reshape(-1, *image.shape[:2])) if masks else None,
        classes=np.array([value % 2 for value in values], dtype=np.int64),
        scores=np.array([mask.sum() / 1e6 for mask in inside], float),
    )


def same(one: Detections, other: Detections) -> None:
    order, wanted = (np.lexsort(found.boxes.T) for found in (one, other))
    assert np.array_equal(one.boxes[order], other.boxes[wanted])
    assert np.array_equal(one.classes[order], other.classes[wanted])
    if one.rles is not None:
        assert [one.rles[k] for k in order] == [other.rles[k] for k in wanted]


@given(height=st.integers(1, 700), width=st.integers(1, 700), side=st.integers(64, 300))
@settings(deadline=None)
def test_tiles_cover_the_picture_and_overlap(height, width, side):
    tiles = tiles_of(height, width, side)
    covered = np.zeros((height, width), int)
    for top, left, bottom, right in tiles:
        assert (bottom - top, right - left) == (min(side, height), min(side, width))
        covered[top:bottom, left:right] += 1
    assert covered.all()
    for starts in ({tile.top for tile in tiles}, {tile.left for tile in tiles}):
        steps = np.diff(sorted(starts))
        assert (steps <= np.ceil((1 - OVERLAP) * side)).all()


def test_objects_over_borders_of_tiles():
    """Tiles of 100 pixels begin at 0, 67, 134, 201 (x) and 0, 50 (y) of a picture of 301 x 150."""
    picture = painted(
        150,
        301,
        across=(20, 30, 280, 60),  # over all four columns
        corner=(80, 65, 160, 140),  # over tiles of both rows
        small=(170, 100, 176, 110),  # in four of them as a whole
        neighbour=(262, 61, 290, 90),  # of the class of `across`, a pixel away
        strip=(0, 145, 301, 150),
    )
    found = detect_in_tiles(seen, picture, 100)
    same(found, seen(picture))
    assert (np.diff(found.scores) <= 0).all()


def test_without_masks_boxes_do():
    picture = painted(
        90, 250, one=(20, 10, 230, 40), two=(30, 50, 60, 80), three=(200, 60, 220, 70)
    )
    found = detect_in_tiles(lambda image: seen(image, masks=False), picture, 100)
    assert found.rles is None
    same(found, seen(picture, masks=False))


def test_what_agrees_nowhere_stays_apart():
    """Two masks of one class that share less than half of what both tiles show."""
    tiles = tiles_of(100, 170, 100)
    one = seen(painted(100, 100, one=(60, 10, 100, 30)))
    other = seen(painted(100, 100, other=(0, 25, 40, 60)))
    found = merge_tiles(tiles, [one, other], 100, 170)
    assert found.boxes.tolist() == [[70, 25, 110, 60], [60, 10, 100, 30]]
    assert rle_masks.area(found.rles).tolist() == [40 * 35, 40 * 20]


def test_a_small_picture_is_seen_as_it_is():
    picture = painted(100, 64, one=(3, 4, 30, 60))
    calls = []
    found = detect_in_tiles(lambda image: calls.append(image) or seen(image), picture, 100)
    assert len(calls) == 1
    assert calls[0] is picture
    same(found, seen(picture))


def test_nothing_found():
    found = detect_in_tiles(seen, np.zeros((200, 200, 3), np.uint8), 100)
    assert found.boxes.shape == (0, 4)
    assert found.rles == []


@pytest.mark.parametrize("side", [0, 63, 100.0, "640"])
def test_sides_that_are_none(side):
    with pytest.raises(UserError, match="whole number from 64"):
        check_tile(side)
