"""Data sets by name, without an engine; tests/detectron2/test_catalog.py has more."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from atto_det import data
from atto_det.data import catalog
from atto_det.errors import UserError


def config(folders=(), coco=(), train=(), no_flip=()) -> dict:
    """What the catalogue reads of a config."""
    return {
        "DATASETS": {
            "FOLDERS": list(folders),
            "COCO": list(coco),
            "TRAIN": list(train),
            "NO_HORIZONTAL_FLIP": list(no_flip),
        }
    }


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty data root, and a catalogue that forgets afterwards."""
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    monkeypatch.setenv("ATTO_DET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalog, "_own", {})
    return root


def test_built_in_sets_are_known_before_their_files(root):
    assert {"voc_2012_seg_train_aug", "sbd_val", "mini_voc_trainval"} <= set(catalog.names())
    assert catalog.class_names_of("voc_2012_seg_val") == list(data.VOC_CLASSES)
    with pytest.raises(UserError, match=f"{root}/mini_voc.*make-mini-voc"):
        catalog.load_dataset("mini_voc_val")
    with pytest.raises(UserError, match=f"{root}/SBD"):
        catalog.load_dataset("sbd_train")
    with pytest.raises(UserError, match=r"no data set voc: known are mini_voc_train, .*FOLDERS"):
        catalog.load_dataset("voc")


def test_own_folders_and_coco_files(root, voc_folder):
    voc_folder(root / "parts", ["wheel", "door"], train=["a", "b"], val_2=["c"])
    plain = data.load_voc(root / "parts", "train")
    (root / "parts.json").write_text(json.dumps(data.to_coco(plain, root / "parts/JPEGImages")))
    found = catalog.register_own_data(
        config([["own", "parts"]], [["json", "parts.json", "parts/JPEGImages"]])
    )
    assert sorted(found) == ["json", "own_train", "own_val_2"]
    for name in ("own_train", "json"):
        assert [r.image_id for r in catalog.load_dataset(name).records] == ["a", "b"]
        assert catalog.class_names_of(name) == ["wheel", "door"]
    assert catalog.names_of("own_val_2") == {"own_val_2", "own"}
    assert catalog.names_of("json") == {"json"}
    assert catalog.names_of("mini_voc_val") == {"mini_voc_val"}


def test_names_that_are_taken_are_refused_and_nothing_is_registered(root, voc_folder):
    voc_folder(root / "parts", ["wheel"], train=["a"])
    before = catalog.names()
    for name, owner in (("mini_voc", "this project"), ("lvis", "Detectron2")):
        folders = [["good", "parts"], [name, "parts"]]
        with pytest.raises(UserError, match=f"{name}_train belongs to a data set of {owner}"):
            catalog.register_own_data(config(folders), taken={"lvis_train"})
    assert catalog.names() == before


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a b", "x" * 101, "a\0"])
def test_names_are_no_paths(root, voc_folder, name):
    voc_folder(root / "parts", ["wheel"], train=["a"])
    with pytest.raises(UserError, match="a data set cannot be named"):
        catalog.register_own_data(config([[name, "parts"]]))


def test_a_replaced_folder_is_read_anew(root, voc_folder):
    for name in ("one", "two"):
        voc_folder(root / name, [f"cup {name}"], train=[name])
        catalog.register_own_data(config([["own", name]]))
        assert [r.image_id for r in catalog.load_dataset("own_train").records] == [name]
        assert catalog.class_names_of("own_train") == [f"cup {name}"]


def test_training_sets_and_those_that_must_not_be_mirrored(root, voc_folder):
    for name in ("left_right", "free"):
        voc_folder(root / name, ["wheel"], train=["a"], train_two=["b"])
    folders = [[name, name] for name in ("left_right", "free")]
    train = ["left_right_train_two", "free_train", "free_train", "elsewhere"]
    cfg = config(folders, train=train, no_flip=["left_right"])
    catalog.register_own_data(cfg)
    expected = list(zip(train, (True, False, False, False), strict=True))
    assert catalog.training_sets(cfg) == expected
    by_set = config(folders, train=train, no_flip=["free_train", "elsewhere"])
    with pytest.raises(UserError, match="names elsewhere, which is neither a data set"):
        catalog.training_sets(by_set)
    forbidden = [mirrored for _, mirrored in catalog.training_sets(by_set, {"elsewhere"})]
    assert forbidden == [False, True, True, True]
    with pytest.raises(UserError, match=r"DATASETS.TRAIN names no data set"):
        catalog.training_sets(config())


def test_what_is_tested_must_not_be_trained_on(root, voc_folder):
    voc_folder(root / "parts", ["wheel"], train=["a"], val=["b"], all=["a", "b"])
    voc_folder(root / "doors", ["door"], val=["c"])
    catalog.register_own_data(config([["own", "parts"], ["doors", "doors"]]))
    catalog.check_split(["own_train"], ["own_val"])
    with pytest.raises(UserError, match=r"1 pictures of the test set own_val .* own_all"):
        catalog.check_split(["own_train", "own_all"], ["own_val"])
    with pytest.raises(UserError, match="own_train and doors_val have different classes"):
        catalog.check_split(["own_train"], ["doors_val"])


def test_classes_of_a_coco_file_are_mapped_or_left_out(root, voc_folder):
    voc_folder(root / "parts", ["wheel", "door", "hood"], train=["a"])
    plain = data.load_voc(root / "parts", "train")
    content = data.to_coco(plain, root / "parts/JPEGImages")
    content["annotations"] += [
        content["annotations"][0] | {"id": 2, "category_id": 2},
        content["annotations"][0] | {"id": 3, "category_id": 3, "iscrowd": 1},
    ]
    (root / "parts.json").write_text(json.dumps(content))

    def load(mapping):
        entry = ["json", "parts.json", "parts/JPEGImages", mapping]
        catalog.register_own_data(config(coco=[entry]))
        return catalog.load_dataset("json")

    dataset = load({"wheel": None, "hood": "panel", "door": "panel"})
    assert dataset.class_names == ("panel",) == tuple(catalog.class_names_of("json"))
    [record] = dataset.records
    assert [item.category for item in record.instances] == [0]
    assert [item.category for item in record.crowds] == [0]
    assert load({"door": None}).class_names == ("wheel", "hood")
    for mapping, sentence in (
        ({"roof": None}, "json has no class 'roof' to be mapped: it has wheel, door, hood"),
        (dict.fromkeys(("wheel", "door", "hood")), "every class is left out"),
        ({"door": 3}, "must be .* or these and .class: other name or null"),
        ([1], "must be .* or these and .class: other name or null"),
    ):
        with pytest.raises(UserError, match=sentence):
            load(mapping)


def test_broken_test_pictures_are_found_before_a_training(root, voc_folder):
    voc_folder(root / "parts", ["wheel"], val=["a", "b", "c"])
    catalog.register_own_data(config([["own", "parts"]]))
    catalog.check_test_pictures(["own_val"])
    for name in ("b", "c"):
        path = root / f"parts/JPEGImages/{name}.jpg"
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(
        UserError, match=r"own_val cannot .*b\.jpg is cut short.*\(2 of its pictures in all\)"
    ):
        catalog.check_test_pictures(["own_val"])


def test_a_test_set_without_pictures_is_refused_before_a_training(root):
    empty = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "wheel"}]}
    (root / "val.json").write_text(json.dumps(empty))
    catalog.register_own_data(config(coco=[["own_val", "val.json", "."]]))
    with pytest.raises(UserError, match="own_val has no image to evaluate on"):
        catalog.check_test_pictures(["own_val"])


def test_copies_under_other_names_are_named(root, voc_folder, caplog):
    noise = np.random.default_rng(0)
    for name, ids in (("one", ["a", "b"]), ("two", ["c", "d"])):
        voc_folder(root / name, ["wheel"], train=ids)
        for image_id in ids:  # files of one size, each with pixels of its own
            pixels = noise.integers(0, 256, (48, 64, 3), np.uint8)
            path = root / name / "JPEGImages" / f"{image_id}.jpg"
            Image.fromarray(pixels).save(path)
            path.write_bytes(path.read_bytes().ljust(20_000, b"\0"))
    catalog.register_own_data(config([["one", "one"], ["two", "two"]]))
    catalog.check_split(["one_train"], ["two_train"])
    assert not caplog.records
    shutil.copy(root / "one/JPEGImages/b.jpg", root / "two/JPEGImages/c.jpg")
    catalog.check_split(["one_train"], ["two_train"])
    [record] = caplog.records
    one, two = root / "one/JPEGImages/b.jpg", root / "two/JPEGImages/c.jpg"
    assert record.getMessage().startswith("1 test pictures are copies of training pictures")
    assert f"({one} and {two})" in record.getMessage()


def test_boxes_without_masks_are_for_detectors_of_boxes(root, voc_folder):
    voc_folder(root / "parts", ["wheel"], train=["a", "b"])
    content = data.to_coco(data.load_voc(root / "parts", "train"), root / "parts/JPEGImages")
    content["annotations"][0]["segmentation"] = []
    (root / "parts.json").write_text(json.dumps(content))
    shutil.copytree(root / "parts", root / "boxes")
    shutil.rmtree(root / "boxes/SegmentationObject")
    cfg = config([["own", "boxes"]], [["json", "parts.json", "parts/JPEGImages"]])
    for model in ({"MASK_ON": False}, {"MASK_ON": True, "META_ARCHITECTURE": "RetinaNet"}):
        catalog.register_own_data(cfg | {"MODEL": model})
        for name in ("own_train", "json"):
            dataset = catalog.load_dataset(name)
            assert [len(record.instances) for record in dataset.records] == [1, 1]
            assert dataset.findings == ()
    catalog.register_own_data(cfg | {"MODEL": {"MASK_ON": True}})
    dataset = catalog.load_dataset("json")
    assert [len(record.instances) for record in dataset.records] == [0, 1]
    assert "annotations[0] (id 1) has a box, but no mask; it is left out" in (
        dataset.findings[0].message
    )
    with pytest.raises(UserError, match="none of the 2 objects of own_train has a mask"):
        catalog.load_dataset("own_train")


def test_a_set_of_which_nothing_can_be_used_is_refused(root, voc_folder):
    voc_folder(root / "parts", ["wheel"], train=["a"])
    for path in (root / "parts/Annotations").iterdir():
        path.write_text(path.read_text().replace("<xmin>9<", "<xmin>24<"))
    catalog.register_own_data(config([["own", "parts"]]))
    with pytest.raises(
        UserError, match=r"no picture of own_train .* of its 1 annotated ones can be"
    ):
        catalog.load_dataset("own_train")


def test_it_is_light():
    program = (
        "import sys, atto_det.data.catalog; print(*{n.partition('.')[0] for n in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert {"torch", "detectron2", "yacs"}.isdisjoint(done.stdout.split()), done


def held(folders, train, count, seed=1) -> tuple[list[str], list[str]]:
    """The pictures of the first training set that are held out, and those that are trained on."""
    cfg = config(folders, train=train)
    cfg["DATASETS"]["HOLD_OUT"], cfg["SEED"] = count, seed
    catalog.register_own_data(cfg)
    names = [name for name, _ in catalog.training_sets(cfg)]
    assert catalog.held_out_set(cfg) == f"{train[0]}_held_out"
    return tuple(
        [record.image_id for record in catalog.load_dataset(name).records]
        for name in (catalog.held_out_set(cfg), names[0])
    )


def test_pictures_held_out_are_drawn_by_the_seed_and_not_trained_on(root, voc_folder):
    ids = [f"{number:02}" for number in range(12)]
    voc_folder(root / "parts", ["wheel", "door"], train=ids, val=["x"])
    folders, train = [["own", "parts"]], ["own_train"]
    draws = {}
    for seed in (1, 2):
        out, rest = held(folders, train, 4, seed)
        assert len(out) == 4
        assert sorted(out + rest) == ids
        assert out == sorted(out)  # in the order of the set
        draws[seed] = out
        assert held(folders, train, 4, seed) == (out, rest)
    assert draws[1] != draws[2]
    assert catalog.class_names_of("own_train_held_out") == ["wheel", "door"]
    cfg = config(folders, train=train, no_flip=["own"])
    cfg["DATASETS"]["HOLD_OUT"] = 4
    assert catalog.training_sets(cfg) == [("own_train_rest", True)]
    assert catalog.held_out_set(config(train=train)) is None


def test_a_picture_held_out_is_trained_on_by_no_other_set(root, voc_folder):
    voc_folder(root / "parts", ["wheel"], train=["a", "b", "c"], more=["c", "d", "a", "b"])
    out, rest = held([["own", "parts"]], ["own_train", "own_more"], 2)
    assert len(out) == 2
    assert len(rest) == 1
    other = [record.image_id for record in catalog.load_dataset("own_more_rest").records]
    assert sorted(other) == sorted({"a", "b", "c", "d"} - set(out))


@pytest.mark.parametrize("count", [2, 3, -1])
def test_something_must_be_left_to_train_on(root, voc_folder, count):
    voc_folder(root / "parts", ["wheel"], train=["a", "b"])
    message = f"DATASETS.HOLD_OUT is {count}, but own_train has 2 pictures"
    with pytest.raises(UserError, match=message):
        held([["own", "parts"]], ["own_train"], count)


def test_what_is_held_out_of_an_unknown_set_is_a_sentence(root):
    with pytest.raises(UserError, match="there is no data set own_train"):
        held([], ["own_train"], 2)
