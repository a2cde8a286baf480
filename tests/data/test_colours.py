"""Label images in colours, by a table as CVAT exports it."""

import shutil

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_utils

from atto_det.data import load_voc, voc_palette
from atto_det.data.colours import from_colours, read_colours
from atto_det.errors import UserError

TABLE = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ndog:250,50,83::\ncat:51,221,255::\n"
LABELS = np.zeros((8, 12), np.uint8)
LABELS[1:5, 1:6], LABELS[3:7, 7:11], LABELS[:, 6] = 1, 2, 255


@pytest.fixture
def export(tiny_voc):
    """A function that writes a picture's label images in colours, and their table."""

    def write(objects, xml=False):
        tiny_voc.add("one", objects=[("dog", (2, 2, 6, 5), 0), ("cat", (8, 4, 11, 7), 1)])
        (tiny_voc.root / "labelmap.txt").write_text(TABLE)
        classes = {0: (0, 0, 0), 1: (250, 50, 83), 2: (51, 221, 255), 255: (224, 224, 192)}
        for folder, colours in (("SegmentationClass", classes), ("SegmentationObject", objects)):
            pixels = np.zeros((8, 12, 3), np.uint8)
            for value, colour in colours.items():
                pixels[value == LABELS] = colour
            Image.fromarray(pixels).save(tiny_voc.png(folder, "one"))
        if not xml:
            shutil.rmtree(tiny_voc.root / "Annotations")
        return tiny_voc.root

    return write


PASCAL = {k: tuple(voc_palette()[k].tolist()) for k in (0, 1, 2, 255)}
OTHER = {0: (0, 0, 0), 1: (9, 200, 30), 2: (9, 200, 31), 255: (224, 224, 192)}


@pytest.mark.parametrize("objects", [PASCAL, OTHER])
def test_masks_alone(export, tmp_path, objects):
    root = export(objects)
    assert from_colours(root, root / "labelmap.txt", tmp_path / "new") == 1
    dataset = load_voc(tmp_path / "new", "train")
    assert dataset.class_names == ("dog", "cat")
    assert dataset.findings == ()
    dog, cat = dataset.records[0].instances
    assert (dog.category, cat.category) == (0, 1)
    for number, item in ((1, dog), (2, cat)):
        assert np.array_equal(mask_utils.decode(item.rle), number == LABELS)
    with pytest.raises(UserError, match="new exists"):
        from_colours(root, root / "labelmap.txt", tmp_path / "new")


def test_objects_of_an_xml_keep_their_numbers(export, tmp_path):
    root = export(PASCAL, xml=True)
    from_colours(root, root / "labelmap.txt", tmp_path / "new")
    assert [i.difficult for i in load_voc(tmp_path / "new", "train").records[0].instances] == [
        False, True
    ]  # fmt: skip


def test_other_colours_beside_an_xml_are_refused(export, tmp_path):
    root = export(OTHER, xml=True)
    with pytest.raises(UserError, match=r"one\.png has other colours than Pascal's palette"):
        from_colours(root, root / "labelmap.txt", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_colour_of_no_class(export, tmp_path):
    root = export(PASCAL)
    (root / "labelmap.txt").write_text("dog:250,50,83")
    with pytest.raises(UserError, match="has the colour 51,221,255 at x 7, y 3, which is not in"):
        from_colours(root, root / "labelmap.txt", tmp_path / "new")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("dog", "line 1: 'dog' is not a class and colour"),
        ("dog:1,2", "line 1"),
        ("dog:1,2,256", "line 1"),
        ("\ndog:1,2,3\ndog:1,2,4", "line 3: this class or colour is in an earlier line"),
        ("dog:1,2,3\ncat:1,2,3", "line 2: this class or colour is in an earlier line"),
        ("background:0,0,0", "has 0 classes"),
    ],
)
def test_malformed_tables(tmp_path, text, sentence):
    (tmp_path / "table.txt").write_text(text)
    with pytest.raises(UserError, match=rf"table\.txt.*{sentence}"):
        read_colours(tmp_path / "table.txt")


def test_without_instances(export, tmp_path):
    root = export(PASCAL)
    shutil.rmtree(root / "SegmentationObject")
    with pytest.raises(UserError, match="classes alone do not tell objects apart"):
        from_colours(root, root / "labelmap.txt", tmp_path / "new")
