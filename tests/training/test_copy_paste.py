"""Objects laid over a picture: by hand to the pixel, and what holds for all."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from atto_det.training.copy_paste import paste
from atto_det.training.scene import Scene, mask_boxes

HEIGHT, WIDTH = 6, 8


def scene(colour, *objects):
    """A picture of one colour; objects are (class, top, left, bottom, right)."""
    masks = np.zeros((len(objects), HEIGHT, WIDTH), np.uint8)
    for mask, (_, top, left, bottom, right) in zip(masks, objects, strict=True):
        mask[top:bottom, left:right] = 1
    boxes = np.array([(left, top, right, bottom) for _, top, left, bottom, right in objects])
    classes = np.array([o[0] for o in objects], np.int64)
    image = np.full((HEIGHT, WIDTH, 3), colour, np.uint8)
    return Scene(image, boxes.reshape(-1, 4).astype(float), classes, masks)


def drawn(mask):
    return ["".join(".#"[v] for v in row) for row in mask]


def test_two_overlapping_rectangles_by_hand():
    onto = scene(10, (5, 0, 0, 4, 5), (6, 4, 6, 6, 8))
    # The larger one of the two that are pasted comes second in its picture and lies below.
    pasted = scene(200, (7, 1, 3, 3, 5), (8, 2, 2, 6, 7))
    before = [array.copy() for array in (onto.image, onto.masks, onto.boxes)]
    result = paste(onto, pasted, 0.1)
    assert result.classes.tolist() == [5, 6, 8, 7]
    assert [drawn(mask) for mask in result.masks] == [
        ["#####...", "###.....", "##......", "##......", "........", "........"],
        ["........", "........", "........", "........", ".......#", ".......#"],
        ["........", "........", "..#..##.", "..#####.", "..#####.", "..#####."],
        ["........", "...##...", "...##...", "........", "........", "........"],
    ]
    assert result.boxes.tolist() == [[0, 0, 5, 4], [7, 4, 8, 6], [2, 2, 7, 6], [3, 1, 5, 3]]
    under = result.masks[2:].any(0)
    assert (result.image[under] == 200).all()
    assert (result.image[~under] == 10).all()
    for array, old in zip((onto.image, onto.masks, onto.boxes), before, strict=True):
        assert np.array_equal(array, old)  # the given scene stays as it is


def test_objects_that_vanish_leave_and_so_do_those_with_too_small_a_share():
    onto = scene(10, (0, 0, 0, 2, 2), (1, 0, 2, 1, 7), (2, 5, 0, 6, 8))
    pasted = scene(200, (3, 0, 0, 2, 6))  # hides all of the first, four fifths of the second
    assert paste(onto, pasted, 0.0).classes.tolist() == [1, 2, 3]
    assert paste(onto, pasted, 0.2).classes.tolist() == [1, 2, 3]  # just a fifth is left
    assert paste(onto, pasted, 0.21).classes.tolist() == [2, 3]


def test_an_untouched_object_keeps_its_annotated_box():
    onto = scene(10, (0, 0, 0, 2, 2), (1, 4, 4, 6, 8))
    onto.boxes[:] = [[0, 0, 2.5, 2.5], [3.5, 3.5, 8, 6]]  # wider than their masks
    result = paste(onto, scene(200, (2, 5, 3, 6, 6)), 0.1)
    assert result.boxes.tolist() == [[0, 0, 2.5, 2.5], [4, 4, 8, 6], [3, 5, 6, 6]]


def test_a_pasted_object_within_another_stays_on_top_whatever_their_order():
    inner, outer = (1, 2, 2, 4, 4), (2, 0, 0, 6, 8)
    for pasted in (scene(9, inner, outer), scene(9, outer, inner)):
        result = paste(scene(10), pasted, 0.1)
        assert result.classes.tolist() == [2, 1]
        assert result.masks.sum((1, 2)).tolist() == [44, 4]


@st.composite
def scenes(draw, first_class):
    """Scenes of random objects that share no pixel, and one colour for each object."""
    labels = draw(st.lists(st.integers(0, 3), min_size=HEIGHT * WIDTH, max_size=HEIGHT * WIDTH))
    labels = np.array(labels).reshape(HEIGHT, WIDTH)
    masks = np.array([labels == k for k in (1, 2, 3) if (labels == k).any()], np.uint8)
    masks = masks.reshape(-1, HEIGHT, WIDTH)
    classes = first_class + np.arange(len(masks))
    image = np.full((HEIGHT, WIDTH, 3), first_class, np.uint8)
    for mask, value in zip(masks, classes, strict=True):
        image[mask == 1] = value + 100
    return Scene(image, mask_boxes(masks), classes, masks)


@given(scenes(0), scenes(50), st.floats(0, 1))
def test_what_holds_for_all(onto, pasted, share):
    result = paste(onto, pasted, share)
    assert result.masks.sum(0, dtype=int).max(initial=0) <= 1  # no two share a pixel
    assert set(result.classes) <= set(onto.classes) | set(pasted.classes)
    assert set(pasted.classes) <= set(result.classes)  # nothing covers them
    whole = dict(zip([*onto.classes, *pasted.classes], [*onto.masks, *pasted.masks], strict=True))
    for mask, box, number in zip(result.masks, result.boxes, result.classes, strict=True):
        assert (result.image[mask == 1] == number + 100).all()  # its own pixels, all of them
        assert (mask <= whole[number]).all()
        assert np.array_equal(mask_boxes(mask[None])[0], box)
        assert mask.sum() >= share * whole[number].sum()
    for number in set(onto.classes) - set(result.classes):
        hidden = pasted.masks.any(0)
        left = (whole[number] & ~hidden).sum()
        assert left == 0 or left < share * whole[number].sum()
