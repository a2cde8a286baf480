"""Exports trained weights as ONNX files, and checks these against the original model.

A detector's file takes a picture and returns detections (`Deployable`); that of a classifier's
backbone takes normalised pictures and returns feature maps. `Metadata` describes either. A file
gets its final name after it has run in ONNX Runtime and found the same as PyTorch.
"""

import importlib.util
import warnings
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from atto_det import data
from atto_det.config import backbones
from atto_det.errors import UserError, atomic_path
from atto_det.evaluation import Detections
from atto_det.nets import STAGES, create_backbone, list_backbones
from atto_det.nets.registry import is_backbone
from atto_det.ops.fold_norms import folded
from atto_det.ops.resize import resize
from atto_det.torchvision.predictor import Predictor
from atto_det.weights import backbone_file, checkpoint
from atto_det.weights.zoo import file_sha256, find_file

from .deployable import INPUTS, OUTPUTS, Deployable
from .metadata import Metadata
from .rewrite import for_8_bits, for_onnx

OPSET = 18
SAME = 0.99  # minimum share of equal detections
FEATURE_TOLERANCE = (
    1e-3  # of a backbone's features, relative to the largest; rounding alone reaches 1e-4
)
PACKAGES = ("onnx", "onnxruntime", "onnxscript")


class Exported(NamedTuple):
    """The result of an export.

    metadata: of the file.
    checks: a sentence for each runtime that ran the file.
    """

    metadata: Metadata
    checks: list[str]


def export(
    path: str | Path,
    target: str | Path,
    pictures: Sequence[np.ndarray],
    calibration: Sequence[np.ndarray] = (),
    *,
    score_threshold: float | None = None,
    options: Sequence[str] = (),
) -> Exported:
    """Write the detector, or the classifier's backbone, of a checkpoint to an ONNX file.

    Args:
        path: a checkpoint of either engine, or of the pretraining.
        target: the `.onnx` file.
        pictures: uint8 RGB (H, W, 3), on which the file must find the same as PyTorch.
        calibration: pictures to measure ranges on; if given, the file uses 8 bits.
        score_threshold: of a detector; None for the checkpoint's. Masks of detections below it are
            not computed, so a higher threshold makes the file faster.
        options: changes to a detector's config: KEY, VALUE, KEY, VALUE …

    Raises:
        UserError: a missing, damaged, unsafe or foreign checkpoint; a model that this engine does
            not have; a missing package; a file that finds something else than PyTorch; or one that
            cannot be written.
    """
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{package} is not installed: pip install 'atto_det[onnx]'")
    path = find_file(path)
    content = checkpoint.load_checkpoint(path)
    is_detector = "atto_det" in content
    if score_threshold is not None and not is_detector:
        raise UserError(f"{path} is no detector: only detectors have a score threshold")
    if options and not is_detector:
        raise UserError(f"{path} is no detector: only detectors have a config to change")
    with atomic_path(target) as temporary:
        if is_detector:
            predictor = Predictor(
                path, device="cpu", score_threshold=score_threshold, options=options
            )
            return _detector(path, predictor, temporary, pictures, calibration)
        weights = backbone_file.read_pretraining(path, content)
        return _backbone(path, weights, temporary, pictures, calibration)


def _detector(
    path: Path,
    predictor: Predictor,
    target: Path,
    pictures: Sequence[np.ndarray],
    calibration: Sequence[np.ndarray],
) -> Exported:
    cfg, order = predictor.cfg, predictor.cfg.INPUT.FORMAT
    if not cfg.MODEL.MASK_ON:
        raise UserError(
            f"{path} is a detector of boxes alone (MODEL.MASK_ON False): only detectors with masks "
            "are exported to ONNX"
        )
    metadata = Metadata(
        kind="detector",
        network=backbones.network(cfg),
        class_names=predictor.class_names,
        channel_order=order,
        mean=list(cfg.MODEL.PIXEL_MEAN),
        std=list(cfg.MODEL.PIXEL_STD),
        min_size=cfg.INPUT.MIN_SIZE_TEST,
        max_size=cfg.INPUT.MAX_SIZE_TEST,
        score_threshold=cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST,
        detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
        **_origin(path, calibration),
    )
    model = for_onnx(predictor.model, int8=bool(calibration))
    example = torch.as_tensor(_in_order(pictures[0], order))
    axes = {INPUTS[0]: {0: "height", 1: "width"}} | {name: {0: "detections"} for name in OUTPUTS}
    # The tracer's warnings are ignored, since the check below detects real errors.
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            Deployable(model, cfg).eval(),
            (example,),
            target,
            opset_version=OPSET,
            dynamo=False,  # the newer exporter cannot handle the selection of regions
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes=axes,
        )
    _describe(target, metadata)
    wanted = [predictor(picture, order="RGB") for picture in pictures]
    checks = _check_detector(target, pictures, wanted, strict=True)
    if calibration:
        from .quantise import quantise

        inputs = (_in_order(picture, order) for picture in calibration)
        count = quantise(target, target, inputs, detector=True)
        _describe(target, metadata)
        checks = [f"in 8 bits, measured on {count} pictures"]
        checks += _check_detector(target, pictures, wanted, strict=False)
    return Exported(metadata, checks)


def _check_detector(
    path: Path, pictures: Sequence[np.ndarray], wanted: list[Detections], *, strict: bool
) -> list[str]:
    """Run the file in the installed runtimes; with `strict`, it must find the same as PyTorch."""
    from .runtimes import RUNTIMES, OnnxDetector, agreement

    checks = []
    for runtime in RUNTIMES:
        if importlib.util.find_spec(runtime) is None:
            continue
        detector = OnnxDetector(path, runtime=runtime)
        found = [detector(picture, order="RGB") for picture in pictures]
        overlaps = {} if strict else {"box_iou": 0.5, "mask_iou": 0.5}
        result = agreement(wanted, found, **overlaps)
        what = "the same" if strict else "overlapping by half"
        checks.append(
            f"{runtime} {version(runtime)}: {result.same} of {result.total} detections {what} as "
            f"PyTorch's in {len(pictures)} pictures"
        )
        if strict and result.share < SAME:
            raise UserError(
                f"the exported file does not find what the checkpoint's model finds ({checks[-1]})"
            )
    return checks


def _backbone(
    path: Path,
    weights: backbone_file.Weights,
    target: Path,
    pictures: Sequence[np.ndarray],
    calibration: Sequence[np.ndarray],
) -> Exported:
    state, description = weights
    if not is_backbone(description.network):
        raise UserError(
            f"checkpoint {path} holds {description.network}; the backbones exported for "
            f"detectors are {', '.join(list_backbones())}"
        )
    normalisation, size = description.normalisation, description.input_size
    metadata = Metadata(
        kind="backbone",
        network=description.network,
        class_names=description.class_names,
        channel_order=normalisation.channel_order,
        mean=list(normalisation.mean),
        std=list(normalisation.std),
        min_size=size,
        max_size=size,
        score_threshold=0.0,
        detections_per_image=0,
        **_origin(path, calibration),
    )
    net = create_backbone(description.network, STAGES)
    net.load_state_dict(backbone_file.without_head(state))
    net = folded(net)

    def normalised(picture: np.ndarray) -> np.ndarray:
        """(1, 3, size, size)"""
        pixels = _in_order(resize(picture, size, size), normalisation.channel_order)
        pixels = (pixels - np.float32(normalisation.mean)) / np.float32(normalisation.std)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])

    exported = _Features(for_8_bits(net) if calibration else net)
    any_size = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            exported,
            (torch.zeros(2, 3, size, size),),
            target,
            opset_version=OPSET,
            dynamo=True,
            input_names=list(INPUTS),
            output_names=list(STAGES),
            dynamic_shapes=(any_size,),
            external_data=False,
            verbose=False,
        )
    _describe(target, metadata)
    check = _check_backbone(target, net, [normalised(picture) for picture in pictures])
    if calibration:
        from .quantise import quantise

        count = quantise(target, target, map(normalised, calibration), detector=False)
        _describe(target, metadata)
        check = f"in 8 bits, measured on {count} pictures"
    return Exported(metadata, [check])


class _Features(nn.Module):
    """A backbone's feature maps as a tuple."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Normalised pictures (B, 3, H, W) to maps (B, C, H / stride, W / stride)."""
        return tuple(self.net(image).values())


def _check_backbone(path: Path, net: nn.Module, pictures: Iterable[np.ndarray]) -> str:
    """Compare features with PyTorch's, for single pictures and a batch of two at another size."""
    from .runtimes import open_runtime

    run, worst = open_runtime(path, "onnxruntime"), 0.0
    inputs = list(pictures)
    inputs.append(np.repeat(inputs[0][:, :, : inputs[0].shape[2] // 2 + 3], 2, axis=0))
    for value in inputs:
        found = run(value)
        with torch.no_grad():
            wanted = net(torch.as_tensor(value))
        for name, features in wanted.items():
            difference = np.abs(found[name] - features.numpy()).max()
            worst = max(worst, float(difference / features.abs().max()))
    if not worst <= FEATURE_TOLERANCE:
        raise UserError(f"the exported file's features differ from PyTorch's by {worst:.1e}")
    return f"onnxruntime {version('onnxruntime')}: features within {worst:.0e} of PyTorch's"


def _in_order(picture: np.ndarray, order: str) -> np.ndarray:
    """An RGB picture converted to a channel order."""
    return np.ascontiguousarray(data.in_order(picture, "RGB", order))


def _origin(path: Path, calibration: Sequence[np.ndarray]) -> dict:
    versions = checkpoint.versions() | {package: version(package) for package in PACKAGES}
    return {
        "precision": "int8" if calibration else "float32",
        "opset": OPSET,
        "versions": versions,
        "checkpoint_sha256": file_sha256(path),
    }


def _describe(path: Path, metadata: Metadata) -> None:
    """Write the metadata into the file, remove what is not used, and check the result."""
    import onnx

    model = onnx.load(path)
    model.producer_name, model.producer_version = "atto_det", checkpoint.versions()["atto_det"]
    del model.graph.value_info[:], model.metadata_props[:]  # shapes of intermediate values
    onnx.helper.set_model_props(model, metadata.as_properties())
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
