"""The generated mini VOC: equal bytes for equal arguments, VOC's layout, nothing to find wrong."""

import errno
from pathlib import Path

import numpy as np
import pytest

from atto_det.data import VOC_CLASSES, load_voc, read_image, read_palette_png, read_split
from atto_det.data import mini_voc as mini_voc_module
from atto_det.data.check import check_voc
from atto_det.data.mini_voc import generate
from atto_det.data.mini_voc_paint import TEXTURES, paint_sprite
from atto_det.data.mini_voc_shapes import DRAWINGS
from atto_det.errors import UserError


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("mini") / "mini_voc"
    assert generate(root, train=30, val=10, seed=1)
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_nothing_to_find_wrong(small):
    report = check_voc(small)
    assert report.findings == ()
    assert {split: counts.images for split, counts in report.splits.items()} == {
        "train": 30, "val": 10, "trainval": 40
    }  # fmt: skip
    assert read_split(small, "trainval") == read_split(small, "train") + read_split(small, "val")


def test_classes_come_equally_often(small):
    dataset = load_voc(small, "trainval", cache=False)
    assert dataset.class_names == VOC_CLASSES
    categories = [item.category for record in dataset.records for item in record.instances]
    counts = np.bincount(categories, minlength=20)
    assert counts.min() >= counts.max() - 3
    assert counts.min() >= 3
    assert all(1 <= len(record.instances) <= 5 for record in dataset.records)


def test_pictures_have_void_borders_sizes_and_detail(small):
    for record in load_voc(small, "val", cache=False).records:
        assert 160 <= min(record.height, record.width) <= max(record.height, record.width) <= 240
        labels = read_palette_png(small / "SegmentationObject" / f"{record.image_id}.png")
        classes = read_palette_png(record.sem_seg_file_name)
        assert np.array_equal(labels == 255, classes == 255)
        # No two labels touch: there is void between an object and everything else.
        for first, second in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
            differ = first != second
            assert np.all((first[differ] == 255) | (second[differ] == 255))
        assert read_image(record.file_name).std() > 15


def test_difficult_and_truncated_objects_occur(small):
    xml = "".join(path.read_text() for path in (small / "Annotations").iterdir())
    for tag in ("difficult", "truncated"):
        share = xml.count(f"<{tag}>1<") / xml.count("<object>")
        assert 0.01 < share < 0.4


def test_equal_arguments_give_equal_bytes(tmp_path):
    generate(tmp_path / "a", train=3, val=1, seed=5)
    generate(tmp_path / "b", train=3, val=1, seed=5)
    first = contents(tmp_path / "a")
    assert first == contents(tmp_path / "b")
    assert len(first) == 4 * 4 + 3 + 1
    generate(tmp_path / "c", train=3, val=1, seed=6)
    other = contents(tmp_path / "c")
    for name in ("mini_000001", "mini_000004"):
        assert other[f"JPEGImages/{name}.jpg"] != first[f"JPEGImages/{name}.jpg"]


def test_pictures_follow_from_the_seed_alone_where_the_classes_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(mini_voc_module, "_deal_classes", lambda rng, images: iter([["dog"]] * 9))
    for seed in (1, 2):
        generate(tmp_path / str(seed), train=1, val=1, seed=seed)
    assert contents(tmp_path / "1") != contents(tmp_path / "2")
    for folder in ("Annotations", "JPEGImages"):
        first, second = (sorted((tmp_path / str(seed) / folder).iterdir()) for seed in (1, 2))
        assert first[0].read_bytes() != second[0].read_bytes()


def test_up_to_date_or_refused(tmp_path):
    root = tmp_path / "mini_voc"
    root.mkdir()  # an empty folder may exist
    assert generate(root, train=2, val=1)
    before = contents(root)
    assert not generate(root, train=2, val=1)
    with pytest.raises(UserError, match="exists and is not the mini VOC asked for"):
        generate(root, train=2, val=1, seed=9)
    assert contents(root) == before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").touch()
    with pytest.raises(UserError, match="remove it or choose another folder"):
        generate(tmp_path / "photos", train=2, val=1)
    assert (tmp_path / "photos" / "mine.jpg").exists()


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mini_voc_module, "_write_image", full)
    with pytest.raises(UserError, match="mini_voc was not written: the disk is full"):
        generate(tmp_path / "mini_voc", train=2, val=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong", [{"train": 0}, {"val": 0}, {"size": (20, 40)}, {"size": (200, 100)}]
)
def test_arguments_out_of_range(tmp_path, wrong):
    with pytest.raises(UserError, match="a mini VOC"):
        generate(tmp_path / "mini_voc", **wrong)


@pytest.mark.parametrize("name", VOC_CLASSES)
def test_every_drawing(name):
    assert set(DRAWINGS) == set(VOC_CLASSES)
    assert DRAWINGS[name].texture in TEXTURES
    sprite = paint_sprite(np.random.default_rng(0), name, 80)
    assert sprite.colour.shape == (*sprite.alpha.shape, 3)
    assert 0.1 < (sprite.alpha > 0.5).mean() < 0.9
    assert max(sprite.alpha.shape) < 150
