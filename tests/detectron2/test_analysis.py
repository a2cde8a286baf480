"""Configs without their data, passes over pictures, and the files written."""

import json
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from atto_det import Predictor
from atto_det.complexity import merge
from atto_det.detectron2 import analysis
from atto_det.detectron2.analysis import Pass
from atto_det.detectron2.complexity import detector_cost
from atto_det.detectron2.model import build_model
from atto_det.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_sizes():
    assert analysis.parse_size("800x1088") == (800, 1088)
    for text in ("800", "800x", "0x10", "8e2x1", "800X1088", "-1x5", "1x2x3", ""):
        with pytest.raises(UserError, match="write HEIGHTxWIDTH in pixels, as in 800x1088"):
            analysis.parse_size(text)


def test_a_class_count_left_to_the_data(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(UserError, match=r"carparts\.yaml takes the class count .* --classes"):
        analysis.read_config(CONFIGS / "quick/carparts.yaml")
    cfg = analysis.read_config(CONFIGS / "quick/carparts.yaml", classes=18)
    assert (cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.DEVICE) == (18, "cpu")
    lists = tmp_path / "CarParts/ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("picture\n")
    (lists.parents[1] / "class_names.txt").write_text("bonnet\nbumper\n")
    cfg = analysis.read_config(CONFIGS / "quick/carparts.yaml")
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2


def test_a_base_without_data_is_a_sentence_too():
    with pytest.raises(UserError, match="give --classes"):
        analysis.read_config(CONFIGS / "Base-Atto-MaskRCNN.yaml")


def test_a_config_of_detectron2_s_own_kind(tmp_path):
    """Keys of Detectron2 alone, COCO's class count, data that nobody has."""
    path = tmp_path / "faster.yaml"
    path.write_text(
        "MODEL:\n  META_ARCHITECTURE: GeneralizedRCNN\n"
        "  RESNETS: {DEPTH: 18, RES2_OUT_CHANNELS: 64, OUT_FEATURES: [res4]}\n"
        "DATASETS: {TRAIN: [coco_2017_train]}\nVERSION: 2\n"
    )
    cfg = analysis.read_config(path)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 80


@pytest.fixture(scope="module")
def predictor(trained):
    return Predictor(trained)


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    paths = []
    for index, size in enumerate([(128, 96), (60, 90)]):  # width, height
        paths.append(tmp_path / f"{index}.png")
        Image.effect_noise(size, 80).convert("RGB").save(paths[-1])
    return paths


def test_passes_on_pictures(predictor, pictures):
    passes = analysis.passes_on(predictor, pictures)
    # 96 × 128 fits as it is; 90 × 60 becomes 128 × 85, padded to multiples of 32.
    assert [(one_pass.height, one_pass.width) for one_pass in passes] == [(96, 128), (128, 96)]
    for path, one_pass in zip(pictures, passes, strict=True):
        assert one_pass.detections == len(predictor(path).scores)
        assert 0 < one_pass.detections <= 5  # as the config says
        assert 0 < one_pass.proposals <= 10
    assert not predictor.model.backbone._forward_pre_hooks
    assert not predictor.model.roi_heads._forward_hooks


def test_the_mean_of_passes(predictor):
    passes = [Pass(96, 128, 10, 0), Pass(96, 128, 4, 4), Pass(128, 96, 7, 2)]
    found = analysis.analyse("net", "somewhere", predictor.model, {"mean": passes}, memory=True)
    [expected] = merge(detector_cost(predictor.model, 96, 128, proposals=7, detections=2), "total")
    assert found.total("mean") == expected  # the cost is linear in the regions
    assert set(found.memory["mean"]) == {cost.name for cost in found.costs["mean"]}
    assert found.note == ""


def test_a_sentence_on_the_regions():
    passes = [Pass(8, 8, 10, 0), Pass(8, 8, 30, 3), Pass(8, 8, 20, 1)]
    assert analysis.describe(passes) == (
        "On 3 pictures the model found 10 to 30 proposals (median 20) and "
        "0 to 3 detections (median 1)."
    )
    assert analysis.describe(passes[:1]).startswith("On 1 picture the model")


def test_files(tmp_path):
    cfg = analysis.read_config(CONFIGS / "atto_maskrcnn_tiny_voc.yaml")
    workloads = {"64x96": [Pass(64, 96, 10, 5)]}
    found = analysis.analyse("tiny", "tiny.yaml", build_model(cfg), workloads)
    paths = analysis.write(tmp_path / "new", [found], cfg, workloads, ["A remark."])
    assert [path.name for path in paths] == ["complexity.md", "complexity.json", "complexity.png"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(
        path.name for path in paths
    )
    assert "A remark." in paths[0].read_text()
    content = json.loads(paths[1].read_text())
    assert content["config"]["MODEL"]["RPN"]["HEAD_NAME"] == "SeparableRPNHead"
    assert content["workloads"]["64x96"] == [
        {"height": 64, "width": 96, "proposals": 10, "detections": 5}
    ]
    assert {"torch", "detectron2"} <= set(content["versions"])
    total = content["detectors"][0]["inputs"]["64x96"]["total"]
    assert total["macs"] == found.total("64x96").macs
