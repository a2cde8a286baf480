"""Contestants of this engine and of the runtimes do the work that is stated."""

from pathlib import Path

import pytest
import torch

from atto_det.complexity.benchmarking import BenchmarkCase, Unavailable
from atto_det.complexity.regions import spread_boxes, sure_scores
from atto_det.errors import UserError
from atto_det.export.benchmark import R50_FPN, ExportedDetector, contestant

TINY = str(Path(__file__).resolve().parents[2] / "configs/atto_maskrcnn_tiny_voc.yaml")


def case(mode: str, **changes) -> BenchmarkCase:
    work = {"height": 64, "width": 96, "proposals": 30, "detections": 12, "detector": TINY}
    return BenchmarkCase(mode=mode, **work | changes)


@pytest.mark.parametrize(
    "mode", ["torchvision", pytest.param("onnx", marks=pytest.mark.slow), "onnx-int8", "openvino"]
)
def test_fixed_regions_reach_the_heads_and_come_out(mode):
    for package in {"onnx": ["onnxruntime"], "openvino": ["openvino"]}.get(mode[:8], []):
        pytest.importorskip(package)
    detector = ExportedDetector(case(mode), threads=1)
    assert detector.limits == (30, 12)
    marks = []
    found = detector.run(marks.append)
    assert [rle["size"] for rle in found.rles] == [[64, 96]] * 12
    assert marks == ["network", "mask pasting"]
    boxes = detector._find()[0].detach()
    among = (boxes[:, None] - spread_boxes(30, 64, 96)).abs().amax(dim=2).amin(dim=1)
    assert among.max() < 1e-3


def test_the_network_s_own_work_is_not_left_out():
    """What is fixed would hide broken weights, if the graph did not use what the network found."""
    detector = ExportedDetector(case("torchvision"))
    network = detector._find.func.model
    torch.nn.init.constant_(network.roi_heads.box_predictor.cls_score.bias, float("nan"))
    assert len(detector.run(lambda name: None).scores) == 0


def test_r50_fpn_is_that_of_the_zoo():
    """Detectron2's has 44,020,296 parameters with 20 classes. Here norms are folded: 26,560 biases,
    one a channel of theirs. And box offsets and masks have a 21st class: 4 x 1,025 + 257."""
    detector = ExportedDetector(BenchmarkCase(R50_FPN, "torchvision", 64, 96, 30, 12))
    network = detector._find.func.model
    count = sum(value.numel() for value in network.parameters())
    assert count == 44_020_296 + 26_560 + 4_357


@pytest.mark.parametrize("mode", ["onnx", "openvino"])
def test_a_foreign_network_is_timed_alone(mode, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip({"onnx": "onnxruntime"}.get(mode, mode))
    path = tmp_path / "other.onnx"
    network = torch.nn.Conv2d(3, 4, 3, stride=2)
    torch.onnx.export(network, (torch.zeros(1, 3, 64, 96),), path, dynamo=False)
    assert onnx.load(path).graph.node
    foreign = contestant(BenchmarkCase(str(path), mode, 64, 96), threads=1)
    marks = []
    [output] = foreign.run(marks.append).values()
    assert output.shape == (1, 4, 31, 47)
    assert marks == ["network"]
    assert foreign.limits == (None, None)
    with pytest.raises(UserError, match="cannot run"):
        contestant(BenchmarkCase(str(path), mode, 32, 32), threads=1)
    with pytest.raises(Unavailable, match="as it is"):
        contestant(BenchmarkCase(str(path), f"{mode}-int8", 64, 96), threads=1)


def test_scores_by_hand():
    scores = sure_scores(4, 3)
    assert torch.allclose(scores.sum(dim=1), torch.ones(4))
    # Box 1: class (7 + 3) % 3 = 1 gets 0.1, then class 1 % 3 = 1 gets 0.85 - 0.55 / 4.
    assert torch.allclose(scores[1], torch.tensor([1e-6, 0.7125, 1e-6, 0.287498]))


@pytest.mark.parametrize(
    ("changes", "message"), [({"batch": 2}, "one picture"), ({"device": "cuda"}, "on a CPU")]
)
def test_what_is_not_timed_is_said(changes, message):
    with pytest.raises(Unavailable, match=message):
        ExportedDetector(case("onnx", **changes))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("{BACKBONE: {NAME: build_resnet_backbone}}", "does not support"),
        ("{MASK_ON: false}", "only detectors with masks"),
    ],
)
def test_a_detector_that_is_not_exported(keys, message, tmp_path):
    (tmp_path / "own.yaml").write_text(f"_BASE_: {TINY}\nMODEL: {keys}")
    with pytest.raises(Unavailable, match=message):
        ExportedDetector(case("onnx", detector=str(tmp_path / "own.yaml")))


def test_more_detections_than_proposals():
    with pytest.raises(UserError, match="lower --detections"):
        ExportedDetector(case("torchvision", proposals=2))


def test_a_gpu_s_provider_needs_a_gpu():
    with pytest.raises(Unavailable, match="is timed with --device cuda"):
        ExportedDetector(case("onnx-cuda"))
    if "CUDAExecutionProvider" not in pytest.importorskip("onnxruntime").get_available_providers():
        with pytest.raises(Unavailable, match="has no CUDAExecutionProvider"):
            ExportedDetector(case("onnx-cuda", device="cuda"))
