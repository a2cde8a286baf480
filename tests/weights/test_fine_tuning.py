"""A detector learns other classes: what is loaded, what starts at random, what is refused."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from atto_det import engine
from atto_det.errors import UserError
from atto_det.weights import checkpoint, detector_file, zoo
from atto_det.weights.fine_tuning import fitting, start_table

tiny = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "export/detector_file.py")))
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
