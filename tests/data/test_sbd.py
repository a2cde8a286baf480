"""SBD's .mat files and VOC's augmented training set, on files written in the released layout."""

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_utils
from scipy.io import savemat

from atto_det.data import VOC_CLASSES
from atto_det.data.sbd import find_sbd_root, load_sbd, load_voc_train_aug
from atto_det.errors import UserError

COW, SHEEP = VOC_CLASSES.index("cow") + 1, VOC_CLASSES.index("sheep") + 1
INST = np.zeros((8, 12), np.uint8)
INST[1:5, 1:6] = 1
INST[3:7, 7:11] = 2


class TinySbd:
    def __init__(self, root):
        self.root = root
        for name in ("img", "cls", "inst"):
            (root / "dataset" / name).mkdir(parents=True)

    def add(self, image_id, split="train", inst=INST, categories=(COW, SHEEP), classes=None):
        if classes is None:
            table = np.zeros(256, np.uint8)
            table[1 : len(categories) + 1] = categories
            classes = table[inst]
        # In the release the categories are a column, and each struct carries boundaries too.
        column = np.array(categories, np.uint8).reshape(-1, 1)
        objects = {"Segmentation": inst, "Categories": column, "Boundaries": np.zeros(1)}
        savemat(self.file("inst", image_id), {"GTinst": objects}, do_compression=True)
        present = {"Segmentation": classes, "CategoriesPresent": np.unique(column)}
        savemat(self.file("cls", image_id), {"GTcls": present}, do_compression=True)
        size = (inst.shape[1], inst.shape[0])
        Image.new("RGB", size).save(self.root / "dataset" / "img" / f"{image_id}.jpg")
        with (self.root / "dataset" / f"{split}.txt").open("a") as file:
            file.write(f"{image_id}\n")

    def file(self, folder, image_id):
        return self.root / "dataset" / folder / f"{image_id}.mat"


@pytest.fixture
def sbd(tmp_path):
    return TinySbd(tmp_path / "SBD")


def test_one_picture_by_hand(sbd):
    sbd.add("one")
    sbd.add("single", inst=(INST == 2).astype(np.uint8), categories=(SHEEP,))
    dataset = load_sbd(sbd.root, "train")
    assert dataset.class_names == VOC_CLASSES
    assert dataset.findings == ()
    record, single = dataset.records
    assert (record.image_id, record.height, record.width) == ("one", 8, 12)
    assert record.sem_seg_file_name is None
    cow, sheep = record.instances
    assert (cow.category, cow.box, cow.difficult) == (COW - 1, (1.0, 1.0, 6.0, 5.0), False)
    assert (sheep.category, sheep.box) == (SHEEP - 1, (7.0, 3.0, 11.0, 7.0))
    assert np.array_equal(mask_utils.decode(cow.rle), INST == 1)
    assert single.instances == (sheep,)
    assert load_sbd(sbd.root, "train") == dataset  # from the cache


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"categories": (COW, SHEEP, COW)}, "no_mask", r"object 3 (cow) has no pixel"),
        ({"categories": (COW,)}, "no_object", "value 2 in GTinst.Segmentation has no category"),
        (
            {"classes": np.where(INST == 1, SHEEP, INST).astype(np.uint8) * (INST != 2)},
            "class",
            f"object 1 (cow) is mostly of class {SHEEP} in GTcls",
        ),
    ],
)
def test_what_is_left_out(sbd, change, kind, sentence):
    sbd.add("one", **change)
    dataset = load_sbd(sbd.root, "train", cache=False)
    assert kind in [item.kind for item in dataset.findings]
    assert any(sentence in item.message for item in dataset.findings)
    assert all("inst/one.mat" in item.message for item in dataset.findings)


def test_errors(sbd, cut, tmp_path):
    sbd.add("one")
    sbd.file("cls", "one").unlink()
    with pytest.raises(UserError, match=r"cls/one\.mat does not exist"):
        load_sbd(sbd.root, "train")
    sbd.add("two", "val")
    cut(sbd.file("inst", "two"))
    with pytest.raises(UserError, match=r"inst/two\.mat cannot be read as a MATLAB file"):
        load_sbd(sbd.root, "val")
    sbd.add("three", "size")
    Image.new("RGB", (9, 9)).save(sbd.root / "dataset" / "img" / "three.jpg")
    with pytest.raises(UserError, match=r"cls/three\.mat: Segmentation is 12x8 .* JPEG is 9x9"):
        load_sbd(sbd.root, "size")
    sbd.add("four", "categories", categories=(COW, 21))
    with pytest.raises(UserError, match=r"inst/four\.mat: GTinst\.Categories must be 1 to 20"):
        load_sbd(sbd.root, "categories")
    savemat(sbd.file("cls", "one"), {"GTcls": {"Boundaries": 1}})
    with pytest.raises(UserError, match=r"cls/one\.mat: Segmentation is not an 8-bit label image"):
        load_sbd(sbd.root, "train")
    savemat(sbd.file("cls", "one"), {"GTcls": 3})
    with pytest.raises(UserError, match=r"cls/one\.mat: GTcls is not a struct"):
        load_sbd(sbd.root, "train")
    with pytest.raises(UserError, match=r"none\.txt cannot be read"):
        load_sbd(sbd.root, "none")
    with pytest.raises(UserError, match=r"no SBD at .*SBD .*DETECTRON2_DATASETS"):
        find_sbd_root(tmp_path / "elsewhere")


def cells(*values):
    """MATLAB's cell array."""
    result = np.empty(len(values), object)
    result[:] = values
    return result


@pytest.mark.parametrize(
    ("categories", "right"),
    [
        (np.array([[float(COW)], [float(SHEEP)]]), True),
        (cells(COW, SHEEP), True),
        (cells(np.array([[COW]]), np.array([[SHEEP]])), True),
        (np.array([[COW + 0.5], [SHEEP]]), False),
        (np.array([[np.nan], [SHEEP]]), False),
        (cells([COW], [COW, SHEEP]), False),
        (np.array([10**18, SHEEP]), False),
        ({"a": 1}, False),
        ("cow", False),
    ],
    ids=str,
)
def test_categories_of_any_form(sbd, categories, right):
    sbd.add("one")
    content = {"GTinst": {"Segmentation": INST, "Categories": categories}}
    savemat(sbd.file("inst", "one"), content)
    if right:
        [record] = load_sbd(sbd.root, "train", cache=False).records
        assert [item.category for item in record.instances] == [COW - 1, SHEEP - 1]
    else:
        with pytest.raises(UserError, match=r"one\.mat: GTinst\.Categories must be 1 to 20, not"):
            load_sbd(sbd.root, "train", cache=False)


@pytest.mark.parametrize("name", ["SBD", "sbd", "benchmark_RELEASE"])
def test_names_of_the_folder(tmp_path, name):
    TinySbd(tmp_path / name)
    assert find_sbd_root(tmp_path) == tmp_path / name


def test_train_aug(tiny_voc, sbd):
    for image_id in ("voc_only", "both"):
        tiny_voc.add(image_id, "train")
    for image_id in ("val_only", "val_and_sbd"):
        tiny_voc.add(image_id, "val")
    # a finding in each kind of picture: only those that are used may be counted
    odd = {"categories": (COW, SHEEP, COW)}
    for image_id, split in (("z", "train"), ("both", "train"), ("a", "val"), ("z", "val")):
        sbd.add(image_id, split, **odd)
    sbd.add("val_and_sbd", "val", **odd)
    dataset = load_voc_train_aug(tiny_voc.root.parent)
    assert [record.image_id for record in dataset.records] == ["voc_only", "both", "z", "a"]
    both = dataset.records[1]
    assert "VOC2012" in both.file_name  # VOC's own annotation wins
    assert VOC_CLASSES[both.instances[0].category] == "dog"
    assert [item.image_id for item in dataset.findings] == ["z", "a"]
