"""COCO JSON: what is written by hand-worked example, what is read in all three mask forms."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from atto_det.data import Dataset, ImageRecord, Instance, load_voc, read_image
from atto_det.data.coco import load_coco, to_coco
from atto_det.data.coco_reader import read_coco
from atto_det.data.orientation import turn
from atto_det.data.records import with_masks
from atto_det.errors import UserError

MASKS = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 1)
)


def test_written_by_hand(tiny_voc):
    tiny_voc.add("one")
    content = to_coco(load_voc(tiny_voc.root, "train"), tiny_voc.root / "JPEGImages")
    assert content["images"] == [{"id": 1, "file_name": "one.jpg", "height": 8, "width": 12}]
    assert content["categories"][0] == {"id": 1, "name": "aeroplane"}
    assert len(content["categories"]) == 20
    dog, cat = content["annotations"]
    assert {key: dog[key] for key in ("id", "image_id", "category_id", "iscrowd")} == {
        "id": 1, "image_id": 1, "category_id": 12, "iscrowd": 0
    }  # fmt: skip
    assert (dog["bbox"], dog["area"], dog["difficult"]) == ([1.0, 1.0, 5.0, 4.0], 20, 0)
    assert (cat["id"], cat["area"], cat["difficult"]) == (2, 16, 1)
    assert isinstance(dog["segmentation"]["counts"], str)


def test_written_outside_of_the_image_root(tiny_voc, tmp_path):
    tiny_voc.add("one")
    with pytest.raises(UserError, match=r"one\.jpg lies outside"):
        to_coco(load_voc(tiny_voc.root, "train"), tmp_path / "elsewhere")


def test_round_trip_and_pycocotools_agree(tiny_voc, tmp_path):
    for name in ("b", "a"):
        tiny_voc.add(name)
    tiny_voc.add("empty", objects=[], labels=np.zeros((8, 12), np.uint8))
    dataset = load_voc(tiny_voc.root, "train")
    content = to_coco(dataset, tiny_voc.root / "JPEGImages")
    path = tmp_path / "voc.json"
    path.write_text(json.dumps(content))
    again = load_coco(path, tiny_voc.root / "JPEGImages")
    assert again.class_names == dataset.class_names
    assert [r.image_id for r in again.records] == ["b", "a", "empty"]
    assert [r.instances for r in again.records] == [r.instances for r in dataset.records]
    assert to_coco(again, tiny_voc.root / "JPEGImages") == content
    coco = COCO(str(path))
    (annotation,) = coco.loadAnns([3])
    assert coco.loadImgs(annotation["image_id"])[0]["file_name"] == "a.jpg"
    assert coco.annToMask(annotation).sum() == 20


def test_left_out(written):
    square = [[0, 0, 2, 0, 2, 2, 0, 2]]
    dataset = written(
        {"segmentation": {"size": [8, 6], "counts": [0, 48]}, "iscrowd": 1},
        {"segmentation": {"size": [8, 6], "counts": [48]}},
        {"segmentation": square, "bbox": [0, 0, 0, 2]},
        {"segmentation": square},
    )
    assert [item.kind for item in dataset.findings] == ["crowd", "no_mask", "box"]
    assert "annotations[1]" in dataset.findings[1].message
    assert dataset.left_out == 3
    assert len(dataset.records[0].instances) == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"images": 3}, "the top level needs the key 'images' (list)"),
        ({"categories": []}, "categories must have at least one entry"),
        ({"categories": [{"name": "a"}]}, "categories[0] needs the key 'id' (int or str)"),
        ({"categories": [{"id": 1, "name": "a"}] * 2}, "categories[1] has the id of another"),
        ({"images": [{"id": 1}]}, "images[0] needs the key 'file_name' (str)"),
        ({"annotations": [5]}, "annotations[0] needs the key 'image_id' (int or str)"),
        ({"annotations": [{"image_id": 8}]}, "annotations[0] has the unknown image_id 8"),
        (
            {"images": [{"id": 1, "file_name": "a.jpg", "height": 2**40, "width": 6}]},
            "images[0] needs a height and width of 1 to 65535",
        ),
        (
            {"annotations": [{"image_id": 7, "category_id": 4}]},
            "annotations[0] has the unknown category_id 4",
        ),
    ],
)
def test_malformed_files(written, changes, sentence):
    with pytest.raises(UserError) as caught:
        written(**changes)
    assert sentence in str(caught.value)
    assert "x.json" in str(caught.value)


SQUARE = [[0, 0, 2, 0, 2, 2, 0, 2]]  # the box of which is 0, 0, 2, 2


def test_what_can_be_used_is_used_and_the_rest_is_listed(written):
    """Every kind of odd annotation at once, beside a sound one."""
    square = {"segmentation": SQUARE, "bbox": [0, 0, 2, 2]}
    dataset = written(
        square | {"id": 11},
        square | {"id": 12, "segmentation": []},
        square | {"id": 13, "segmentation": None},
        square | {"id": "14", "segmentation": [*SQUARE, [1, 1, 2, 2]]},
        {"id": 15, "segmentation": SQUARE, "bbox": [1, 1]},
        {"id": 16, "segmentation": SQUARE, "bbox": [4, 4, 2, 2]},
        {"id": 17, "segmentation": SQUARE, "bbox": [0, 0, float("inf"), 2]},
        {"id": 18, "bbox": [50, 50, 2, 2]},
        {"id": 19.0, "segmentation": [[0, 0, 1, 1]]},
        square | {"id": 20, "image_id": 8},
        square | {"id": 21, "category_id": 4},
        square | {"id": 22, "image_id": "7", "category_id": 90.0},
        {"id": 23, "bbox": [10**30, 0, 10**400, 1]},
    )
    kept = dataset.records[0].instances
    assert [item.label.split()[-1] for item in kept] == ["11)", "12)", "13)", "'14')", "22)"]
    assert [item.rle is None for item in kept] == [False, True, True, False, False]
    lost = [item for item in dataset.findings if item.severity == "warning"]
    assert [item.kind for item in lost] == [
        "box", "box", "box", "box", "no_mask", "image", "category", "box"
    ]  # fmt: skip
    for item, number in zip(lost, (15, 16, 17, 18, 19, 20, 21, 23), strict=True):
        assert f"(id {number})" in item.message
        assert item.message.endswith("it is left out")
    notes = [item for item in dataset.findings if item.severity == "note"]
    assert [item.kind for item in notes] == ["polygon", "boxes"]
    assert (
        "annotations[3] (id '14') has 1 polygons that have fewer than three points"
        in notes[0].message
    )
    assert "1 of 4 boxes (25%) disagree with their masks" in notes[1].message

    masked = with_masks(dataset, "x")
    assert len(masked.records[0].instances) == 3
    assert masked.left_out == dataset.left_out + 2
    assert "annotations[1] (id 12) has a box, but no mask" in masked.findings[-2].message


def test_xyxy_boxes_are_named_by_their_share(written):
    far = [[4, 4, 6, 4, 6, 8, 4, 8]]
    rows = [{"segmentation": far, "bbox": [4, 4, 6, 8]}] * 3
    dataset = written(*rows, {"segmentation": far, "bbox": [4, 4, 2, 4]})
    assert len(dataset.records[0].instances) == 1
    note = dataset.findings[-1]
    assert (note.severity, note.kind) == ("note", "boxes")
    assert "3 of 4 boxes (75%) disagree with their masks; 3 agree if read as x1, y1" in note.message


def test_a_root_category_is_no_class(written):
    """As Roboflow writes them: the root is unused, and may have the name of a class."""
    row = {"segmentation": SQUARE, "category_id": 1}
    for root in ("car", "my cars"):
        categories = [
            {"id": 0, "name": root, "supercategory": "none"},
            {"id": 1, "name": "car", "supercategory": root},
            {"id": 2, "name": "bus", "supercategory": root},
        ]
        dataset = written(row, categories=categories)
        assert dataset.class_names == ("car", "bus")
        assert dataset.category_ids == (1, 2)
        assert [item.kind for item in dataset.findings] == ["category"]
    with pytest.raises(UserError, match=r"categories \[0, 1\] all have the name 'car'"):
        written(row, row | {"category_id": 0}, categories=[
            {"id": 0, "name": "car"}, {"id": 1, "name": "car"}])  # fmt: skip
    # A class that is its own supercategory, as many tools write it, is one.
    own = [{"id": 1, "name": "car", "supercategory": "car"}, {"id": 2, "name": "bus"}]
    assert written(row, categories=own).class_names == ("car", "bus")


def test_pictures_of_one_name_and_two_suffixes(written, tmp_path):
    Image.new("RGB", (6, 8)).save(tmp_path / "a.png")
    size = {"height": 8, "width": 6}
    images = [{"id": k, "file_name": n} | size for k, n in ((7, "a.jpg"), ("8", "a.png"))]
    dataset = written({"segmentation": SQUARE}, images=images)
    assert [record.image_id for record in dataset.records] == ["a.jpg", "a.png"]
    assert [record.coco_id for record in dataset.records] == [7, "8"]


def test_crowd_regions_are_kept_for_evaluation(written):
    whole = {"segmentation": {"size": [8, 6], "counts": [0, 48]}, "iscrowd": 1}
    dataset = written(whole, {"bbox": [1, 1, 3, 3], "iscrowd": True}, {"segmentation": SQUARE})
    [record] = dataset.records
    assert len(record.instances) == 1
    assert [int(mask_utils.area(item.rle)) for item in record.crowds] == [48, 9]
    assert (dataset.crowds, dataset.left_out) == (2, 2)
    assert "is a crowd region, not an object" in dataset.findings[0].message
    content = to_coco(dataset, Path(record.file_name).parent)
    assert [item["iscrowd"] for item in content["annotations"]] == [0, 1, 1]


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("as_stored", [True, False])
def test_annotations_of_phone_photos(tmp_path, orientation, as_stored):
    """A bright object on a dark photo: the mask must lie on it, however the file is stored."""
    upright = np.zeros((48, 64), np.uint8)
    upright[6:20, 10:40] = 250
    stored = turn(upright, {6: 8}.get(orientation, orientation))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    drawn = stored if as_stored and orientation == 6 else upright
    rle = mask_utils.encode(np.asfortranarray((drawn > 0).astype(np.uint8)))
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": mask_utils.toBbox(rle).tolist()}
    row["segmentation"] = {"size": list(drawn.shape), "counts": rle["counts"].decode()}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": len(drawn), "width": drawn.shape[1]}],
        "annotations": [row],
        "categories": [{"id": 1, "name": "x"}],
    }
    (tmp_path / "x.json").write_text(json.dumps(content))
    dataset = load_coco(tmp_path / "x.json", tmp_path)
    [record] = dataset.records
    assert (record.height, record.width) == (48, 64)
    [item] = record.instances
    assert np.array_equal(mask_utils.decode(item.rle) > 0, read_image(record.file_name)[..., 0] > 0)
    assert item.box == (10, 6, 40, 20)
    assert bool(dataset.findings) == (as_stored and orientation == 6)


def test_everything_is_listed_at_once(written, tmp_path):
    size = {"height": 8, "width": 6}
    images = [{"id": k, "file_name": f"{k}.jpg"} | size for k in range(3)]
    images += [{"id": 7, "file_name": "a.jpg", "height": 9, "width": 6}, {"id": 9}, 5]
    with pytest.raises(UserError, match=r"0\.jpg does not exist .*, and 5 more errors .*--check"):
        written({"segmentation": SQUARE}, images=images)
    dataset, findings = read_coco(tmp_path / "x.json", tmp_path)
    assert dataset is None
    assert [item.kind for item in findings] == ["file"] * 3 + ["size"] + ["structure"] * 2
    assert "a.jpg measures 6x8 pixels, but" in findings[3].message


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, '{"images": 1' + "0" * 5000 + "}", "\0", "nul"]
)
def test_hostile_json_is_one_short_sentence(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError) as caught:
        load_coco(tmp_path / "x.json", tmp_path)
    assert len(str(caught.value)) < 700


def test_a_file_name_that_no_file_can_have(written):
    for name in ("x" * 5000, "a\0b.jpg", "", "."):
        with pytest.raises(UserError) as caught:
            written(images=[{"id": 7, "file_name": name, "height": 8, "width": 6}])
        assert len(str(caught.value)) < 1500


def test_missing_picture_bad_box_and_no_json(written, tmp_path):
    image = {"id": 7, "file_name": "b.jpg", "height": 8, "width": 6}
    with pytest.raises(UserError, match=r"b\.jpg does not exist \(.*x\.json: images\[0\]"):
        written(images=[image])
    with pytest.raises(UserError, match="has the id or the file_name of another"):
        written(images=[{**image, "file_name": "a.jpg"}] * 2)
    square = [[0, 0, 2, 0, 2, 2, 0, 2]]
    with pytest.raises(UserError, match="needs four numbers in 'bbox'"):
        written({"segmentation": square, "bbox": [0, 0, 2]})
    (tmp_path / "x.json").write_text('{"images": [')
    with pytest.raises(UserError, match=r"x\.json is not JSON"):
        load_coco(tmp_path / "x.json", tmp_path)
    with pytest.raises(UserError, match=r"y\.json cannot be read"):
        load_coco(tmp_path / "y.json", tmp_path)


def test_a_data_set_in_polygons_is_the_same(photos, tmp_path):
    dataset = load_voc(photos / "VOC2012", "val")
    root = photos / "VOC2012" / "JPEGImages"
    content = to_coco(dataset, root, polygons=True)
    assert all(isinstance(item["segmentation"], list) for item in content["annotations"])
    (tmp_path / "val.json").write_text(json.dumps(content))
    again = load_coco(tmp_path / "val.json", root)
    assert [r.instances for r in again.records] == [r.instances for r in dataset.records]


@given(masks=st.lists(MASKS, max_size=3), categories=st.lists(st.integers(0, 2), min_size=3))
@settings(max_examples=50)
def test_any_data_set_survives(tmp_path_factory, masks, categories):
    root = tmp_path_factory.mktemp("coco")
    records = []
    for number, (mask, category) in enumerate(zip(masks, categories, strict=False)):
        Image.new("L", mask.shape[::-1]).save(root / f"{number}.jpg")
        mask[0, 0] = mask[-1, -1] = 1
        rle = mask_utils.encode(np.asfortranarray(mask))
        box = (0.0, 0.0, mask.shape[1] + 0.5, float(mask.shape[0]))
        item = Instance(category, box, rle, difficult=bool(category))
        file = str(root / f"{number}.jpg")
        records.append(ImageRecord(str(number), file, *mask.shape, (item,)))
    dataset = Dataset(("a", "b", "c"), tuple(records))
    (root / "x.json").write_text(json.dumps(to_coco(dataset, root)))
    assert load_coco(root / "x.json", root) == dataset


def test_real_photos(photos, tmp_path):
    dataset = load_voc(photos / "VOC2012", "val")
    root = photos / "VOC2012" / "JPEGImages"
    (tmp_path / "val.json").write_text(json.dumps(to_coco(dataset, root)))
    again = load_coco(tmp_path / "val.json", root)
    assert [r.instances for r in again.records] == [r.instances for r in dataset.records]


def test_lists_where_names_should_be(written):
    with pytest.raises(UserError, match=r"images\[0\] needs the key 'file_name'"):
        written(images=[{"id": 7, "file_name": [], "height": 8, "width": 6}])
    categories = [{"id": 90, "name": "a", "supercategory": []}, {"id": 3, "name": "b"}]
    assert written({"segmentation": SQUARE}, categories=categories).class_names == ("b", "a")
