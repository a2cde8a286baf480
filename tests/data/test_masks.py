"""Masks from label images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as mask_utils

from atto_det.data.masks import box_iou, encode_labels, mask_box

BOXES = st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(21, 40)] * 2)


def test_runs_go_down_the_columns():
    labels = np.array([[0, 3, 3], [0, 0, 3]], np.uint8)
    [(value, rle)] = encode_labels(labels).items()
    assert value == 3
    # columns: 0 0 | 1 0 | 1 1 = runs of 2, 1, 1, 2; from the fourth on less the run two before:
    # 2 - 1 = 1. Each is one character, 48 + run.
    assert rle == {"size": [2, 3], "counts": b"2111"}
    assert mask_box(rle) == (1.0, 0.0, 3.0, 2.0)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)),
                  elements=st.sampled_from([0, 1, 2, 255])))  # fmt: skip
def test_round_trip(labels):
    found = encode_labels(labels)
    assert set(found) == set(labels.ravel().tolist()) - {0, 255}
    for value, rle in found.items():
        assert np.array_equal(mask_utils.decode(rle), labels == value)
        ys, xs = np.nonzero(labels == value)
        assert mask_box(rle) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


def test_iou_by_hand():
    assert box_iou((0, 0, 4, 4), (2, 2, 6, 6)) == pytest.approx(4 / 28)
    assert box_iou((0, 0, 4, 4), (4, 0, 8, 4)) == 0.0
    assert box_iou((0.5, 0, 1.5, 1), (0, 0, 1, 1)) == pytest.approx(1 / 3)


@given(BOXES, BOXES)
def test_iou_is_symmetric_and_one_only_for_equals(first, second):
    assert box_iou(first, second) == box_iou(second, first)
    assert (box_iou(first, second) == 1.0) == (first == second)
