"""Polygons along the edges of pixels give the same masks."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as mask_utils

from atto_det.data.outlines import mask_polygons

MASKS = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 1)
)


@given(MASKS)
@settings(max_examples=300)
def test_polygons_give_the_same_mask(mask):
    polygons = mask_polygons(mask)
    assert all(len(polygon) >= 8 for polygon in polygons)
    if mask.any():
        rle = mask_utils.merge(mask_utils.frPyObjects(polygons, *mask.shape))
        assert np.array_equal(mask_utils.decode(rle), mask)
    else:
        assert polygons == []


def test_polygons_by_hand():
    mask = np.zeros((5, 7), np.uint8)
    mask[1:3, 1:4] = 1
    mask[4, 6] = 1
    one, other = (set(zip(p[::2], p[1::2], strict=True)) for p in mask_polygons(mask))
    assert one == {(1, 1), (4, 1), (4, 3), (1, 3)}
    assert other == {(6, 4), (7, 4), (7, 5), (6, 5)}
