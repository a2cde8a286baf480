"""Masks on crops are those on whole pictures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atto_det.evaluation.arrays import encode_crop, encode_masks

SIDES = st.integers(1, 9)


@settings(deadline=None, max_examples=150)
@given(data=st.data(), height=SIDES, width=SIDES)
def test_a_crop_is_encoded_as_the_whole_picture(data, height, width):
    y1, y2 = sorted(data.draw(st.tuples(st.integers(0, height), st.integers(0, height))))
    x1, x2 = sorted(data.draw(st.tuples(st.integers(0, width), st.integers(0, width))))
    seed = data.draw(st.integers(0, 2**16))
    crop = np.random.default_rng(seed).random((y2 - y1, x2 - x1)) < data.draw(st.floats(0, 1))
    whole = np.zeros((1, height, width), bool)
    whole[0, y1:y2, x1:x2] = crop
    assert [encode_crop(crop, x1, y1, height, width)] == encode_masks(whole)


@pytest.mark.parametrize("full", [np.ones((3, 5), bool), np.zeros((3, 5), bool)])
def test_a_crop_that_is_the_picture(full):
    assert [encode_crop(full, 0, 0, 3, 5)] == encode_masks(full[None])
