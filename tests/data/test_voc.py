"""Folders in VOC layout: the rules for objects, and a sentence for everything that is wrong."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as mask_utils
from voc_tree import TinyVoc

from atto_det.data import VOC_CLASSES, check_disjoint, list_splits, load_voc
from atto_det.data.orientation import turn
from atto_det.data.records import with_masks
from atto_det.data.voc_folder import VocFolder
from atto_det.data.voc_image import box_agreement, read_voc_image
from atto_det.errors import UserError

DOG, CAT = VOC_CLASSES.index("dog"), VOC_CLASSES.index("cat")


def test_one_picture_by_hand(tiny_voc):
    tiny_voc.add("one")
    dataset = load_voc(tiny_voc.root, "train")
    assert dataset.class_names == VOC_CLASSES
    assert dataset.findings == ()
    (record,) = dataset.records
    assert (record.image_id, record.height, record.width) == ("one", 8, 12)
    assert record.file_name == str(tiny_voc.jpeg("one").resolve())
    assert record.sem_seg_file_name == str(tiny_voc.png("SegmentationClass", "one").resolve())
    dog, cat = record.instances
    assert (dog.category, dog.box, dog.difficult) == (DOG, (1.0, 1.0, 6.0, 5.0), False)
    assert (cat.category, cat.box, cat.difficult) == (CAT, (7.0, 3.0, 11.0, 7.0), True)
    assert dog.rle["size"] == [8, 12]
    expected = np.zeros((8, 12), np.uint8)
    expected[1:5, 1:6] = 1
    assert np.array_equal(mask_utils.decode(dog.rle), expected)
    assert mask_utils.area(cat.rle) == 16  # the void column belongs to nobody


def test_order_is_that_of_the_list(tiny_voc):
    for name in ("c", "a", "b"):
        tiny_voc.add(name)
    assert [record.image_id for record in load_voc(tiny_voc.root, "train").records] == list("cab")


def test_mask_value_without_object(tiny_voc):
    labels = np.zeros((8, 12), np.uint8)
    labels[1:5, 1:6], labels[6, 8:12] = 1, 7
    tiny_voc.add("one", objects=[("dog", (2, 2, 6, 5), 0)], labels=labels)
    dataset = load_voc(tiny_voc.root, "train")
    assert [item.kind for item in dataset.findings] == ["no_object"]
    assert "SegmentationObject/one.png: mask value 7 has no object" in dataset.findings[0].message
    assert dataset.left_out == 1
    assert len(dataset.records[0].instances) == 1


def test_object_without_mask_keeps_the_numbers_of_the_others(tiny_voc):
    labels = np.zeros((8, 12), np.uint8)
    labels[3:7, 7:11] = 2
    tiny_voc.add("one", labels=labels)
    dataset = load_voc(tiny_voc.root, "train")
    assert [item.kind for item in dataset.findings] == ["no_mask"]
    assert "object 1 (dog)" in dataset.findings[0].message
    assert [item.category for item in dataset.records[0].instances] == [CAT]


def test_box_and_mask_far_apart(tiny_voc):
    objects = [("dog", (2, 2, 6, 5), 0), ("cat", (1, 1, 3, 2), 0)]
    tiny_voc.add("one", objects=objects)
    dataset = load_voc(tiny_voc.root, "train")
    assert [item.kind for item in dataset.findings] == ["box"]
    assert "object 2 (cat)" in dataset.findings[0].message
    assert dataset.left_out == 1


def test_a_box_of_exactly_half_agreement_is_kept(tiny_voc):
    # the dog's mask is 5x4 at (1, 1); this box is 10x4 at the same place
    tiny_voc.add("one", objects=[("dog", (2, 2, 11, 5), 0), ("cat", (8, 4, 11, 7), 1)])
    assert load_voc(tiny_voc.root, "train").findings == ()
    tiny_voc.write_xml("one", [("dog", (2, 2, 12, 5), 0), ("cat", (8, 4, 11, 7), 1)])
    assert load_voc(tiny_voc.root, "train").left_out == 1


def test_box_agreement_by_hand():
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20, 10:20] = 1
    rle = mask_utils.encode(np.asfortranarray(mask))
    assert box_agreement((10, 10, 20, 20), rle) == 1.0
    assert box_agreement((7, 7, 23, 23), rle) == 1.0  # the void border added
    assert box_agreement((10, 10, 30, 20), rle) == pytest.approx(0.5)  # 100 of 200; 130 of 326
    assert box_agreement((30, 30, 40, 40), rle) == 0.0


@given(st.data())
@settings(max_examples=40)
def test_any_label_image_comes_back_as_masks(tmp_path_factory, data):
    voc = TinyVoc(tmp_path_factory.mktemp("voc"))
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    values = data.draw(
        st.lists(st.sampled_from([0, 1, 2, 3, 255]), min_size=height * width,
                 max_size=height * width)
    )  # fmt: skip
    labels = np.array(values, np.uint8).reshape(height, width)
    objects = []
    for number in (1, 2, 3):
        ys, xs = np.nonzero(labels == number)
        box = (xs.min() + 1, ys.min() + 1, xs.max() + 1, ys.max() + 1) if len(xs) else (1, 1, 1, 1)
        objects.append(("dog", box, 0))
    voc.add("a", objects=objects, labels=labels)
    record, findings = read_voc_image(VocFolder.of(voc.root), "a", VOC_CLASSES)
    present = [number for number in (1, 2, 3) if (labels == number).any()]
    assert [item.kind for item in findings] == ["no_mask"] * (3 - len(present))
    for number, item in zip(present, record.instances, strict=True):
        assert np.array_equal(mask_utils.decode(item.rle), labels == number)


def test_overlapping_lists_are_refused():
    check_disjoint(["a", "b"], ["c"], ("train", "val"))
    with pytest.raises(UserError, match=r"train .* and val .* share 4 images \(a, b, c, …\)"):
        check_disjoint("dcbaz", "abcdy", ("train", "val"))


@pytest.mark.parametrize(
    "folder", ["JPEGImages", "Annotations", "SegmentationClass", "SegmentationObject"]
)
def test_missing_and_broken_files(tiny_voc, cut, folder):
    tiny_voc.add("fine")
    tiny_voc.add("bad")
    (path,) = (tiny_voc.root / folder).glob("bad.*")
    cut(path, 0.3 if folder == "JPEGImages" else 0.7)
    if folder != "JPEGImages":  # of which only the header is read here
        with pytest.raises(
            UserError, match=rf"{folder}/{path.name} (cannot be read|is not well-f)"
        ):
            load_voc(tiny_voc.root, "train")
    path.unlink()
    with pytest.raises(UserError, match=rf"{folder}/{path.name} does not exist .*--check"):
        load_voc(tiny_voc.root, "train")


def test_truncated_jpeg_is_found_when_decoded(tiny_voc, cut):
    labels = np.zeros((64, 64), np.uint8)
    tiny_voc.add("bad", objects=[], labels=labels)
    cut(tiny_voc.jpeg("bad"))
    record, findings = read_voc_image(VocFolder.of(tiny_voc.root), "bad", VOC_CLASSES, decode=True)
    assert record is None
    assert [item.kind for item in findings] == ["file"]
    assert "JPEGImages/bad.jpg cannot be read" in findings[0].message


@pytest.mark.parametrize("folder", ["SegmentationClass", "SegmentationObject"])
def test_mask_of_another_size(tiny_voc, folder):
    tiny_voc.add("bad")
    tiny_voc.write_png(folder, "bad", np.zeros((7, 12), np.uint8))
    sentence = rf"{folder}/bad\.png is 12x7 pixels, but bad\.jpg is 12x8"
    with pytest.raises(UserError, match=sentence):
        load_voc(tiny_voc.root, "train")


def test_xml_of_another_size(tiny_voc):
    tiny_voc.add("bad")
    tiny_voc.write_xml("bad", [], size=(8, 12))
    with pytest.raises(UserError, match=r"bad\.xml is 8x12 pixels, but bad\.jpg is 12x8"):
        load_voc(tiny_voc.root, "train")


def test_unknown_class(tiny_voc):
    tiny_voc.add("bad")
    tiny_voc.write_xml("bad", [("dog", (2, 2, 6, 5), 0), ("unicorn", (8, 4, 11, 7), 0)])
    with pytest.raises(
        UserError, match=r"bad\.xml: object 2 is a 'unicorn', which is not one of the"
    ):
        load_voc(tiny_voc.root, "train")


def test_class_clash(tiny_voc):
    tiny_voc.add("bad")
    tiny_voc.write_xml("bad", [("cat", (2, 2, 6, 5), 0), ("dog", (8, 4, 11, 7), 0)])  # swapped
    with pytest.raises(UserError, match=r"object 1 is a cat .* 20 of its 20 pixels are dog"):
        load_voc(tiny_voc.root, "train")


def test_one_background_pixel_in_an_object_is_a_clash_and_a_void_one_is_not(tiny_voc):
    classes = np.zeros((8, 12), np.uint8)
    classes[1:5, 1:6], classes[3:7, 7:11] = DOG + 1, CAT + 1
    classes[1, 1] = 255
    tiny_voc.add("a", classes=classes)
    assert load_voc(tiny_voc.root, "train").findings == ()
    classes[1, 1] = 0
    tiny_voc.write_png("SegmentationClass", "a", classes)
    with pytest.raises(UserError, match="1 of its 20 pixels are background"):
        load_voc(tiny_voc.root, "train")


HOSTILE = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;">]>
<annotation><size><width>12</width><height>8</height></size><object><name>&b;</name></object>
</annotation>"""


@pytest.mark.parametrize(
    ("xml", "sentence"),
    [
        (HOSTILE, r"bad\.xml declares a document type or entities"),
        ("", r"bad\.xml is not well-formed XML"),
        ("<annotation/>", r"bad\.xml has no number in <size><height>"),
        ("<a><size><height>8</height><width>nan</width></size></a>", "no number in <size><width>"),
        ("<a>{size}<object/></a>", r"bad\.xml: object 1 has no <name>"),
        (
            "<a>{size}<object><name>dog</name><bndbox><xmin>1</xmin></bndbox></object></a>",
            r"bad\.xml: object 1 has no number in <bndbox><ymin>",
        ),
        (
            "<a>{size}<object><name>dog</name><bndbox><xmin>5</xmin><ymin>1</ymin><xmax>4</xmax>"
            "<ymax>9</ymax></bndbox></object></a>",
            r"object 1 \(dog\) has an empty box",
        ),
    ],
)  # fmt: skip
def test_malformed_xml(tiny_voc, xml, sentence):
    tiny_voc.add("bad")
    size = "<size><height>8</height><width>12</width></size>"
    tiny_voc.xml("bad").write_text(xml.replace("{size}", size))
    with pytest.raises(UserError, match=sentence):
        load_voc(tiny_voc.root, "train")


def turned(tiny_voc, image_id, orientation, folders):
    """The picture as a camera stores it, and the files of `folders` drawn on the stored pixels."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    back = {6: 8, 8: 6}.get(orientation, orientation)
    with Image.open(tiny_voc.jpeg(image_id)) as image:
        pixels = turn(np.array(image), back)
    Image.fromarray(pixels).save(tiny_voc.jpeg(image_id), exif=exif)
    for folder in folders:
        with Image.open(tiny_voc.png(folder, image_id)) as image:
            labels = turn(np.array(image), back)
        tiny_voc.write_png(folder, image_id, labels)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("as_stored", [True, False])
def test_annotations_follow_a_picture_that_lies_on_its_side(tiny_voc, orientation, as_stored):
    tiny_voc.add("one")
    expected = load_voc(tiny_voc.root, "train").records[0]
    pngs = ("SegmentationClass", "SegmentationObject")
    turned(tiny_voc, "one", orientation, pngs if as_stored else ())
    dataset = load_voc(tiny_voc.root, "train")
    [record] = dataset.records
    assert (record.height, record.width) == (8, 12)  # as it is seen
    assert record.instances == expected.instances
    assert [item.kind for item in dataset.findings] == ["orientation"] * 2 * as_stored
    assert dataset.left_out == 0
    assert (record.sem_seg_file_name is None) == as_stored


def test_an_xml_of_the_stored_picture(tiny_voc):
    tiny_voc.add("one")
    expected = load_voc(tiny_voc.root, "train").records[0]
    turned(tiny_voc, "one", 6, ())  # stored 12 high, 8 wide; turned clockwise when shown
    # A point (x, y) as shown lies at (y, 12 - x) as stored; VOC counts from 1.
    objects = [("dog", (2, 7, 5, 11), 0), ("cat", (4, 2, 7, 5), 1)]
    tiny_voc.write_xml("one", objects, size=(8, 12))
    dataset = load_voc(tiny_voc.root, "train")
    assert dataset.records[0].instances == expected.instances
    assert [item.kind for item in dataset.findings] == ["orientation"]
    assert "one.xml has the size of one.jpg as stored" in dataset.findings[0].message


def test_boxes_without_masks(tiny_voc):
    """As labelImg and CVAT export them: lists in Main or none, classes in CVAT's labelmap.txt."""
    tiny_voc.add("one")
    masked = load_voc(tiny_voc.root, "train")
    for folder in ("SegmentationClass", "SegmentationObject", "ImageSets"):
        shutil.rmtree(tiny_voc.root / folder)
    (tiny_voc.root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:1,2,3::\ndog:4,5,6::\n"
    )
    assert list_splits(tiny_voc.root) == ["all"]
    dataset = load_voc(tiny_voc.root, "all")
    assert dataset.class_names == ("cat", "dog")
    dog, cat = dataset.records[0].instances
    assert (dog.category, dog.rle, cat.category) == (1, None, 0)
    assert [item.box for item in (dog, cat)] == [i.box for i in masked.records[0].instances]
    assert load_voc(tiny_voc.root, "all") == dataset  # from the cache
    with pytest.raises(UserError, match="none of the 2 objects of x has a mask: export the masks"):
        with_masks(dataset, "x")

    (tiny_voc.root / "ImageSets/Main").mkdir(parents=True)
    (tiny_voc.root / "ImageSets/Main/default.txt").write_text("one\n")
    (tiny_voc.root / "ImageSets/Main/cat_default.txt").write_text("one 1\n")
    assert list_splits(tiny_voc.root) == ["default"]
    assert load_voc(tiny_voc.root, "default").records == dataset.records


def test_a_box_outside_the_picture_is_left_out(tiny_voc):
    tiny_voc.add("one", objects=[("dog", (2, 2, 6, 5), 0), ("cat", (14, 4, 16, 7), 1)])
    for folder in ("SegmentationClass", "SegmentationObject"):
        shutil.rmtree(tiny_voc.root / folder)
    dataset = load_voc(tiny_voc.root, "train")
    assert [item.kind for item in dataset.findings] == ["box"]
    assert len(dataset.records[0].instances) == 1


def test_masks_without_boxes(tiny_voc):
    """As labelme2voc writes them."""
    labels = np.zeros((8, 12), np.uint8)
    labels[1:5, 1:6], labels[3:7, 7:11], labels[7, 0:4] = 1, 3, 4
    classes = np.zeros((8, 12), np.uint8)
    classes[1:5, 1:6], classes[3:7, 7:11], classes[7, 0:2] = 1, 2, 2
    tiny_voc.add("one", objects=[], labels=labels, classes=classes)
    shutil.rmtree(tiny_voc.root / "Annotations")
    shutil.rmtree(tiny_voc.root / "ImageSets")
    (tiny_voc.root / "class_names.txt").write_text("_background_\ndog\ncat\n")
    dataset = load_voc(tiny_voc.root, "all")
    assert dataset.class_names == ("dog", "cat")
    dog, cat = dataset.records[0].instances
    assert (dog.category, dog.box, cat.category, cat.box) == (0, (1, 1, 6, 5), 1, (7, 3, 11, 7))
    assert np.array_equal(mask_utils.decode(cat.rle), labels == 3)
    [finding] = dataset.findings  # half of it has no class
    assert (finding.kind, finding.severity) == ("class", "warning")
    assert "mask value 4 has pixels of the values [0, 2]" in finding.message


def test_real_voc_photos(photos):
    train, val = (load_voc(photos / "VOC2012", split) for split in ("train", "val"))
    assert (len(train.records), len(val.records)) == (46, 50)
    check_disjoint(*([r.image_id for r in d.records] for d in (train, val)), ("train", "val"))
    assert {item.kind for item in train.findings + val.findings} <= {"box"}
    assert train.left_out + val.left_out == 2
    # 2007_000032, first object, as its XML has it: 104 78 375 183
    first = train.records[0]
    assert (first.image_id, first.height, first.width) == ("2007_000032", 281, 500)
    assert first.instances[0].box == (103.0, 77.0, 375.0, 183.0)
    assert VOC_CLASSES[first.instances[0].category] == "aeroplane"


def test_real_car_parts(photos):
    train, val = (load_voc(photos / "CarParts", split) for split in ("train", "val"))
    assert (len(train.records), len(val.records)) == (400, 100)
    assert len(train.class_names) == 18
    assert sum(len(record.instances) for d in (train, val) for record in d.records) == 4133
    assert train.findings == val.findings == ()
