"""What a folder in VOC's layout holds: photos, lists and class names, in all forms of exports."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from atto_det.data import (
    VOC_CLASSES,
    find_voc_root,
    list_splits,
    load_voc,
    read_class_names,
    read_split,
)
from atto_det.data.check import check_voc
from atto_det.errors import UserError


def test_own_classes(tiny_voc):
    tiny_voc.add("one")
    (tiny_voc.root / "class_names.txt").write_text("\ufeffcat\n\ndog\n", encoding="utf-8")
    assert read_class_names(tiny_voc.root) == ("cat", "dog")
    with pytest.raises(UserError, match=r"SegmentationClass/one\.png has pixels of value 8"):
        load_voc(tiny_voc.root, "train")  # the masks still have VOC's numbers
    assert load_voc(tiny_voc.root, "train", VOC_CLASSES).class_names == VOC_CLASSES


@pytest.mark.parametrize("text", ["", "cat\ncat\n"])
def test_unusable_class_names(tiny_voc, text):
    tiny_voc.add("one")
    (tiny_voc.root / "class_names.txt").write_text(text)
    with pytest.raises(UserError, match=r"class_names\.txt must have each class name once"):
        load_voc(tiny_voc.root, "train")


def test_find_voc_root(tmp_path):
    with pytest.raises(UserError, match=r"VOC2012.*prepare-voc.*DETECTRON2_DATASETS.*make-mini"):
        find_voc_root(tmp_path)
    nested = tmp_path / "VOCdevkit" / "VOC2012"
    (nested / "ImageSets" / "Segmentation").mkdir(parents=True)
    assert find_voc_root(tmp_path) == nested
    (tmp_path / "VOC2012" / "ImageSets" / "Segmentation").mkdir(parents=True)
    assert find_voc_root(tmp_path) == tmp_path / "VOC2012"


def test_lists(tiny_voc):
    with pytest.raises(UserError, match="is not a folder in VOC layout"):
        list_splits(tiny_voc.root)
    folder = tiny_voc.root / "ImageSets" / "Segmentation"
    (folder / "val.txt").write_text("b\r\n\r\n a \r\n")
    (folder / "empty.txt").write_text("\n")
    (folder / "twice.txt").write_text("a\nb\na\n")
    (folder / "path.txt").write_text("../../secret\n")
    (folder / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    assert list_splits(tiny_voc.root) == ["bytes", "empty", "path", "twice", "val"]
    assert read_split(tiny_voc.root, "val") == ["b", "a"]
    for split, sentence in {
        "empty": r"empty\.txt is empty",
        "twice": r"twice\.txt lists a twice",
        "path": "not a path",
        "bytes": r"bytes\.txt is not UTF-8 text",
        "train": r"train\.txt does not exist: the splits .* are bytes, empty, path, twice, val",
    }.items():
        with pytest.raises(UserError, match=sentence):
            load_voc(tiny_voc.root, split)


def test_pictures_without_annotations_are_no_data_set(tiny_voc):
    tiny_voc.add("one")
    for folder in ("SegmentationClass", "SegmentationObject", "ImageSets", "Annotations"):
        shutil.rmtree(tiny_voc.root / folder)
    with pytest.raises(UserError, match="has pictures, but no annotation of any of them"):
        load_voc(tiny_voc.root, "all")
    report = check_voc(tiny_voc.root)
    assert [(item.severity, item.kind) for item in report.findings] == [("error", "list")]


def test_photos_of_any_suffix_and_two_of_one_name(tiny_voc):
    for name, suffix in (("a", ".png"), ("b", ".JPG"), ("c", ".jpeg"), ("d", ".jpg")):
        tiny_voc.add(name)
        tiny_voc.jpeg(name).rename(tiny_voc.jpeg(name).with_suffix(suffix))
    records = load_voc(tiny_voc.root, "train").records
    assert [Path(item.file_name).name for item in records] == ["a.png", "b.JPG", "c.jpeg", "d.jpg"]
    Image.new("RGB", (12, 8)).save(tiny_voc.root / "JPEGImages/d.png")
    with pytest.raises(UserError, match=r"JPEGImages has d\.jpg and d\.png: an image id must be"):
        load_voc(tiny_voc.root, "train")


def test_photos_and_xml_side_by_side(tiny_voc, tmp_path):
    tiny_voc.add("one")
    folder = tmp_path / "flat"
    folder.mkdir()
    for path in (tiny_voc.jpeg("one"), tiny_voc.xml("one")):
        path.rename(folder / path.name)
    (folder / "class_names.txt").write_text("dog\ncat\n")
    Image.new("RGB", (12, 8)).save(folder / "unlabelled.jpg")
    dataset = load_voc(folder, "all")
    assert [record.image_id for record in dataset.records] == ["one"]
    assert [item.category for item in dataset.records[0].instances] == [0, 1]


def test_more_classes_than_an_eight_bit_image_holds(tiny_voc):
    tiny_voc.add("one")
    (tiny_voc.root / "class_names.txt").write_text("\n".join(map(str, range(255))))
    with pytest.raises(UserError, match="has 255 classes, but VOC's layout holds at most 254"):
        load_voc(tiny_voc.root, "train")


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_names_that_no_file_can_have(tiny_voc, name):
    (tiny_voc.root / "ImageSets/Segmentation/train.txt").write_text(name)
    with pytest.raises(UserError, match="an image id is a name, not a path") as caught:
        load_voc(tiny_voc.root, "train")
    assert len(str(caught.value)) < 600
