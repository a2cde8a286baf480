"""What is drawn for a training picture, and what becomes of the picture and its objects."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as mask_utils
from yacs.config import CfgNode

from atto_det.data import ImageRecord, Instance
from atto_det.errors import UserError
from atto_det.torchvision.config import DEFAULTS, _values
from atto_det.training.augmentation import Augmentation, TrainingPicture
from atto_det.training.scene import load_scene, mask_boxes, on_canvas

HEIGHT, WIDTH = 48, 64
RECTANGLES = {0: (8, 4, 20, 44), 1: (24, 10, 60, 30), 2: (40, 34, 62, 46)}  # x1 y1 x2 y2


def encode(mask):
    return mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Three pictures of three rectangles each; red tells the picture, green and blue the object."""
    folder, result = tmp_path_factory.mktemp("pictures"), []
    for number in range(3):
        pixels, objects = np.full((HEIGHT, WIDTH, 3), (60 + 60 * number, 0, 0), np.uint8), []
        for category, (x1, y1, x2, y2) in RECTANGLES.items():
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            mask[y1:y2, x1:x2] = 1
            pixels[mask == 1, 1:] = 80 * (category + 1)
            objects.append(Instance(category, (x1, y1, x2, y2), encode(mask)))
        path = folder / f"{number}.png"
        Image.fromarray(pixels).save(path)
        record = ImageRecord(str(number), str(path), HEIGHT, WIDTH, tuple(objects))
        result.append(TrainingPicture(record, True))
    return result


def augmentation(**keys):
    """By keys of INPUT, a section's as SECTION__KEY."""
    cfg = CfgNode(_values(DEFAULTS))
    cfg.INPUT.FORMAT, cfg.INPUT.MIN_SIZE_TRAIN = "RGB", (0,)
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.MASK_ON = [123.4, 116.6, 104.0], True
    for key, value in keys.items():
        *sections, name = key.split("__")
        node = cfg.INPUT
        for section in sections:
            node = node[section]
        node[name] = value
    return Augmentation(cfg)


def jittered(low, high, size, **keys):
    return augmentation(
        LSJ__ENABLED=True, LSJ__SCALE_RANGE=(low, high), LSJ__SIZE=size, RANDOM_FLIP="none", **keys
    )


def assert_equal(one, other):
    for name in ("image", "boxes", "classes", "masks"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_without_any_key_a_picture_stays_as_it_is(pictures):
    scene = augmentation(RANDOM_FLIP="none")(pictures, 1, 0)
    assert np.array_equal(scene.image, np.array(Image.open(pictures[1].record.file_name)))
    assert scene.boxes.tolist() == [list(box) for box in RECTANGLES.values()]
    assert scene.classes.tolist() == [0, 1, 2]
    assert np.array_equal(mask_boxes(scene.masks), scene.boxes)


def test_padding_is_the_mean_and_lies_to_the_right_and_below(pictures):
    scene = jittered(0.5, 0.5, (60, 128))(pictures, 0, 7)  # fits 60×80 of 60×128; half: 30×40
    assert scene.image.shape == (60, 128, 3)
    assert (scene.image[30:] == (123, 117, 104)).all()
    assert (scene.image[:, 40:] == (123, 117, 104)).all()
    assert (scene.image[:30, :40, 0] == 60).all()
    assert not scene.masks[:, 30:].any()
    assert not scene.masks[:, :, 40:].any()
    assert scene.boxes.tolist() == [[v * 0.625 for v in box] for box in RECTANGLES.values()]
    turned = augmentation(FORMAT="BGR", LSJ__ENABLED=True, LSJ__SIZE=(96, 96))
    assert turned.padding.tolist() == [104, 117, 123]


def test_a_crop_cuts_objects_and_their_boxes(pictures):
    seen = set()
    for seed in range(40):
        scene = jittered(2.0, 2.0, (48, 32))(pictures, 0, seed)
        # Fitted into 48×32 it is 24×32, twice that 48×64: its own size, half of which is seen.
        whole = np.array(Image.open(pictures[0].record.file_name))
        cuts = (whole[:, left : left + 32] for left in range(33))
        found = [left for left, cut in enumerate(cuts) if np.array_equal(scene.image, cut)]
        assert found
        left = found[0]
        seen.add(left)
        boxes = {}
        for category, (x1, y1, x2, y2) in RECTANGLES.items():
            start, end = max(x1 - left, 0), min(x2 - left, 32)
            if start < end:
                boxes[category] = [start, y1, end, y2]
        assert dict(zip(scene.classes.tolist(), scene.boxes.tolist(), strict=True)) == boxes
        assert np.array_equal(mask_boxes(scene.masks), scene.boxes)
    assert len(seen) > 15


def test_the_box_of_a_cut_object_is_that_of_what_is_left_of_its_mask(pictures):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[30:40, 5:50], mask[10:30, 40:50] = 1, 1  # an L lying down
    one = Instance(0, (5, 10, 50, 40), encode(mask))
    record = replace(pictures[0].record, instances=(one,))
    scene = load_scene(record, (HEIGHT, WIDTH), (0, 0, HEIGHT, 30))
    assert scene.boxes.tolist() == [[5, 30, 30, 40]]
    mirrored = load_scene(record, (HEIGHT, WIDTH), (0, 0, HEIGHT, 30), mirrored=True)
    assert mirrored.boxes.tolist() == [[0, 30, 25, 40]]
    assert np.array_equal(mirrored.image, scene.image[:, ::-1])
    assert len(load_scene(record, (HEIGHT, WIDTH), (0, 0, 10, WIDTH)).boxes) == 0
    assert on_canvas(scene, (32, 64), np.zeros(3, np.uint8)).boxes.tolist() == [[5, 30, 30, 32]]


def test_objects_without_masks_train_boxes_alone_and_are_not_pasted(pictures):
    bare = [
        TrainingPicture(
            replace(r, instances=tuple(replace(o, rle=None) for o in r.instances)), True
        )
        for r, _ in pictures
    ]
    keys = {"RANDOM_FLIP": "none", "COPY_PASTE__PROBABILITY": 1.0, "LSJ__ENABLED": True}
    keys |= {"LSJ__SIZE": (40, 40), "LSJ__SCALE_RANGE": (0.5, 2.0)}
    make = augmentation(**keys)
    with pytest.raises(UserError, match=r"an object in .*0.png has a box but no mask, which MODEL"):
        make(bare, 0, 0)
    make.needs_masks = False
    keys["COPY_PASTE__PROBABILITY"] = 0.0
    for seed in range(20):
        one, other = make(bare, 0, seed), augmentation(**keys)(pictures, 0, seed)
        assert np.array_equal(one.image, other.image)
        shared = [np.flatnonzero(one.classes == k)[0] for k in other.classes]
        # A box is cut at the crop's edge; a mask ends at a pixel's.
        np.testing.assert_allclose(one.boxes[shared], other.boxes, atol=1)


def test_scales_are_drawn_from_the_whole_range(pictures):
    make = jittered(0.25, 1.5, (96, 96))
    padding = [
        (make(pictures, 0, seed).image[:, 0] != (123, 117, 104)).any(1) for seed in range(60)
    ]
    heights = [int(rows.sum()) for rows in padding]
    assert min(heights) < 30 < 80 < max(heights) <= 96


def test_pasted_objects_come_from_another_picture_over_the_own_ones(pictures):
    make = augmentation(RANDOM_FLIP="none", COPY_PASTE__PROBABILITY=1.0)
    counts, sources = set(), set()
    for seed in range(40):
        scene = make(pictures, 0, seed)
        reds = [np.unique(scene.image[mask == 1][:, 0]).tolist() for mask in scene.masks]
        assert all(len(red) == 1 for red in reds)  # an object has pixels of one picture alone
        own = [red for [red] in reds if red == 60]
        pasted = {red for [red] in reds} - {60}
        assert len(pasted) <= 1  # never two sources, never itself
        sources |= pasted
        counts.add(len(reds) - len(own))
        for mask, category in zip(scene.masks, scene.classes, strict=True):
            assert (scene.image[mask == 1][:, 1] == 80 * (category + 1)).all()
    assert sources == {120, 180}
    assert counts == {0, 1, 2, 3}
    assert_equal(make(pictures[:1], 0, 3), augmentation(RANDOM_FLIP="none")(pictures, 0, 3))


def test_pasting_leaves_the_picture_s_own_draws_as_they_were(pictures):
    plain = augmentation(MIN_SIZE_TRAIN=(30, 40, 50))
    pasting = augmentation(MIN_SIZE_TRAIN=(30, 40, 50), COPY_PASTE__PROBABILITY=0.5)
    same = 0
    for seed in range(30):
        one, other = plain(pictures, 2, seed), pasting(pictures, 2, seed)
        assert one.image.shape == other.image.shape
        untouched = (other.image[..., 0] > 150) & (one.image[..., 0] > 150)
        assert untouched.any()
        same += np.array_equal(one.image, other.image)
    assert 8 <= same <= 25


def test_a_picture_that_must_not_be_mirrored_is_not_pasted_mirrored(pictures):
    make = augmentation(COPY_PASTE__PROBABILITY=1.0)
    fixed = [TrainingPicture(record, False) for record, _ in pictures]
    mixed = [TrainingPicture(pictures[0].record, True), fixed[1]]
    for seed in range(30):
        for pool in (fixed, mixed):
            scene = make(pool, 0, seed)
            for mask, category in zip(scene.masks, scene.classes, strict=True):
                if scene.image[mask == 1][0, 0] != 60:  # pasted: it lies where it lay
                    x1, y1, x2, y2 = RECTANGLES[int(category)]
                    assert mask[y1:y2, x1:x2].sum() == mask.sum()


def test_colours_change_within_their_strength_and_nothing_else_does(pictures):
    plain = augmentation(RANDOM_FLIP="none")(pictures, 0, 0)
    factors = []
    for seed in range(40):
        scene = augmentation(RANDOM_FLIP="none", COLOR_JITTER__BRIGHTNESS=0.5)(pictures, 0, seed)
        assert_equal(replace(scene, image=plain.image), plain)
        factors.append(scene.image[0, 0, 0] / 60)
        assert np.array_equal(np.unique(scene.image[..., 0]), scene.image[:1, 0, 0])
    assert 0.5 - 0.02 <= min(factors) < 0.65
    assert 1.35 < max(factors) <= 1.5 + 0.02
    for name in ("CONTRAST", "SATURATION", "HUE"):
        changed = augmentation(RANDOM_FLIP="none", **{f"COLOR_JITTER__{name}": 0.4})
        assert any(
            not np.array_equal(changed(pictures, 0, seed).image, plain.image) for seed in range(3)
        )
    padded = jittered(0.5, 0.5, (48, 64), COLOR_JITTER__BRIGHTNESS=0.9)(pictures, 0, 4)
    assert (padded.image[24:] == (123, 117, 104)).all()  # for the network it is zero still


ALL = {
    "LSJ__ENABLED": True,
    "LSJ__SCALE_RANGE": (0.3, 2.0),
    "LSJ__SIZE": (40, 56),
    "COPY_PASTE__PROBABILITY": 0.8,
    "COLOR_JITTER__BRIGHTNESS": 0.3,
    "COLOR_JITTER__CONTRAST": 0.3,
    "COLOR_JITTER__SATURATION": 0.3,
    "COLOR_JITTER__HUE": 0.1,
}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(index=st.integers(0, 2), seed=st.integers(0, 2**32 - 1))
def test_what_holds_for_all_that_is_drawn(pictures, index, seed):
    scene = augmentation(**ALL)(pictures, index, seed)
    assert_equal(scene, augmentation(**ALL)(pictures, index, seed))
    assert scene.image.shape == (40, 56, 3)
    assert scene.image.dtype == scene.masks.dtype == np.uint8
    assert scene.masks.sum(0, dtype=int).max(initial=0) <= 1
    assert scene.masks.any((1, 2)).all()
    assert set(scene.classes) <= {0, 1, 2}
    assert (scene.boxes[:, :2] >= 0).all()
    assert (scene.boxes[:, 2:] <= (56, 40)).all()
    tight = mask_boxes(scene.masks)
    assert (tight[:, :2] >= scene.boxes[:, :2] - 0.5).all()  # masks take the nearest pixel
    assert (tight[:, 2:] <= scene.boxes[:, 2:] + 0.5).all()


def test_other_seeds_draw_other_things(pictures):
    results = [augmentation(**ALL)(pictures, 0, seed).image.tobytes() for seed in range(12)]
    assert len(set(results)) == 12


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"LSJ__SCALE_RANGE": (2.0, 0.1)}, r"INPUT.LSJ.SCALE_RANGE is \(2.0, 0.1\): give"),
        ({"LSJ__SCALE_RANGE": (0.0, 1.0)}, "INPUT.LSJ.SCALE_RANGE"),
        ({"LSJ__SCALE_RANGE": (1.0,)}, "INPUT.LSJ.SCALE_RANGE"),
        ({"LSJ__SCALE_RANGE": ("a", 1.0)}, "INPUT.LSJ.SCALE_RANGE"),
        ({"LSJ__SIZE": (0, 5)}, r"INPUT.LSJ.SIZE is \(0, 5\): give height and width"),
        ({"LSJ__SIZE": (512,)}, "INPUT.LSJ.SIZE"),
        (
            {"COPY_PASTE__PROBABILITY": 1.5},
            "INPUT.COPY_PASTE.PROBABILITY is 1.5: it must be between",
        ),
        ({"COPY_PASTE__MIN_VISIBLE": -0.1}, "INPUT.COPY_PASTE.MIN_VISIBLE is -0.1"),
        ({"COLOR_JITTER__HUE": 0.6}, "INPUT.COLOR_JITTER.HUE is 0.6: it must be between 0 and 0.5"),
        ({"COLOR_JITTER__CONTRAST": float("nan")}, "INPUT.COLOR_JITTER.CONTRAST is nan"),
    ],
)
def test_values_that_make_no_sense_are_one_sentence(keys, sentence):
    with pytest.raises(UserError, match=sentence):
        augmentation(**keys)
