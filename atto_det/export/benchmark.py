"""The torchvision engine's detectors, and ONNX files of them, as contestants beside Detectron2's.

The workload is that of `atto_det.detectron2.benchmark`: one picture, resized beforehand, random
weights, a fixed number of proposals and detections after the network's own work on each, masks
pasted and run-length encoded, as `Predictor` returns them. Exporting drops what does not contribute
to an output, so the network's own results, times zero, are added to the fixed ones. For an ONNX
file from elsewhere, only the network is timed, on noise.
"""

import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from atto_det.complexity.benchmarking import SEED, BenchmarkCase, Unavailable
from atto_det.complexity.latency import Mark
from atto_det.complexity.regions import spread_boxes, sure_scores
from atto_det.config import CONFIGS
from atto_det.data.sample import sample_picture
from atto_det.errors import UserError
from atto_det.evaluation import Detections
from atto_det.export.onnx_export import OPSET
from atto_det.export.rewrite import for_onnx
from atto_det.export.runtimes import BF16, GPU, Run, check_provider, has_bf16, open_runtime
from atto_det.ops.fold_norms import folded
from atto_det.torchvision.config import Unsupported, read_file
from atto_det.torchvision.model import build_model
from atto_det.torchvision.predictor import to_detections

RUNTIME_OF_MODE = {  # mode: runtime, whether in 8 bits
    "onnx": ("onnxruntime", False),
    "onnx-int8": ("onnxruntime", True),
    "openvino": ("openvino", False),
    "openvino-bf16": (BF16, False),
    "openvino-int8": ("openvino", True),
    "onnx-cuda": ("onnxruntime-cuda", False),
    "onnx-tensorrt": ("onnxruntime-tensorrt", False),
}
MODES = ("torchvision", *RUNTIME_OF_MODE)
R50_FPN = "r50-fpn"
NETWORK_OUTPUTS = ("boxes", "scores", "labels", "masks")


Opened = Callable[[Path, str, int], Run]  # as `open_runtime`


def contestant(
    case: BenchmarkCase, threads: int | None = None, opened: Opened = open_runtime
) -> "ExportedDetector | ForeignNetwork":
    """The contestant for a case: an ONNX file, or a detector that is built here.

    Args:
        opened: opens ONNX files.

    Raises:
        UserError, Unavailable: as `ExportedDetector` and `ForeignNetwork`.
    """
    made = ForeignNetwork if Path(case.detector).suffix == ".onnx" else ExportedDetector
    return made(case, threads, opened)


class ExportedDetector:
    """An Atto-MaskRCNN with its input.

    Args:
        case: its mode is one of `MODES`, its device the CPU except in the modes of a GPU, its
            batch one picture.
        threads: of the runtime; None for the runtime's choice.
        opened: opens ONNX files.

    Attributes:
        limits: proposals and detections.

    Raises:
        UserError: a faulty config, or too few proposals to give so many detections.
        Unavailable: another device or batch, a config that this engine does not support, a detector
            without masks, or a runtime that is not installed.
    """

    def __init__(
        self, case: BenchmarkCase, threads: int | None = None, opened: Opened = open_runtime
    ) -> None:
        _check_work(case)
        self.case = case
        path = case.detector
        if path == R50_FPN:
            path = str(CONFIGS / "r50_maskrcnn_voc.yaml")
        try:
            cfg = read_file(path, ["MODEL.DEVICE", "cpu"])
        except Unsupported as error:
            raise Unavailable(str(error)) from error
        if not cfg.MODEL.MASK_ON:
            raise Unavailable("MODEL.MASK_ON is False: only detectors with masks are timed")
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = case.classes or cfg.MODEL.ROI_HEADS.NUM_CLASSES or 20
        proposals = case.proposals or cfg.MODEL.RPN.POST_NMS_TOPK_TEST
        cfg.TEST.DETECTIONS_PER_IMAGE = case.detections or cfg.TEST.DETECTIONS_PER_IMAGE
        self.limits = (proposals, cfg.TEST.DETECTIONS_PER_IMAGE)
        torch.manual_seed(SEED)
        try:
            model = folded(build_model(cfg))
        except Unsupported as error:
            raise Unavailable(str(error)) from error
        pixels = torch.as_tensor(
            sample_picture(case.height, case.width, case.image, SEED), dtype=torch.float32
        )
        if case.mode == "torchvision":
            model.to(memory_format=torch.channels_last)
            self._find = partial(_Fixed(model, proposals, case.height, case.width), pixels)
        else:
            runtime, int8 = RUNTIME_OF_MODE[case.mode]
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                _write(path, model, proposals, pixels, int8)
                try:
                    run = opened(path, runtime, threads or 0)
                except UserError as error:
                    raise Unavailable(str(error)) from error
            self._find = partial(_find, run, pixels.numpy())
        found = len(self.run(lambda name: None).scores)
        if found != self.limits[1]:
            raise UserError(
                f"{proposals} proposals in {case.name} leave {found} of {self.limits[1]} "
                "detections: lower --detections or raise --proposals"
            )

    def run(self, mark: Mark) -> Detections:
        """What is found in the picture, its masks encoded as `Predictor` gives them."""
        size = (self.case.height, self.case.width)
        with torch.inference_mode():
            boxes, scores, labels, masks = self._find()
            mark("network")
            found = {"boxes": boxes, "scores": scores, "labels": labels, "masks": masks}
            detections = to_detections(found, size, size)
        mark("mask pasting")
        return detections


class _Fixed(nn.Module):
    """A model whose regions are replaced by fixed ones after its own work, for one picture."""

    def __init__(self, model: nn.Module, proposals: int, height: int, width: int) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("boxes", spread_boxes(proposals, height, width))
        classes = model.roi_heads.box_predictor.cls_score.out_features - 1
        logits = sure_scores(proposals, classes).log().roll(1, dims=1)  # background first
        self.register_buffer("logits", logits)
        model.rpn.register_forward_hook(self._propose)
        model.roi_heads.box_predictor.register_forward_hook(self._predict)

    def _propose(self, rpn: nn.Module, args: tuple, output: tuple) -> tuple:
        [found], losses = output
        return [self.boxes + 0 * found.sum()], losses

    def _predict(self, predictor: nn.Module, args: tuple, output: tuple) -> tuple:
        logits, offsets = output
        return self.logits + 0 * logits, 0 * offsets

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        found = self.model([image])[0]
        return tuple(found[name] for name in NETWORK_OUTPUTS)


class ForeignNetwork:
    """A network in an ONNX file from elsewhere, which takes float pictures (1, 3, H, W).

    Args:
        case: its mode is one without 8 bits, whether or not the file is in 8 bits.
        threads: of the runtime; None for the runtime's choice.
        opened: opens ONNX files.

    Attributes:
        limits: None for proposals and detections, since the network has its own.

    Raises:
        UserError: a runtime that is not installed, or a file that it cannot run on such pictures.
        Unavailable: another mode, device or batch.
    """

    limits = (None, None)

    def __init__(
        self, case: BenchmarkCase, threads: int | None = None, opened: Opened = open_runtime
    ) -> None:
        _check_work(case)
        runtime, int8 = RUNTIME_OF_MODE.get(case.mode, ("", True))
        if int8:
            as_is = [mode for mode, (_, bits) in RUNTIME_OF_MODE.items() if not bits]
            raise Unavailable(f"an ONNX file is timed as it is: in {', '.join(as_is)}")
        if runtime == BF16 and not has_bf16():
            raise Unavailable("this CPU has no bfloat16")
        self.case = case
        self._run = opened(Path(case.detector), runtime, threads or 0)
        noise = np.random.default_rng(SEED).random((1, 3, case.height, case.width))
        self._pixels = noise.astype(np.float32)
        self.run(lambda name: None)

    def run(self, mark: Mark) -> dict[str, np.ndarray]:
        """The network's outputs by name."""
        outputs = self._run(self._pixels)
        mark("network")
        return outputs


def _check_work(case: BenchmarkCase) -> None:
    runtime, _ = RUNTIME_OF_MODE.get(case.mode, ("", False))
    if case.batch != 1:
        raise Unavailable(f"{case.mode} is timed for one picture")
    if runtime in GPU:
        if case.device == "cpu":
            raise Unavailable(f"{case.mode} is timed with --device cuda")
        try:
            check_provider(runtime)
        except (ImportError, UserError) as error:
            raise Unavailable(str(error)) from error
    elif case.device != "cpu":
        raise Unavailable(f"{case.mode} is timed on a CPU")


def _find(run: Run, pixels: np.ndarray) -> tuple[Tensor, ...]:
    return tuple(map(torch.as_tensor, run(pixels).values()))  # OpenVINO uses other names


def _write(path: Path, model: nn.Module, proposals: int, pixels: Tensor, int8: bool) -> None:
    """The model as an ONNX file, prepared as in `onnx_export`."""
    fixed = _Fixed(for_onnx(model, int8=int8), proposals, *pixels.shape[1:])
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # from the tracer
        torch.onnx.export(
            fixed,
            (pixels,),
            path,
            opset_version=OPSET,
            dynamo=False,
            input_names=["image"],
            output_names=list(NETWORK_OUTPUTS),
        )
    if int8:
        try:
            from atto_det.export.quantise import quantise
        except ImportError as error:
            raise Unavailable(f"{error.name} is not installed") from error
        quantise(path, path, [pixels.numpy()], detector=True)
