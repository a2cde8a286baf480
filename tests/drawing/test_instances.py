"""Drawing: what must be seen is where it must be; the rest is a matter of looking."""

import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rectangles import rectangle

from atto_det.drawing.instances import (
    LABEL_SHARE,
    _place_label,
    class_colors,
    contact_sheet,
    draw_instances,
    side_by_side,
    write_image,
)
from atto_det.errors import UserError

NAMES = ("cat", "dog", "cow")


def gray(height: int, width: int, value: int = 128) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def draw(image: np.ndarray, *rows: tuple, scores=None) -> np.ndarray:
    """Rows are (class, box), the mask being the box."""
    height, width = image.shape[:2]
    return draw_instances(
        image,
        np.array([row[1] for row in rows], dtype=float).reshape(-1, 4),
        [rectangle(height, width, row[1]) for row in rows],
        [row[0] for row in rows],
        NAMES,
        scores,
    )


def test_colors_are_stable_and_unlike() -> None:
    colors = class_colors(60)
    assert class_colors(20) == colors[:20]
    assert len(set(colors)) == 60
    lab = cv2.cvtColor(np.array([colors[:20]], np.float32) / 255, cv2.COLOR_BGR2Lab)[0]
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=2) + 1e3 * np.eye(20)
    assert distances.min() > 25  # 2.3 is a just noticeable difference
    assert len(class_colors(5000)) == 5000


def test_an_instance_changes_its_own_pixels_and_its_label_alone() -> None:
    image = gray(300, 400)
    before = image.copy()
    drawn = draw(image, (1, (100, 150, 200, 250)))
    assert (image == before).all()  # a copy
    changed = (drawn != image).any(axis=2)
    assert changed[155:245, 105:195].all()
    rest = changed.copy()
    rest[148:252, 98:202] = False  # outlines are some pixels wide
    rows, columns = np.nonzero(rest)
    assert rows.size > 0
    assert 120 < rows.min() <= rows.max() < 150  # the label, above the box
    assert 98 < columns.min() <= columns.max() < 200
    blend = 0.55 * 128 + 0.45 * np.array(class_colors(3)[1])
    assert np.abs(drawn[200, 150] - blend).max() <= 1


def test_small_instances_lie_on_top_of_large_ones() -> None:
    small, large = (0, (140, 140, 160, 160)), (1, (50, 50, 250, 250))
    assert (
        (draw(gray(300, 300), small, large)[150, 150]).tolist()
        == (draw(gray(300, 300), large, small)[150, 150]).tolist()
    )
    blend = 0.55 * (0.55 * 128 + 0.45 * np.array(class_colors(3)[1]))
    blend += 0.45 * np.array(class_colors(3)[0])
    assert np.abs(draw(gray(300, 300), small, large)[150, 150] - blend).max() <= 2


def test_without_masks_boxes_and_labels_alone_are_drawn() -> None:
    image = gray(300, 300)
    drawn = draw_instances(
        image, np.array([[100.0, 150, 200, 250]]), None, [1], ["a", "b"], scores=[0.9]
    )
    changed = (drawn != image).any(axis=2)
    assert changed[150, 100:200].all()
    assert changed[120:148].any()  # the label, above the box
    assert not changed[155:245, 105:195].any()


def test_scores_are_shown() -> None:
    row = (0, (100, 100, 250, 250))
    plain, scored = draw(gray(300, 300), row), draw(gray(300, 300), row, scores=[0.93])
    assert (plain != scored).any()
    assert (draw(gray(300, 300), row, scores=[0.93]) == scored).all()
    assert (draw(gray(300, 300), row, scores=[0.31]) != scored).any()


@settings(max_examples=60)
@given(
    st.integers(1, 900),
    st.integers(1, 900),
    st.lists(st.tuples(*[st.floats(-50, 950)] * 4), max_size=6),
)
def test_labels_stay_inside_and_small_whatever_the_box(height, width, boxes) -> None:
    image, taken = gray(height, width), []
    for box in boxes:
        label = _place_label(image, "pottedplant 97%", np.array(box), 0.5, taken)
        if label is not None:
            (x1, y1, x2, y2), _ = label
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
            assert (x2 - x1) * (y2 - y1) <= LABEL_SHARE * height * width
            taken.append(label[0])


def test_labels_of_one_box_avoid_each_other() -> None:
    image, taken = gray(400, 500), []
    for _ in range(4):
        place, _ = _place_label(image, "person", np.array([100, 100, 400, 300]), 0.5, taken)
        for x1, y1, x2, y2 in taken:
            assert place[0] >= x2 or place[2] <= x1 or place[1] >= y2 or place[3] <= y1
        taken.append(place)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (24, 24), (2000, 3000), (40, 900), (900, 40)])
def test_pictures_of_any_size(size) -> None:
    height, width = size
    image = gray(height, width)
    drawn = draw(image, (0, (0, 0, width, height)), (2, (0, 0, 1, 1)), scores=[0.5, 0.4])
    assert drawn.shape == image.shape
    assert (drawn != image).any()
    assert (draw(image) == image).all()  # nothing to draw


def test_text_grows_with_the_picture() -> None:
    def label_height(factor: int) -> int:
        image = gray(300 * factor, 400 * factor)
        box = tuple(value * factor for value in (100, 100, 300, 280))
        color = np.array(class_colors(3)[0])
        filled = (draw(image, (0, box)) == color).all(axis=2)[: 98 * factor]
        return int(filled.any(axis=1).sum())

    assert 10 < label_height(1) < 30
    assert 3 < label_height(5) / label_height(1) < 7


def test_an_empty_mask_still_shows_its_box() -> None:
    image = gray(100, 100)
    empty = rectangle(100, 100, (0, 0, 0, 0))
    drawn = draw_instances(image, np.array([[10.0, 40, 90, 90]]), [empty], [0], NAMES)
    assert (drawn[60, 10] == class_colors(3)[0]).all()
    assert (drawn[60, 50] == 128).all()


def test_wrong_images_and_masks_are_named() -> None:
    with pytest.raises(UserError, match=r"BGR uint8 \(H, W, 3\), not uint8 \(10, 10\)"):
        draw(np.zeros((10, 10), np.uint8))
    with pytest.raises(UserError, match=r"not float64 \(10, 10, 3\)"):
        draw(np.zeros((10, 10, 3)))
    with pytest.raises(UserError, match="not NoneType"):
        side_by_side(None, gray(5, 5))
    with pytest.raises(UserError, match="a mask is 20×10 pixels but its image 10×10"):
        draw_instances(
            gray(10, 10), np.array([[0.0, 0, 1, 1]]), [rectangle(10, 20, (0, 0, 1, 1))], [0], NAMES
        )


def test_a_contact_sheet_shows_every_tile_whole() -> None:
    tiles = [gray(30, 40, 60), gray(300, 100, 120), gray(90, 160, 180), gray(1, 1, 220)]
    sheet = contact_sheet(tiles, list("abcd"), columns=3, tile_size=(160, 120), title="tiles")
    assert sheet.dtype == np.uint8
    assert 3 * 160 < sheet.shape[1] < 3 * 160 + 60
    # Fitted: 160×120, 40×120, 160×90 and 120×120.
    for value, area in ((60, 160 * 120), (120, 40 * 120), (180, 160 * 90), (220, 120 * 120)):
        count = int((sheet == value).all(axis=2).sum())
        assert area <= count <= area + 200  # texts have some pixels of any grey
    untitled = contact_sheet(tiles, list("abcd"), columns=3, tile_size=(160, 120))
    assert untitled.shape[0] < sheet.shape[0]
    one = contact_sheet(tiles[:1], ["a"], columns=3, tile_size=(160, 120))
    assert one.shape[1] < 200  # no empty columns


def test_a_contact_sheet_cuts_long_captions_and_refuses_none() -> None:
    sheets = [
        contact_sheet([gray(90, 120)], [text], tile_size=(120, 90)) for text in ("", "w" * 300)
    ]
    changed = np.nonzero((sheets[0] != sheets[1]).any(axis=(0, 2)))[0]
    assert changed.min() >= 8
    assert changed.max() < 8 + 120  # under its own tile
    with pytest.raises(UserError, match="at least one picture"):
        contact_sheet([], [])
    with pytest.raises(ValueError, match="zip"):
        contact_sheet([gray(5, 5)] * 2, ["a"])


def test_side_by_side_keeps_the_left_and_fits_the_right() -> None:
    pair = side_by_side(gray(200, 300, 60), gray(100, 50, 180))
    assert (pair[-200:, :300] == 60).all()
    assert (pair[-200:, -100:] == 180).all()
    assert 400 < pair.shape[1] < 420
    assert (pair[: pair.shape[0] - 200] > 200).any()  # the captions


def test_write_image(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    write_image(tmp_path / "new" / "a.png", image)
    assert (cv2.imread(str(tmp_path / "new" / "a.png")) == image).all()
    write_image(tmp_path / "new" / "b.JPG", image)
    assert (tmp_path / "new" / "b.JPG").read_bytes()[:2] == b"\xff\xd8"
    unnamed = tmp_path / os.fsdecode(b"caf\xe9.png")  # OpenCV crashes at what is not UTF-8
    write_image(unnamed, side_by_side(image, image, (unnamed.name, unnamed.name)))
    unnamed.unlink()
    for name in ("a.xyz", "a", os.fsdecode(b"a.\xe9")):
        with pytest.raises(UserError, match=r"a(\..*)? was not written: .* use \.png or \.jpg"):
            write_image(tmp_path / name, image)
    with pytest.raises(UserError, match=r"b\.JPG/c\.png was not written"):
        write_image(tmp_path / "new" / "b.JPG" / "c.png", image)
    with pytest.raises(UserError, match=r"wide\.jpg was not written: .* 70000×1 pixels"):
        write_image(tmp_path / "wide.jpg", gray(1, 70000))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.png", "b.JPG", "new"]


def test_a_full_disk_leaves_no_picture(tmp_path: Path, monkeypatch) -> None:
    def full(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"a\.png was not written: the disk is full"):
        write_image(tmp_path / "a.png", gray(5, 5))
    assert list(tmp_path.iterdir()) == []


def test_a_thousand_instances() -> None:
    boxes = [(10 * x, 10 * y, 10 * x + 8, 10 * y + 8) for x in range(40) for y in range(25)]
    drawn = draw(gray(250, 400), *((k % 3, box) for k, box in enumerate(boxes)))
    assert all((drawn[y + 4, x + 4] != 128).any() for x, y, _, _ in boxes)


def test_an_instance_without_a_mask_is_a_box() -> None:
    image = gray(100, 120)
    boxes = np.array([[10.0, 10, 50, 50], [60, 10, 100, 50]])
    drawn = draw_instances(
        image, boxes, [rectangle(100, 120, (10, 10, 50, 50)), None], [0, 1], NAMES
    )
    assert (drawn[30, 30] != image[30, 30]).any()
    assert (drawn[30, 80] == image[30, 80]).all()
    assert (drawn[30, 60] != image[30, 60]).any()


def crowd(labels: str, names=("nucleus",)) -> np.ndarray:
    """300 objects of 10 × 10 pixels, 20 apart."""
    boxes = [(20 * x, 20 * y, 20 * x + 10, 20 * y + 10) for y in range(15) for x in range(20)]
    rles = [rectangle(300, 400, box) for box in boxes]
    return draw_instances(
        gray(300, 400), np.array(boxes, float), rles, [0] * 300, names, labels=labels
    )


def test_a_crowd_goes_without_labels_and_each_object_has_a_colour() -> None:
    between = np.ones((300, 400), bool)
    for y in range(0, 300, 20):
        for x in range(0, 400, 20):
            between[y : y + 12, x : x + 12] = False
            between[max(y - 2, 0) : y, x : x + 12] = between[y : y + 12, max(x - 2, 0) : x] = False
    plain = crowd("auto")
    assert (plain[between] == 128).all()
    assert (crowd("none") == plain).all()
    assert (crowd("all")[between] != 128).any(axis=1).mean() > 0.5
    middles = plain[5:300:20, 5:400:20].reshape(-1, 3)
    assert len(np.unique(middles, axis=0)) > 250
    by_class = crowd("auto", names=("nucleus", "other"))[5:300:20, 5:400:20].reshape(-1, 3)
    assert len(np.unique(by_class, axis=0)) == 1


def test_an_unknown_word_for_labels_is_named() -> None:
    with pytest.raises(UserError, match="labels is 'some': give one of auto, all, none"):
        draw_instances(gray(30, 30), np.zeros((0, 4)), [], [], NAMES, labels="some")
