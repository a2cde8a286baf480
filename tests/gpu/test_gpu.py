"""Training, inference and timing on a GPU agree with what a CPU or an eager model gives."""

import copy
import json
from pathlib import Path

import detector_file as file
import pytest
import torch
from torch import nn

from atto_det.cli import benchmark
from atto_det.export import runtimes
from atto_det.export.onnx_export import export
from atto_det.export.samples import pictures_to_check
from atto_det.nets import create_backbone
from atto_det.weights.checkpoint import load_checkpoint

TESTS = Path(__file__).resolve().parents[1]
TINY = TESTS.parent / "configs/atto_maskrcnn_tiny_voc.yaml"


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path)["model"]


def assert_close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Within what TF32 and another order of sums may change, relative to the largest value."""
    scale = float(wanted.abs().max())
    torch.testing.assert_close(found.cpu(), wanted.cpu(), rtol=0, atol=1e-2 * scale)


def test_steps_in_mixed_precision(train):
    trained = weights(train("out"))
    assert all(value.isfinite().all() for value in trained.values())


def test_a_resumed_run_ends_like_another(train):
    """Up to rounding: some CUDA kernels are not deterministic."""
    run = ("out", "SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 2)
    path = train(*run)
    whole = weights(path)
    for name in ("model_final.pth", "model_0000003.pth"):
        path.with_name(name).unlink(missing_ok=True)
    path.with_name("last_checkpoint").write_text("model_0000001.pth")
    parts = weights(train(*run, resume=True))
    assert parts.keys() == whole.keys()
    for name, value in whole.items():
        if value.is_floating_point():
            torch.testing.assert_close(parts[name], value, rtol=1e-2, atol=1e-3, msg=name)


def test_fast_gives_what_eager_gives():
    pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    from atto_det.detectron2.analysis import read_config
    from atto_det.detectron2.inference import optimise_for_inference
    from atto_det.detectron2.model import build_model

    torch.manual_seed(0)
    eager = build_model(read_config(TINY, 20)).eval()
    for module in eager.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    eager = eager.cuda()
    fast = optimise_for_inference(copy.deepcopy(eager))
    x = torch.randn(1, 3, 96, 128).cuda()
    with torch.inference_mode():
        wanted, found = eager.backbone(x), fast.backbone(x)
        assert_close(found["p2"], wanted["p2"])
        heads = (model.proposal_generator.rpn_head for model in (eager, fast))
        logits = [head(list(wanted.values()))[0] for head in heads]
        for one, other in zip(*logits, strict=True):
            assert_close(other, one)


def test_a_compiled_backbone():
    net = create_backbone("attonet_d").cuda().eval()
    x = torch.randn(1, 3, 64, 96).cuda()
    with torch.inference_mode():
        wanted, found = net(x), torch.compile(net)(x)
    for name, value in wanted.items():
        assert_close(found[name], value)


def test_the_benchmark(tmp_path):
    pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    arguments = ["--config-file", TINY, "--input", "96x128", "--device", "cuda", "--repeats", 1]
    arguments += ["--modes", "eager", "fast", "onnx-cuda", "--output", tmp_path]
    assert benchmark.main(list(map(str, arguments))) == 0
    content = json.loads((tmp_path / "latency.json").read_text())
    assert content["machine"]["gpu"]
    assert [one["mode"] for one in content["latencies"]][:2] == ["eager", "fast"]


@pytest.mark.parametrize("runtime", runtimes.GPU)
def test_an_exported_file(runtime, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    if runtimes.GPU[runtime][0] not in onnxruntime.get_available_providers():
        pytest.skip(f"the installed onnxruntime has no {runtimes.GPU[runtime][0]}")
    path, pictures = tmp_path / "model.onnx", pictures_to_check([])
    export(file.write(tmp_path / "model.pth"), path, pictures)
    detectors = [runtimes.OnnxDetector(path, runtime=name) for name in ("onnxruntime", runtime)]
    wanted, found = ([detector(one) for one in pictures] for detector in detectors)
    assert runtimes.agreement(wanted, found, box_iou=0.9, mask_iou=0.9).share > 0.9
