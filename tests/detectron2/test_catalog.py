"""Data sets by name: where they are looked for, what they must agree on, what is refused."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2.data import DatasetCatalog, MetadataCatalog

from atto_det import data
from atto_det.detectron2 import load_config, load_dataset
from atto_det.detectron2.catalog import check_split, class_names_of, register_builtin
from atto_det.errors import UserError


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty data root."""
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    monkeypatch.setenv("ATTO_DET_CACHE", str(tmp_path / "cache"))
    return root


@pytest.fixture
def tiny(repository):
    """The tiny config with own data: a function from the value of DATASETS.FOLDERS (and more)."""

    def make(folders, *options):
        given = ["DATASETS.FOLDERS", repr(folders), *map(str, options)]
        return load_config(repository / "tests/tiny_mini_voc.yaml", given)

    return make


def own(split="['parts_train']", test="()"):
    return "DATASETS.TRAIN", split, "DATASETS.TEST", test


def add_sbd(root, split, ids):
    for name in ("img", "cls", "inst"):
        (root / "SBD/dataset" / name).mkdir(parents=True, exist_ok=True)
    labels = np.zeros((48, 64), np.uint8)
    labels[16:40, 8:24] = 1
    for name in ids:
        Image.new("RGB", (64, 48)).save(root / f"SBD/dataset/img/{name}.jpg")
        instance = {"Segmentation": labels, "Categories": np.array([[1]], np.uint8)}
        savemat(root / f"SBD/dataset/inst/{name}.mat", {"GTinst": instance})
        savemat(root / f"SBD/dataset/cls/{name}.mat", {"GTcls": {"Segmentation": labels}})
    (root / f"SBD/dataset/{split}.txt").write_text("\n".join(ids))


@pytest.mark.parametrize("place", ["VOC2012", "VOCdevkit/VOC2012"])
def test_voc_is_found_in_both_places(root, voc_folder, place):
    voc_folder(
        root / place, data.VOC_CLASSES, train=["a", "b"], val=["c"], trainval=["a", "b", "c"]
    )
    for split, ids in (("train", "ab"), ("val", "c"), ("trainval", "abc")):
        dicts = DatasetCatalog.get(f"voc_2012_seg_{split}")
        assert [item["image_id"] for item in dicts] == list(ids)
        assert all(str(root / place) in item["file_name"] for item in dicts)
    assert MetadataCatalog.get("voc_2012_seg_val").thing_classes == list(data.VOC_CLASSES)
    assert MetadataCatalog.get("voc_2012_seg_val").stuff_classes[:2] == ["background", "aeroplane"]


def test_a_missing_voc_is_one_message_with_the_folder_and_the_ways_out(root):
    with pytest.raises(UserError) as caught:
        DatasetCatalog.get("voc_2012_seg_train")
    message = str(caught.value)
    assert "\n" not in message
    for part in (f"{root}/VOC2012", "prepare-voc", "DETECTRON2_DATASETS", "make-mini-voc"):
        assert part in message


def test_the_root_may_change_between_calls(root, voc_folder, tmp_path, monkeypatch):
    other = tmp_path / "other"
    voc_folder(root / "VOC2012", data.VOC_CLASSES, val=["a"])
    voc_folder(other / "VOC2012", data.VOC_CLASSES, val=["b"])
    seen = []
    for folder in (root, other, root):
        monkeypatch.setenv("DETECTRON2_DATASETS", str(folder))
        seen += [item["image_id"] for item in DatasetCatalog.get("voc_2012_seg_val")]
    assert seen == ["a", "b", "a"]


def test_without_the_variable_it_is_datasets_in_the_working_folder(
    tmp_path, monkeypatch, voc_folder
):
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    monkeypatch.setenv("ATTO_DET_CACHE", str(tmp_path / "cache"))
    for name in ("one", "two"):  # also after a change of the working folder
        voc_folder(tmp_path / name / "datasets/VOC2012", data.VOC_CLASSES, val=[name])
        monkeypatch.chdir(tmp_path / name)
        (item,) = DatasetCatalog.get("voc_2012_seg_val")
        assert item["image_id"] == name


def test_unknown_data_set(root):
    with pytest.raises(UserError, match=r"no data set voc_2012_seg_trian: known are .*_seg_train,"):
        class_names_of("voc_2012_seg_trian")
    with pytest.raises(UserError, match="coco_2017_val"):
        load_dataset("coco_2017_val")


def test_registering_again_changes_nothing(root):
    before = set(DatasetCatalog.list())
    register_builtin()
    assert set(DatasetCatalog.list()) == before
    assert "voc_2012_seg_train_aug" in before


def test_an_own_folder_by_configuration_alone(root, tiny, voc_folder, tmp_path):
    names = ["wheel", "door", "hood"]
    voc_folder(root / "cars/parts", names, train=["a"], val=["b"], test_2=["c"])
    cfg = tiny([["parts", "cars/parts"]], *own(test="['parts_val']"))
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 3
    assert class_names_of("parts_test_2") == names
    (item,) = DatasetCatalog.get("parts_val")
    assert item["image_id"] == "b"
    assert item["annotations"][0]["category_id"] == 0
    # An absolute path does not start at the data root, and a name may be used anew.
    voc_folder(tmp_path / "elsewhere", ["cup"], train=["z"])
    cfg = tiny([["parts", str(tmp_path / "elsewhere")]], *own())
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 1
    assert [item["image_id"] for item in DatasetCatalog.get("parts_train")] == ["z"]


def test_a_class_count_that_the_config_states_must_agree(root, tiny, voc_folder):
    voc_folder(root / "parts", ["wheel", "door"], train=["a"])
    agreeing = tiny([["parts", "parts"]], *own(), "MODEL.ROI_HEADS.NUM_CLASSES", 2)
    assert agreeing.MODEL.ROI_HEADS.NUM_CLASSES == 2
    with pytest.raises(UserError, match="NUM_CLASSES is 20, but parts_train has 2 classes: set it"):
        tiny([["parts", "parts"]], *own(), "MODEL.ROI_HEADS.NUM_CLASSES", 20)


def test_a_coco_file_by_configuration_alone(root, tiny, voc_folder):
    voc_folder(root / "parts", ["wheel", "door"], train=["a", "b"])
    plain = data.load_voc(root / "parts", "train")
    (root / "parts.json").write_text(
        json.dumps(data.to_coco(plain, root.resolve() / "parts/JPEGImages"))
    )
    coco = [["from_json", "parts.json", "parts/JPEGImages"]]
    cfg = tiny([], "DATASETS.COCO", coco, *own("['from_json']"))
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2
    items = DatasetCatalog.get("from_json")
    assert [item["image_id"] for item in items] == ["a", "b"]
    instance = plain.records[0].instances[0]
    (annotation,) = items[0]["annotations"]
    assert annotation["segmentation"]["counts"] == instance.rle["counts"]
    assert annotation["bbox"] == list(instance.box)
    with pytest.raises(UserError, match="NUM_CLASSES is 5, but from_json has 2 classes"):
        tiny([], "DATASETS.COCO", coco, *own("['from_json']"), "MODEL.ROI_HEADS.NUM_CLASSES", 5)
    with pytest.raises(UserError, match=r"nothing.json"):
        tiny([], "DATASETS.COCO", [["x", "nothing.json", "parts"]], *own("['x']"))


@pytest.mark.parametrize("entry", ["parts", ["parts"], ["parts", "a", "b"], ["parts", 3]])
def test_a_malformed_entry_is_a_sentence(root, tiny, entry):
    with pytest.raises(UserError, match=r"each entry of DATASETS.FOLDERS must be \[name, path\]"):
        tiny([entry], *own())


def test_names_that_belong_to_others_are_refused(root, tiny, voc_folder):
    voc_folder(root / "parts", ["wheel"], train=["a"])
    voc_folder(root / "more", ["door"], train=["b"])
    with pytest.raises(UserError, match="parts_train occurs twice"):
        tiny([["parts", "parts"], ["parts", "more"]], *own())
    for name in ("mini_voc", "voc_2012_seg"):
        with pytest.raises(UserError, match=f"{name}_train belongs to.*choose another"):
            tiny([[name, "parts"]], *own(f"['{name}_train']"))
    voc_folder(root / "lvis", ["wheel"], v1_train=["a"])
    with pytest.raises(UserError, match="lvis_v1_train belongs to a data set of Detectron2"):
        tiny([["lvis", "lvis"]], *own("['lvis_v1_train']"))


def test_a_missing_or_empty_folder_is_named(root, tiny):
    with pytest.raises(UserError, match=f"{root}/nowhere"):
        tiny([["parts", "nowhere"]], *own())
    (root / "hollow").mkdir()
    with pytest.raises(UserError, match=f"{root}/hollow is not a folder in VOC layout"):
        tiny([["parts", "hollow"]], *own())


def test_an_empty_split_and_an_unlisted_file_are_named(root, tiny, voc_folder):
    voc_folder(root / "parts", ["wheel"], train=["a", "b"], empty=[])
    tiny([["parts", "parts"]], *own())
    with pytest.raises(UserError, match=r"empty.txt is empty"):
        DatasetCatalog.get("parts_empty")
    (root / "parts/JPEGImages/b.jpg").unlink()
    with pytest.raises(UserError, match=r"parts/JPEGImages/b.jpg does not exist"):
        DatasetCatalog.get("parts_train")


def test_no_horizontal_flip_by_the_name_of_the_folder(root, config, voc_folder):
    from atto_det.detectron2.loader import training_dicts

    for name in ("left_right", "free"):
        voc_folder(root / name, data.VOC_CLASSES, train=[name], train_two=[f"{name}_2"])
    folders = [[name, str(root / name)] for name in ("left_right", "free")]
    train = ["left_right_train", "free_train", "mini_voc_train"]

    def forbidden(names):
        cfg = config(
            *("DATASETS.FOLDERS", folders, "DATASETS.TRAIN", train),
            *("DATASETS.NO_HORIZONTAL_FLIP", names),
        )
        dicts = training_dicts(cfg)
        assert len(dicts) == 10
        return {d["image_id"] for d in dicts if d["no_horizontal_flip"]}

    assert forbidden(["left_right"]) == {"left_right"}
    assert forbidden(["free_train"]) == {"free"}
    assert len(forbidden(["mini_voc_train"])) == 8
    assert forbidden([]) == set()


def test_what_is_tested_must_not_be_trained_on(root, voc_folder):
    splits = {"train": ["a", "b"], "val": ["c", "d"], "trainval": ["a", "b", "c", "d"]}
    voc_folder(root / "VOC2012", data.VOC_CLASSES, **splits)
    add_sbd(root, "train", ["c", "x"])
    add_sbd(root, "val", ["y", "a"])
    check_split(["voc_2012_seg_train"], ["voc_2012_seg_val"])
    # SBD's copies lie in other files, and are known by their id.
    sentence = "1 pictures of the test set voc_2012_seg_val are in the training set sbd_train"
    with pytest.raises(UserError, match=f"{sentence}.*c"):
        check_split(["voc_2012_seg_train", "sbd_train"], ["voc_2012_seg_val"])
    with pytest.raises(UserError, match="2 pictures of the test set voc_2012_seg_val"):
        check_split(["voc_2012_seg_trainval"], ["voc_2012_seg_val"])
    with pytest.raises(UserError, match="share none"):
        check_split(["voc_2012_seg_train"], ["sbd_val"])
    # The augmented set leaves VOC's val out: c is not in it, a is VOC's own.
    ids = [item["image_id"] for item in DatasetCatalog.get("voc_2012_seg_train_aug")]
    assert sorted(ids) == ["a", "b", "x", "y"]
    check_split(["voc_2012_seg_train_aug"], ["voc_2012_seg_val"])


def test_overlap_is_seen_through_links_and_other_names(root, tiny, voc_folder):
    splits = {"train": ["a"], "val": ["c"], "trainval": ["a", "c"]}
    voc_folder(root / "VOC2012", data.VOC_CLASSES, **splits)
    (root / "link").symlink_to(root / "VOC2012")
    tiny([["mine", "VOC2012"], ["linked", "link"]], *own("['mine_train']"))
    check_split(["mine_train"], ["voc_2012_seg_val"])
    for train, test in (
        ("mine_trainval", "voc_2012_seg_val"),
        ("voc_2012_seg_trainval", "mine_val"),
        ("linked_trainval", "mine_val"),
    ):
        with pytest.raises(UserError, match=f"1 pictures of the test set {test} are in.*{train}"):
            check_split([train], [test])


def test_classes_must_be_the_same_everywhere(root, tiny, voc_folder):
    voc_folder(root / "one", ["wheel", "door"], train=["a"], val=["b"])
    voc_folder(root / "two", ["door", "wheel"], train=["c"])
    folders = [["one", "one"], ["two", "two"]]
    for train, test in (
        (["one_train"], ["two_train"]),
        (["one_train", "two_train"], ["one_val"]),
        (["one_train", "two_train"], []),
    ):
        tiny(folders, *own(train, test))
        with pytest.raises(UserError, match="one_train and two_train have different classes"):
            check_split(train, test)
