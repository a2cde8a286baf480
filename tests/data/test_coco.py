"""COCO JSON: what is written by hand-worked example, what is read in all three mask forms."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from atto_det.data import Dataset, ImageRecord, Instance, load_voc
from atto_det.data.coco import _compressed_length, load_coco, to_coco
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


@pytest.fixture
def written(tmp_path):
    """Writes a JSON of one 8x6 picture with the given annotations, and loads it."""
    Image.new("RGB", (6, 8)).save(tmp_path / "a.jpg")

    def write(*annotations, **changes):
        content = {
            "images": [{"id": 7, "file_name": "a.jpg", "height": 8, "width": 6}],
            "categories": [{"id": 90, "name": "last"}, {"id": 3, "name": "first"}],
            "annotations": [{"image_id": 7, "category_id": 90, **item} for item in annotations],
            **changes,
        }
        (tmp_path / "x.json").write_text(json.dumps(content))
        return load_coco(tmp_path / "x.json", tmp_path)

    return write


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


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"images": 3}, "the top level needs the key 'images' (list)"),
        ({"categories": []}, "categories must have at least one entry"),
        ({"categories": [{"id": "1", "name": "a"}]}, "categories[0] needs the key 'id' (int)"),
        ({"categories": [{"id": 1, "name": "a"}] * 2}, "each with its own id"),
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
    with pytest.raises(UserError, match=r"x\.json is no JSON"):
        load_coco(tmp_path / "x.json", tmp_path)
    with pytest.raises(UserError, match=r"y\.json cannot be read"):
        load_coco(tmp_path / "y.json", tmp_path)


@given(MASKS)
def test_length_of_compressed_runs(mask):
    counts = mask_utils.encode(np.asfortranarray(mask))["counts"].decode()
    assert _compressed_length(counts) == mask.size


@given(st.text(max_size=12))
def test_no_text_gets_past_the_length_check_to_crash(counts):
    if _compressed_length(counts) == 12:
        rle = {"size": [3, 4], "counts": counts.encode()}
        assert mask_utils.decode(rle).shape == (3, 4)


@given(masks=st.lists(MASKS, max_size=3), categories=st.lists(st.integers(0, 2), min_size=3))
@settings(max_examples=50, deadline=None)
def test_any_data_set_survives(tmp_path_factory, masks, categories):
    root = tmp_path_factory.mktemp("coco")
    records = []
    for number, (mask, category) in enumerate(zip(masks, categories, strict=False)):
        (root / f"{number}.jpg").touch()
        mask[0, 0] = 1
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
