"""YOLO's labels by hand, and from them to COCO JSON and VOC layout without a loss."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_utils

from atto_det.data import load_coco, load_voc, to_coco
from atto_det.data.sources import open_source
from atto_det.data.to_voc import to_voc
from atto_det.data.yolo import load_yolo
from atto_det.errors import UserError

NAMES = "names: [cup, pot]\n"


@pytest.fixture
def root(tmp_path):
    """Pictures of 20x10 in images/train and images/val; labels of the first one."""
    for split, names in (("train", ("a.jpg", "b.png")), ("val", ("c.jpg",))):
        for folder in ("images", "labels"):
            (tmp_path / folder / split).mkdir(parents=True)
        for name in names:
            Image.new("RGB", (20, 10)).save(tmp_path / "images" / split / name)
    (tmp_path / "data.yaml").write_text(f"train: images/train\nval: images/val\n{NAMES}")
    write(tmp_path, "1 0.1 0.2 0.5 0.2 0.5 0.8 0.1 0.8", "0 0.5 0.5 0.2 0.4")
    return tmp_path


def write(root, *lines):
    (root / "labels/train/a.txt").write_text("\n".join(lines))


def test_polygons_and_boxes_by_hand(root):
    dataset = load_yolo(root / "data.yaml", "train")
    assert dataset.class_names == ("cup", "pot")
    assert [record.image_id for record in dataset.records] == ["a", "b"]
    a, b = dataset.records
    assert (a.height, a.width, b.instances) == (10, 20, ())
    polygon, box = a.instances
    expected = np.zeros((10, 20), np.uint8)
    expected[2:8, 2:10] = 1
    assert np.array_equal(mask_utils.decode(polygon.rle), expected)
    assert (polygon.category, polygon.box) == (1, (2, 2, 10, 8))
    assert (box.category, box.box, box.rle) == (0, (8, 3, 12, 7), None)
    assert load_yolo(root / "data.yaml", "val").records[0].image_id == "c"


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ("0 0.1 0.2 x 0.4", "label", "has words that are not numbers ('0 0.1 0.2 x 0.4')"),
        ("0 0.1 0.2 0.3", "label", "has 4 numbers: it needs a class and four of a box"),
        ("0 0.1 0.2 0.3 0.4 0.5", "label", "has 6 numbers"),
        ("0 0.1 0.2 0.3 0.4 0.5 0.6 0.7", "label", "has 8 numbers"),
        ("2 0.5 0.5 0.2 0.4", "category", "has the class 2, but there are 2"),
        ("-1 0.5 0.5 0.2 0.4", "category", "has the class -1"),
        ("nan 0.5 0.5 0.2 0.4", "category", "has the class nan"),
        ("0 120 80 60 40", "label", "has numbers outside 0 to 1: they must be shares"),
        ("0 nan 0.5 0.2 0.4", "label", "has numbers outside 0 to 1"),
        ("0 0.5 0.5 0 0.4", "box", "has an empty box"),
        ("0 0.5 0.5 0.5 0.5 0.5 0.5", "no_mask", "has a polygon without a pixel"),
        ("\0", "label", "has words that are not numbers"),
    ],
)
def test_a_line_that_cannot_be_used_is_left_out_and_named(root, line, kind, words):
    write(root, line, "1 0.1 0.2 0.5 0.2 0.5 0.8 0.1 0.8")
    dataset = load_yolo(root / "data.yaml", "train")
    assert len(dataset.records[0].instances) == 1
    [finding] = dataset.findings
    assert (finding.severity, finding.kind, finding.image_id) == ("warning", kind, "a")
    assert f"{root}/labels/train/a.txt, line 1 {words}" in finding.message


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("train: images/train\n", "needs 'names'"),
        ("train: images/train\nnames: [a, a]\n", "needs 'names'"),
        ("train: images/train\nnames: {1: a}\n", "needs 'names'"),
        (NAMES, "names no pictures"),
        (f"train: nowhere\n{NAMES}", "there is no folder .*nowhere"),
        (f"train: [3]\n{NAMES}", "a split must be a folder"),
        (f"train: labels\n{NAMES}", "'labels' holds no picture"),
        ("train: [", "is not valid YAML"),
    ],
)
def test_a_file_that_cannot_be_used(root, text, sentence):
    (root / "data.yaml").write_text(text)
    with pytest.raises(UserError, match=f"data.yaml.*{sentence}"):
        open_source(root)


def test_forms_of_the_file(root):
    """As Roboflow and Ultralytics write them."""
    expected = load_yolo(root / "data.yaml", "train").records
    (root / "list.txt").write_text("images/train/a.jpg\n./images/train/b.png\n")
    for text in (
        f"train: ../images/train\nval: ../images/val\nnc: 2\n{NAMES}",
        "path: /somewhere/else\ntrain: images/train\nnames: {0: cup, 1: pot}\n",
        f"path: {root}\ntrain: [images/train]\n{NAMES}",
        f"train: list.txt\n{NAMES}",
    ):
        (root / "data.yaml").write_text(text)
        assert open_source(root).load("train").records == expected


def test_unreadable_pictures_and_shared_labels_are_errors_and_all_are_listed(root, cut):
    Image.new("RGB", (20, 10)).save(root / "images/train/a.png")
    cut(root / "images/train/b.png", 0.3)
    with pytest.raises(UserError, match=r"share the labels .*a\.txt.*and 1 more errors"):
        load_yolo(root / "data.yaml", "train")
    report = open_source(root).check()
    assert [(item.severity, item.kind) for item in report.findings] == [("error", "file")] * 2
    assert (report.splits["train"].errors, report.splits["val"].images) == (2, 1)


def test_to_coco_and_to_voc_and_back(root, tmp_path):
    write(root, "1 0.1 0.2 0.5 0.2 0.5 0.8 0.1 0.8", "0 0.6 0.1 0.9 0.1 0.9 0.9 0.6 0.9")
    source = open_source(root)
    splits = {name: source.load(name) for name in source.splits}
    (tmp_path / "x.json").write_text(json.dumps(to_coco(splits["train"], source.image_root)))
    by_coco = load_coco(tmp_path / "x.json", source.image_root)
    written = to_voc(splits, tmp_path / "voc")
    assert written == (3, 2, 0, 0, 0)
    for other in (by_coco, load_voc(tmp_path / "voc", "train")):
        assert other.class_names == splits["train"].class_names
        assert other.findings == ()
        for one, two in zip(other.records, splits["train"].records, strict=True):
            assert one.instances == two.instances
    assert open_source(tmp_path / "voc").check().findings == ()
    assert [r.image_id for r in load_voc(tmp_path / "voc", "val").records] == ["c"]
    with pytest.raises(UserError, match="voc exists: choose a folder that does not exist"):
        to_voc(splits, tmp_path / "voc")


def test_what_voc_layout_cannot_hold_is_said(root, tmp_path):
    small, large = "0 0.2 0.4 0.3 0.4 0.3 0.6 0.2 0.6", "1 0.1 0.2 0.5 0.2 0.5 0.8 0.1 0.8"
    write(root, small, large, large)
    splits = {"train": load_yolo(root / "data.yaml", "train")}
    # The small one's 2x2 pixels, and 8x6 of which one large one is hidden by the other.
    assert to_voc(splits, tmp_path / "voc") == (2, 3, 48 + 4, 1, 0)
    dataset = load_voc(tmp_path / "voc", "train")
    assert [item.kind for item in dataset.findings] == ["no_mask"]
    assert mask_utils.area(dataset.records[0].instances[0].rle) == 4
    write(root, *[small] * 255)
    splits = {"train": load_yolo(root / "data.yaml", "train")}
    with pytest.raises(UserError, match="has 255 objects, and a label image of VOC holds 254"):
        to_voc(splits, tmp_path / "more")
    assert not (tmp_path / "more").exists()


@pytest.mark.parametrize(
    "image_id",
    [" a", "a ", "a\u2028b", "\u00a0", "写" * 200, "a" * 149 + " b", "\ufeffa", "caf\udce9"],
)
def test_names_of_pictures_that_no_line_can_hold(root, tmp_path, image_id):
    write(root, "0 0.2 0.4 0.3 0.4 0.3 0.6 0.2 0.6")
    dataset = load_yolo(root / "data.yaml", "train")
    record = replace(dataset.records[0], image_id=image_id)
    to_voc({"train": replace(dataset, records=(record,))}, tmp_path / "voc")
    again = load_voc(tmp_path / "voc", "train")
    assert [r.instances for r in again.records] == [record.instances]


@pytest.mark.parametrize("name", ["a\nb", "", " a", "a\t", "a\x01", "\ufeffa", "\ud800"])
def test_names_of_classes_that_no_line_can_hold_are_refused(root, tmp_path, name):
    write(root, "0 0.2 0.4 0.3 0.4 0.3 0.6 0.2 0.6")
    dataset = load_yolo(root / "data.yaml", "train")
    dataset = replace(dataset, class_names=(name, *dataset.class_names[1:]))
    with pytest.raises(UserError, match=r"cannot be written to class_names\.txt"):
        to_voc({"train": dataset}, tmp_path / "voc")
    assert not (tmp_path / "voc").exists()


def test_boxes_among_masks_are_counted(root, tmp_path):
    write(root, "0 0.2 0.4 0.3 0.4 0.3 0.6 0.2 0.6")
    dataset = load_yolo(root / "data.yaml", "train")
    [masked] = dataset.records[0].instances
    both = replace(dataset.records[0], instances=(masked, replace(masked, rle=None)))
    written = to_voc({"train": replace(dataset, records=(both,))}, tmp_path / "voc")
    assert written == (1, 2, 0, 0, 1)
    again = load_voc(tmp_path / "voc", "train")
    assert [r.instances for r in again.records] == [(masked,)]


def test_boxes_alone_stay_boxes(root, tmp_path):
    write(root, "0 0.5 0.5 0.2 0.4")
    dataset = load_yolo(root / "data.yaml", "train")
    assert to_voc({"train": dataset}, tmp_path / "voc").bare == 0
    assert not (tmp_path / "voc/SegmentationObject").exists()
    again = load_voc(tmp_path / "voc", "train")
    assert [r.instances for r in again.records] == [r.instances for r in dataset.records]
