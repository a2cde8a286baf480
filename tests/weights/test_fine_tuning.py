"""A detector learns other classes: what is loaded, what starts at random, what is refused."""

import json

import detector_file as tiny
import pytest
import torch

from atto_det import engine
from atto_det.data.catalog import training_sets
from atto_det.errors import UserError
from atto_det.weights import checkpoint, detector_file, zoo
from atto_det.weights.fine_tuning import fitting, start_table

SCORES = "roi_heads.box_predictor.cls_score.weight"
OWN = {
    "backbone.stem.weight": torch.ones(4, 3),
    "backbone.norm.num_batches_tracked": torch.tensor(0),
    SCORES: torch.ones(3, 8),
    "roi_heads.mask_head.deconv.weight": torch.ones(2, 2),
}
PART = checkpoint.description("", ["cat", "owl", "bee"])


def test_layers_of_classes_start_anew_and_the_rest_loads():
    given = OWN | {SCORES: torch.zeros(4, 8), "extra.weight": torch.ones(1)}
    del given["roi_heads.mask_head.deconv.weight"]
    content = {"model": given, "atto_det": PART}
    found = fitting(OWN, content, "a.pth")
    assert found.keys() == given.keys() - {SCORES}
    assert start_table(OWN, found, content, ["door", "wheel"], "zoo:a").splitlines() == [
        "start from zoo:a",
        "                           loaded   anew",
        "  backbone                      1      0",
        "  roi_heads.box_predictor       0      1  cls_score",
        "  roi_heads.mask_head           0      1  deconv",
        "  1 tensors of the file are not in the model, first extra.weight",
        "  classes: 2 (door, wheel); before: 3 (cat, owl, bee)",
    ]


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["cat", "owl", "bee"], "  the same 3 classes"),
        (["a", "b", "c"], "  as many as before: their layers start from the old classes in order"),
    ],
)
def test_as_many_classes_load(names, line):
    content = {"model": OWN, "atto_det": PART}
    assert start_table(OWN, OWN, content, names, "a.pth").splitlines()[-1] == line


def test_another_layer_of_another_shape_is_refused_of_our_own_files_alone():
    given = OWN | {"backbone.stem.weight": torch.ones(5, 3)}
    with pytest.raises(
        UserError, match=r"1 tensors .*backbone.stem.weight \(\(5, 3\), here \(4, 3\)"
    ):
        fitting(OWN, {"model": given, "atto_det": PART}, "a.pth")
    assert "backbone.stem.weight" not in fitting(OWN, {"model": given}, "a.pth")


@pytest.mark.parametrize("name", ["detectron2", "torchvision"])
def test_a_detector_of_the_zoo_learns_other_classes_without_a_config(
    name, tmp_path, monkeypatch, voc_folder
):
    if name == "detectron2":
        pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    monkeypatch.setattr(zoo, "ZOO", tmp_path / "zoo")
    content = checkpoint.load_checkpoint(tiny.write(tmp_path / "model.pth"))
    detector_file.write_detector(zoo.ZOO / "owls.safetensors", content)
    root = voc_folder(tmp_path / "parts", ["wheel", "door"], train=["one", "two"])
    options = [
        *("MODEL.WEIGHTS", "zoo:owls", "DATASETS.FOLDERS", f"[['parts', '{root}']]"),
        *("DATASETS.TRAIN", "('parts_train',)", "DATASETS.TEST", "()", "SOLVER.MAX_ITER", "1"),
        *("SOLVER.STEPS", "()", "SOLVER.BASE_LR", "1e-30", "OUTPUT_DIR", str(tmp_path / "out")),
    ]
    runner = engine.choose(name, say=None).run
    runner.train(runner.read_config(None, options))
    learned = checkpoint.load_checkpoint(tmp_path / "out/model_final.pth")
    assert learned["atto_det"]["class_names"] == ["wheel", "door"]
    assert learned["model"][SCORES].shape[0] == 3  # and the background
    stored = checkpoint.load_checkpoint("zoo:owls")["model"]
    for key, value in learned["model"].items():
        if value.shape == stored[key].shape and not key.endswith(
            ("running_mean", "running_var", "num_batches_tracked")
        ):
            assert torch.allclose(value, stored[key], rtol=0, atol=1e-20), key
    log = (tmp_path / "out/log.txt").read_text()
    assert "classes: 2 (wheel, door); before: 3 (cat, dög, owl)" in log
    assert "box_predictor       0      4  bbox_pred, cls_score" in log


@pytest.fixture(params=["detectron2", "torchvision"])
def read(request, tmp_path):
    """Reads the config of a training or an evaluation of a detector whose own data is gone."""
    if request.param == "detectron2":
        pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    path = tiny.write(
        tmp_path / "model.pth",
        *("DATASETS.FOLDERS", "[['before', 'gone']]", "DATASETS.TRAIN", "('before_train',)"),
        *("DATASETS.TEST", "('before_val',)", "DATASETS.NO_HORIZONTAL_FLIP", "('before',)"),
    )

    def read_config(*options: str, evaluates: bool = False):
        runner = engine.choose(request.param, say=None).run
        given = options if "MODEL.WEIGHTS" in options else ("MODEL.WEIGHTS", str(path), *options)
        return runner.read_config(None, given, evaluates=evaluates)

    return read_config


TRAINED = ("DATASETS.TRAIN", "('parts_train',)")
TESTED = ("DATASETS.TEST", "('parts_val',)")


@pytest.mark.parametrize("in_coco_format", [False, True])
def test_the_earlier_training_s_data_is_not_needed(read, voc_folder, tmp_path, in_coco_format):
    root = voc_folder(tmp_path / "parts", ["wheel", "door"], train=["one"], val=["two"])
    own = ("DATASETS.FOLDERS", f"[['parts', '{root}']]")
    if in_coco_format:
        empty = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "wheel"}]}
        (tmp_path / "a.json").write_text(json.dumps(empty))
        rows = [[f"parts_{part}", str(tmp_path / "a.json"), str(root)] for part in ("train", "val")]
        own = ("DATASETS.COCO", repr(rows))
    cfg = read(*own, *TRAINED, *TESTED)
    assert list(cfg.DATASETS.NO_HORIZONTAL_FLIP) == []
    assert not in_coco_format or list(cfg.DATASETS.FOLDERS) == []
    with pytest.raises(UserError, match="TEST is still before_val, of the earlier training"):
        read(*own, *TRAINED)


@pytest.mark.parametrize("rows", ["[1]", "[None]", "['x']", "[[1]]", "[[]]"])
def test_a_malformed_entry_is_one_sentence(read, rows):
    with pytest.raises(UserError, match=r"each entry of DATASETS.FOLDERS must be"):
        read("DATASETS.FOLDERS", rows, *TRAINED, *TESTED)


def test_the_same_classes_are_still_not_mirrored(read, voc_folder, tmp_path):
    some = [tiny.CLASSES[2], tiny.CLASSES[0]]  # fewer, in another order
    for names in (tiny.CLASSES, some):
        root = voc_folder(tmp_path / f"parts{len(names)}", names, train=["one"], val=["two"])
        own = ("DATASETS.FOLDERS", f"[['parts', '{root}']]", *TRAINED, *TESTED)
        assert list(read(*own).DATASETS.NO_HORIZONTAL_FLIP) == ["parts_train"]
    cfg = read(*own, "DATASETS.NO_HORIZONTAL_FLIP", "()")
    assert list(cfg.DATASETS.NO_HORIZONTAL_FLIP) == []


def test_pictures_beside_those_of_before_are_not_mirrored_either(read, voc_folder, tmp_path):
    rows = [
        [name, str(voc_folder(tmp_path / name, tiny.CLASSES, train=[f"{name}1"], val=[f"{name}2"]))]
        for name in ("first", "more")
    ]
    both = ("DATASETS.FOLDERS", repr(rows), "DATASETS.TRAIN", "('first_train', 'more_train')")
    (tmp_path / "again").mkdir()
    path = tiny.write(
        tmp_path / "again/model.pth", *both, "DATASETS.NO_HORIZONTAL_FLIP", "('first',)"
    )
    weights = ("MODEL.WEIGHTS", str(path), "DATASETS.TEST", "()")
    assert training_sets(read(*weights)) == [("first_train", True), ("more_train", False)]
    for train in (both, ("DATASETS.TRAIN", "('more_train',)")):
        assert all(kept for _, kept in training_sets(read(*weights, *train)))


def test_an_evaluation_does_not_need_the_training_data(read, voc_folder, tmp_path):
    root = voc_folder(tmp_path / "parts", tiny.CLASSES, val=["two"])
    cfg = read("DATASETS.FOLDERS", f"[['parts', '{root}']]", *TESTED, evaluates=True)
    assert list(cfg.DATASETS.TRAIN) == []
    assert list(cfg.DATASETS.NO_HORIZONTAL_FLIP) == ["before"]  # for mirrored views
    cfg = read("DATASETS.TEST", "('voc_2012_seg_val',)", evaluates=True)
    assert list(cfg.DATASETS.FOLDERS) == []
    # The folder whose name fits best is that of the data set.
    rows = [["parts", str(tmp_path / "gone")], ["parts_of_owls", str(root)]]
    (tmp_path / "again").mkdir()
    path = tiny.write(
        tmp_path / "again/model.pth",
        *("DATASETS.FOLDERS", repr(rows), "DATASETS.TRAIN", "('parts_train',)"),
        *("DATASETS.TEST", "('parts_of_owls_val',)"),
    )
    cfg = read("MODEL.WEIGHTS", str(path), evaluates=True)  # without an option
    assert [row[0] for row in cfg.DATASETS.FOLDERS] == ["parts_of_owls"]
    assert list(cfg.DATASETS.TRAIN) == []
