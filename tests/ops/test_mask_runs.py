"""Run lengths of masks are those of the masks that are painted."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from atto_det.complexity.regions import spread_boxes
from atto_det.evaluation.arrays import compress_runs, encode_masks
from atto_det.ops.mask_runs import mask_runs
from atto_det.ops.paste_masks import paste_masks

ODD_BOXES = [[-20.0, -10, 120, 90], [3.2, 4.1, 3.9, 4.6], [90, 5, 99, 9], [0, 0, 83, 61]]


def test_a_mask_by_hand():
    """One cell of 1 in a box of 8x4 pixels.

    Its centre is that of the box, and a pixel's value is (1 - across) * (1 - down) of its distances
    in cells: down 3/8, 1/8, 1/8, 3/8, across 7/16, 5/16, 3/16, 1/16, 1/16 and so on.
    """
    runs = mask_runs(np.ones((1, 1, 1)), np.array([[2.0, 1, 10, 5]]), 6, 12, 0.5)
    painted = np.zeros((6, 12), bool)
    painted[2:4, 3:9] = True  # 0.875 * 0.6875 = 0.60; beside them 0.875 * 0.5625 = 0.49
    painted[[1, 4], 4:8] = True  # 0.625 * 0.8125 = 0.51; beside them 0.625 * 0.6875 = 0.43
    assert compress_runs(runs, 6, 12) == encode_masks(painted[None])


@pytest.mark.parametrize("coarse", [3, 28], ids=["smooth", "noise"])
def test_runs_are_those_of_painted_masks(coarse):
    boxes = torch.cat([spread_boxes(60, 61, 83), torch.tensor(ODD_BOXES)])
    noise = torch.rand(64, 1, coarse, coarse, generator=torch.Generator().manual_seed(0))
    masks = functional.interpolate(noise, size=(28, 28), mode="bicubic")[:, 0].clamp(0, 1)
    painted = paste_masks(masks, boxes, 61, 83, 0.5).numpy()
    assert painted.any(axis=(1, 2)).sum() > 50
    runs = mask_runs(masks.numpy(), boxes.numpy(), 61, 83, 0.5)
    assert compress_runs(runs, 61, 83) == encode_masks(painted)


@settings(deadline=None, max_examples=200)
@given(data=st.data(), height=st.integers(1, 9), width=st.integers(1, 9), cells=st.integers(1, 6))
def test_any_mask(data, height, width, cells):
    sides = st.floats(0.125, 20, width=32)
    x, y = (data.draw(st.floats(-9, 12, width=32)) for _ in range(2))
    box = torch.tensor([[x, y, x + data.draw(sides), y + data.draw(sides)]])
    seed = data.draw(st.integers(0, 2**16))
    mask = torch.rand(1, cells, cells, generator=torch.Generator().manual_seed(seed))
    painted = paste_masks(mask.double(), box.double(), height, width, 0.5)
    runs = mask_runs(mask.double().numpy(), box.double().numpy(), height, width, 0.5)
    assert (runs[0] >= 0).all()
    assert runs[0].sum() == height * width
    assert compress_runs(runs, height, width) == encode_masks(painted.numpy())


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_nothing_and_everything(value):
    box = np.array([[-100.0, -100, 100, 100]])
    [runs] = mask_runs(np.full((1, 4, 4), value), box, 3, 5, 0.5)
    assert runs.tolist() == ([0, 15] if value else [15])
    assert mask_runs(np.zeros((0, 4, 4)), np.zeros((0, 4)), 3, 5, 0.5) == []


def test_values_at_the_threshold_belong_to_the_mask():
    """Cells of one pixel each, whose values are exact: many are the threshold."""
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 5, (1, 16, 16)) / 4
    runs = mask_runs(mask, np.array([[0.0, 0, 16, 16]]), 16, 16, 0.5)
    assert (mask == 0.5).sum() > 30
    assert compress_runs(runs, 16, 16) == encode_masks(mask >= 0.5)


def test_no_run_is_negative():
    """Two crossings next to each other, which rounding swaps."""
    mask = np.ones((1, 5, 5))
    mask[0, 2, 2] = np.nextafter(0.5, 0)
    [runs] = mask_runs(mask, np.array([[0.0, 0, 5, 5]]), 5, 5, 0.5)
    assert (runs >= 0).all()
    assert runs.sum() == 25


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.9])
def test_other_thresholds(threshold):
    """A low one would reach beyond the pixels around the box."""
    boxes = torch.tensor([[20.0, 12, 60, 40], [-30, -9, 70, 50], [70, 50, 99, 88]]).double()
    masks = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0)).double().sqrt()
    painted = paste_masks(masks, boxes, 61, 83, threshold).numpy()
    runs = mask_runs(masks.numpy(), boxes.numpy(), 61, 83, threshold)
    assert compress_runs(runs, 61, 83) == encode_masks(painted)
