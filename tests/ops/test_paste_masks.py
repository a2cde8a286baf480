"""Masks on crops are those on whole pictures."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atto_det.complexity.regions import spread_boxes
from atto_det.evaluation.arrays import encode_crops, encode_masks
from atto_det.ops.paste_masks import paste_crops, paste_masks

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
    assert encode_crops([crop], [(x1, y1)], height, width) == encode_masks(whole)


@pytest.mark.parametrize("full", [np.ones((3, 5), bool), np.zeros((3, 5), bool)])
def test_a_crop_that_is_the_picture(full):
    assert encode_crops([full], [(0, 0)], 3, 5) == encode_masks(full[None])


def test_crops_of_pasted_masks():
    """Boxes over the picture's edges and outside of it, too."""
    boxes = torch.cat(
        [spread_boxes(30, 61, 83), torch.tensor([[-9.0, -3, 99, 70], [90, 5, 99, 9]])]
    )
    masks = torch.rand(32, 28, 28, generator=torch.Generator().manual_seed(0))
    whole = paste_masks(masks, boxes, 61, 83, 0.5).numpy()
    crops, corners = paste_crops(masks, boxes, 61, 83, 0.5)
    assert whole.any(axis=(1, 2)).sum() > 25
    assert encode_crops([crop.numpy() for crop in crops], corners, 61, 83) == encode_masks(whole)
