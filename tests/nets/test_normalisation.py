"""A stem moved between normalisations: exact at every pixel, or refused."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from atto_det.errors import UserError
from atto_det.nets.normalisation import Normalisation, absorb, difference

IMAGENET = Normalisation.of_unit_range((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BASE = Normalisation((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
DETECTRON2 = Normalisation((103.53, 116.28, 123.675), (1.0, 1.0, 1.0), "BGR")


def normalised(picture: torch.Tensor, by: Normalisation) -> torch.Tensor:
    """An RGB picture (3, H, W) in 0..255 as a network trained with `by` gets it."""
    picture = picture if by.channel_order == "RGB" else picture.flip(0)
    mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (by.mean, by.std))
    return ((picture - mean) / std)[None]


def test_worked_by_hand():
    weight = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    trained = Normalisation((10, 20, 30), (10, 20, 40), "RGB")
    fed = Normalisation((30, 20, 10), (5, 5, 5), "BGR")
    assert absorb(weight, trained, fed).flatten().tolist() == [0.375, 0.5, 0.5]
    assert absorb(weight, trained, trained.in_order("BGR")).flatten().tolist() == [3, 2, 1]


def test_the_same_normalisation_in_other_units_changes_no_bit():
    weight = torch.randn(8, 3, 7, 7)
    assert torch.equal(absorb(weight, IMAGENET, BASE), weight)
    assert difference(IMAGENET, BASE) == ""
    expected = "std [57.375, 57.12, 58.395] to [1.0, 1.0, 1.0], RGB to BGR"
    assert difference(IMAGENET, DETECTRON2) == expected


colours = st.tuples(*[st.floats(0.0, 255.0)] * 3)
spreads = st.tuples(*[st.floats(0.05, 300.0)] * 3)
orders = st.sampled_from(["RGB", "BGR"])


@settings(max_examples=60)
@given(colours, spreads, spreads, orders, orders, st.integers(0, 10_000))
def test_the_outputs_are_equal_borders_included(mean, one, other, order, fed_order, seed):
    draw = torch.Generator().manual_seed(seed)
    picture = torch.randint(0, 256, (3, 11, 14), generator=draw).double()
    weight = torch.randn(4, 3, 7, 7, generator=draw, dtype=torch.float64)
    trained = Normalisation(mean, one, order)
    fed_mean = mean if order == fed_order else mean[::-1]
    fed = Normalisation(fed_mean, other, fed_order)
    expected = F.conv2d(normalised(picture, trained), weight, stride=2, padding=3)
    found = F.conv2d(normalised(picture, fed), absorb(weight, trained, fed), stride=2, padding=3)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
    back = absorb(absorb(weight, trained, fed), fed, trained)
    torch.testing.assert_close(back, weight, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("fed", "advice"),
    [
        (Normalisation((123.675, 116.28, 103.53), (1, 1, 1), "BGR"), DETECTRON2),  # colours swapped
        (Normalisation((103.53, 116.28, 123.675), (58, 57, 57), "RGB"), BASE),
        (Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "RGB"), BASE),  # 0..1
        (Normalisation((103.53, 116.30, 123.675), (1, 1, 1), "BGR"), DETECTRON2),  # 0.02 off
    ],
)
def test_another_mean_is_refused_with_the_one_to_set(fed, advice):
    weight = torch.randn(2, 3, 7, 7)
    with pytest.raises(UserError) as caught:
        absorb(weight, IMAGENET, fed)
    text = f"set MODEL.PIXEL_MEAN to {list(advice.mean)} (INPUT.FORMAT is {fed.channel_order})"
    assert text in str(caught.value)
    absorb(weight, IMAGENET, Normalisation(advice.mean, fed.std, fed.channel_order))


def test_rounding_of_the_mean_is_no_difference():
    absorb(torch.randn(2, 3, 7, 7), IMAGENET, Normalisation((123.68, 116.28, 103.53), (1, 1, 1)))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (((1, 2), (1, 1, 1)), "mean must be three numbers"),
        (((1, 2, math.nan), (1, 1, 1)), "mean must be three numbers"),
        (((1, 2, "3"), (1, 1, 1)), "mean must be three numbers"),
        ((7.0, (1, 1, 1)), "mean must be three numbers"),
        (((1, 2, 3), (1, 0, 1)), "std must be three positive numbers"),
        (((1, 2, 3), (1, 1, math.inf)), "std must be three positive numbers"),
        (((1, 2, 3), (1, 1, 1), "L"), "channel order is 'L'"),
    ],
)
def test_what_is_no_normalisation(arguments, text):
    with pytest.raises(UserError, match=text):
        Normalisation(*arguments)


def test_of_a_detector_with_detectron2s_defaults():
    config = {"MODEL": {"PIXEL_STD": [57.375, 57.12, 58.395]}, "INPUT": {}}
    found = Normalisation.of_detector(config, "a.yaml")
    assert found == Normalisation((103.53, 116.28, 123.675), (57.375, 57.12, 58.395), "BGR")
    assert Normalisation.of_detector({"MODEL": None}, "a.yaml") == DETECTRON2
    with pytest.raises(UserError, match=r"a\.yaml: the channel order is 'L'.*INPUT\.FORMAT"):
        Normalisation.of_detector({"INPUT": {"FORMAT": "L"}}, "a.yaml")
    with pytest.raises(UserError, match=r"a\.yaml: the mean must be three.*MODEL\.PIXEL_MEAN"):
        Normalisation.of_detector({"MODEL": {"PIXEL_MEAN": 3}}, "a.yaml")
