"""Masks of COCO annotations: the same in every form, and checked before C code sees them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as mask_utils

from atto_det.data.coco_masks import _decompressed, read_mask
from atto_det.errors import UserError

MASKS = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 1)
)


def test_polygon_runs_and_compressed_runs_are_the_same(written):
    mask = np.zeros((8, 6), np.uint8)
    mask[2:6, 1:4] = 1
    compressed = mask_utils.encode(np.asfortranarray(mask))["counts"].decode()
    dataset = written(
        {"segmentation": [[1, 2, 4, 2, 4, 6, 1, 6]], "bbox": [0.5, 2, 3.5, 4]},
        {"segmentation": {"size": [8, 6], "counts": [10, 4, 4, 4, 4, 4, 18]}},
        {"segmentation": {"size": [8, 6], "counts": compressed}, "category_id": 3},
    )
    assert dataset.class_names == ("first", "last")  # by id
    instances = dataset.records[0].instances
    assert [item.category for item in instances] == [1, 1, 0]
    assert [item.box for item in instances] == [(0.5, 2, 4, 6), (1, 2, 4, 6), (1, 2, 4, 6)]
    for item in instances:
        assert np.array_equal(mask_utils.decode(item.rle), mask)


def test_several_polygons_are_one_object(written):
    squares = [[0, 0, 2, 0, 2, 2, 0, 2], [4, 4, 6, 4, 6, 8, 4, 8]]
    (item,) = written({"segmentation": squares}).records[0].instances
    assert mask_utils.area(item.rle) == 4 + 8
    assert item.box == (0, 0, 6, 8)


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        [[]],
        [[0, 0, 2, 2]],
        [[0, 0, 2, 2, 1, 1, 5]],
        [[0, 0, 2, 2, "1", 1]],
        [1, 2, 3, 4, 5, 6],
        [[0, 0, 1e9, 0, 1e9, 1e9]],
        {"size": [6, 8], "counts": [48]},
        {"size": [8, 6], "counts": [47]},
        {"size": [8, 6], "counts": [50, -2]},
        {"size": [8, 6], "counts": "PPPP"},
        {"size": [8, 6], "counts": "é"},
        {"size": [8, 6]},
    ],
)
def test_malformed_masks(written, segmentation):
    sentence = r"x\.json: annotations\[0\] needs polygons or an RLE of 8x6"
    with pytest.raises(UserError, match=sentence):
        written({"segmentation": segmentation})


@given(MASKS)
def test_length_of_compressed_runs(mask):
    counts = mask_utils.encode(np.asfortranarray(mask))["counts"].decode()
    assert sum(_decompressed(counts)) == mask.size
    found = read_mask({"size": list(mask.shape), "counts": counts}, *mask.shape)
    assert (found.rle is None) == (not mask.any())
    if found.rle:
        assert np.array_equal(mask_utils.decode(found.rle), mask)


@given(st.text(max_size=12))
def test_no_text_gets_past_the_checks_to_crash(counts):
    found = read_mask({"size": [3, 4], "counts": counts}, 3, 4)
    if found.rle:
        assert mask_utils.decode(found.rle).shape == (3, 4)


def test_a_number_of_seven_characters(written):
    """2 of 48 pixels, each run written with as many zeros in front as C's int does not hold."""

    def long(run: int) -> str:
        parts = [run & 31, *[0] * 6]
        return "".join(chr(48 + part + (32 if k < 6 else 0)) for k, part in enumerate(parts))

    counts = long(10) + long(2) + chr(48 + (4 | 32)) + "1"  # 36 = 4 + 1 * 32
    (item,) = written({"segmentation": {"size": [8, 6], "counts": counts}}).records[0].instances
    assert mask_utils.area(item.rle) == 2
    assert item.box == (1, 2, 2, 4)
