"""Profiles name the nodes of a file, and count their multiply-adds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from atto_det.complexity.benchmarking import BenchmarkCase
from atto_det.complexity.operators import ProfiledCall
from atto_det.errors import UserError
from atto_det.export.benchmark import ExportedDetector
from atto_det.export.profiling import ProfiledGraph, profile
from atto_det.reports.profile import profile_tables, write_profiles

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

TINY = str(Path(__file__).resolve().parents[2] / "configs/atto_maskrcnn_tiny_voc.yaml")


class Small(nn.Sequential):
    """Every kind of node that multiplies: by hand, on 8 x 6 pixels."""

    MACS = {  # noqa: RUF012
        "3x3 convolution": 8 * 6 * 4 * 3 * 9,
        "3x3 convolution, depthwise": 4 * 3 * 8 * 9,  # stride 2, multiplier 2
        "1x1 convolution": 4 * 3 * 5 * 8,
        "2x2 transposed convolution": 4 * 3 * 5 * 2 * 4,  # each input pixel becomes four
        "dense and matrix products": 2 * 8 * 6 * 7,
    }

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4), nn.ReLU()),
            *(nn.Conv2d(8, 5, 1), nn.ConvTranspose2d(5, 2, 2, stride=2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(2 * 8 * 6, 7)),
        )


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_multiply_adds_by_hand(runtime, tmp_path):
    pytest.importorskip(runtime)
    path, x = tmp_path / "small.onnx", torch.rand(1, 3, 8, 6)
    network = Small().eval()
    torch.onnx.export(network, (x,), path, dynamo=False)
    graph = ProfiledGraph(path, runtime, 1)
    for _ in range(3):
        [found] = graph(x.numpy()).values()
        assert torch.allclose(torch.as_tensor(found), network(x), atol=1e-5)
    assert len(graph.seconds) == 2
    check(graph.nodes())


@pytest.mark.parametrize("fused", [False, True])
def test_multiply_adds_in_pytorch(fused):
    network = Small().eval()
    if fused:
        pytest.importorskip("detectron2", reason="Detectron2 is not installed")
        from atto_det.detectron2.fusion import fuse

        fuse(network)
    call = ProfiledCall(torch.inference_mode()(lambda: network(torch.rand(1, 3, 8, 6))))
    for _ in range(2):
        call()
    nodes = call.nodes()
    check(nodes)
    assert sum(node.seconds for node in nodes) < call.seconds
    first = "_convolution_pointwise" if fused else "conv2d"
    assert next(node.name for node in nodes if node.macs) == f"{first} 1x3x8x6 4x3x3x3 4"


def check(nodes) -> None:
    counted: dict[str, int] = {}
    for node in nodes:
        if node.macs:
            counted[node.kind] = counted.get(node.kind, 0) + node.macs
    assert counted == Small.MACS
    assert all(node.seconds >= 0 for node in nodes)
    assert sum(node.seconds for node in nodes) > 0


def _pointwise(case: BenchmarkCase) -> int:
    """Multiply-adds of the 1x1 convolutions that are modules, as PyTorch runs them."""
    detector = ExportedDetector(replace(case, mode="torchvision"))
    total = 0

    def add(conv: nn.Conv2d, args: tuple, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * conv.in_channels

    for module in detector._find.func.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            module.register_forward_hook(add)
    detector.run(lambda name: None)
    return total


@pytest.mark.parametrize("mode", ["onnx-int8", "openvino"])
def test_a_detector_s_multiply_adds_are_found_in_every_graph(mode, tmp_path):
    """Joined and renamed nodes, too: box head, by hand, and the whole alike in all runtimes."""
    pytest.importorskip("openvino")
    case = BenchmarkCase(TINY, mode, 64, 96, proposals=30, detections=12)
    [found], limits = profile([case], repeats=1, threads=1, say=lambda text: None)
    box_head = 30 * (64 * 49 * 256 + 256 * 256 + 256 * (21 + 84))
    masks = 12 * 28 * 28 * 64  # of the chosen classes
    kinds = {}
    for node in found.nodes:
        kinds[node.kind] = kinds.get(node.kind, 0) + node.macs
    assert kinds["dense and matrix products"] >= box_head + masks
    assert kinds["1x1 convolution"] == _pointwise(case) + 12 * 14 * 14 * 64 * 256  # and upsampling
    assert kinds["ROIAlign"] == 0
    assert [limit.macs for limit in limits] == [128 * 128 * 9 * 80 * 80, 1024**3, 0]
    paths = write_profiles(tmp_path, [found], limits, {"command": []}, ["a remark"])
    content = json.loads(paths[1].read_text())
    assert content["profiles"][0]["kinds"]["ROIAlign"]["nodes"] >= 2
    titles = [grid.title for grid in profile_tables([found], limits)]
    assert titles[0] == f"atto_maskrcnn_tiny_voc 64x96 {mode}, by kind of layer"
    assert titles[-1] == "The machine in the same run"


def test_pytorch_in_every_engine():
    """The same multiply-adds in all, but for the masks that each computes."""
    benchmark = pytest.importorskip("atto_det.detectron2.benchmark", exc_type=ImportError)
    work = {"height": 64, "width": 96, "proposals": 30, "detections": 12}
    cases = [BenchmarkCase(TINY, mode, **work) for mode in ("torchvision", "eager", "fast")]
    others = dict.fromkeys(("eager", "fast"), benchmark.make)
    found, limits = profile(cases, repeats=1, threads=1, others=others, say=lambda text: None)
    assert [one.name for one in found] == [case.name for case in cases]
    every = []
    for one in found:
        kinds: dict[str, int] = {}
        for node in one.nodes:
            kinds[node.kind] = kinds.get(node.kind, 0) + node.macs
        assert {"ROIAlign", "non-maximum suppression", "top-k"} <= kinds.keys()
        assert kinds["dense and matrix products"] >= 30 * (64 * 49 * 256 + 256 * 256 + 256 * 101)
        every.append(kinds)
    ours, theirs, fast = every
    upsampling, masks = 12 * 14 * 14 * 64 * 256, 12 * 28 * 28 * 64
    shared = _pointwise(cases[0])
    assert ours["1x1 convolution"] == shared + upsampling  # the masks of the chosen classes follow
    assert theirs["1x1 convolution"] == shared + 20 * masks
    assert theirs["2x2 transposed convolution"] == upsampling
    assert ours["3x3 convolution, depthwise"] == theirs["3x3 convolution, depthwise"]
    assert ours["7x7 convolution"] == theirs["7x7 convolution"] == fast["7x7 convolution"]
    names = ["3x3 convolution of 128 channels, PyTorch", "matrix product of 1024, PyTorch"]
    assert [limit.name for limit in limits][:2] == names


def test_what_is_not_profiled():
    lines: list[str] = []
    with pytest.raises(UserError, match="nothing can be profiled here: add --modes, of torchv"):
        profile([BenchmarkCase(TINY, "compile", 64, 96)], repeats=1, say=lines.append)
    assert lines[-1] == "left out atto_maskrcnn_tiny_voc 64x96 compile: compile is not profiled"
