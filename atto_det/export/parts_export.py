"""Exports a detector in parts for LiteRT or ExecuTorch, and checks the parts against PyTorch."""

import importlib.util
import inspect
import json
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from atto_det import data
from atto_det.errors import UserError, atomic_folder
from atto_det.evaluation import Detections
from atto_det.nets.registry import short_name
from atto_det.ops.resize import resize
from atto_det.torchvision.predictor import Predictor
from atto_det.weights import checkpoint
from atto_det.weights.zoo import file_sha256, find_file

from .host import DESCRIPTION, PARTS, SUFFIXES, Host, Run
from .parts import Split, split
from .parts_detector import PartsDetector, open_parts
from .runtimes import agreement

SAME = 0.99  # minimum share of equal detections
PACKAGES = {  # of each format: the converter and the runtime
    "litert": ("litert-torch", "ai-edge-litert"),
    "executorch": ("executorch", "executorch"),
}


class Exported(NamedTuple):
    """The result of an export.

    about: the description in the folder.
    checks: sentences about the parts that ran.
    """

    about: dict[str, Any]
    checks: list[str]


def export(
    path: str | Path,
    folder: str | Path,
    form: str,
    pictures: Sequence[np.ndarray],
    calibration: Sequence[np.ndarray] = (),
    *,
    size: tuple[int, int] | None = None,
    score_threshold: float | None = None,
    options: Sequence[str] = (),
) -> Exported:
    """Write the parts of a checkpoint's detector and their description into a folder.

    Args:
        path: a checkpoint of either engine.
        form: "litert" or "executorch".
        pictures: uint8 RGB (H, W, 3), on which the parts must find the same as PyTorch's.
        calibration: pictures to measure ranges on; if given, LiteRT's parts use 8 bits.
        size: as for `split`.
        score_threshold, options: as for `onnx_export.export`.

    Raises:
        UserError: a missing, damaged, unsafe or foreign checkpoint; a model that this engine does
            not have; a missing package; parts that find something else than PyTorch; or a folder
            that exists or cannot be written.
    """
    for package in PACKAGES[form]:
        if importlib.util.find_spec(package.replace("-", "_")) is None:
            raise UserError(
                f"{package} is not installed: it wants an environment of its own, which "
                "docs/export.md describes under On a phone"
            )
    if Path(folder).exists():
        raise UserError(f"{folder} already exists: choose another --output")
    path = find_file(path)
    predictor = Predictor(path, device="cpu", score_threshold=score_threshold, options=options)
    parts = split(predictor, size)
    versions = {package: version(package) for package in PACKAGES[form]}
    parts.about.update(
        format=form,
        precision="float32",
        versions=checkpoint.versions() | versions,
        checkpoint_sha256=file_sha256(path),
    )
    convert = _litert if form == "litert" else _executorch
    with atomic_folder(folder) as temporary:
        for name in PARTS:
            target = temporary / f"{name}{SUFFIXES[form]}"
            with torch.no_grad(), warnings.catch_warnings(action="ignore"):
                convert(parts.modules[name], parts.examples[name], target)
        _describe(temporary, parts.about)
        checks = [_check(parts, temporary, pictures)]
        if calibration:
            count = _quantise(temporary, calibration)
            _describe(temporary, parts.about | {"precision": "int8"})
            checks.append(f"in 8 bits, measured on {count} pictures")
            checks.append(_check(parts, temporary, pictures, strict=False))
            parts.about["precision"] = "int8"
    return Exported(parts.about, checks)


def summary(about: Mapping[str, Any]) -> list[str]:
    """The most important facts about a folder, in a few lines."""
    low, high, (height, width) = about["min_size"], about["max_size"], about["size"]
    picture = f"resized by the host to {low} pixels, at most {high}, on {height}×{width}"
    classes = len(about["class_names"])
    return [
        f"model    detector, {short_name(about['network'])}, {classes} classes",
        f"numbers  {about['precision']}, {about['format']}",
        f"picture  {about['channel_order']}, {picture}",
        f"sha256   {about['checkpoint_sha256']} of the checkpoint",
    ]


def _describe(folder: Path, about: Mapping[str, Any]) -> None:
    text = json.dumps(about, ensure_ascii=False, indent=1)
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")


def _check(
    parts: Split, folder: Path, pictures: Sequence[np.ndarray], *, strict: bool = True
) -> str:
    """Compare the outputs and the detections with those of the parts in PyTorch.

    With `strict`, the detections must be the same.
    """
    exported, differences = open_parts(folder), []

    def compared(part: str, wanted: Run) -> Run:
        def run(value: np.ndarray) -> dict[str, np.ndarray]:
            outputs, others = wanted(value), exported.runs[part](value)
            for name, own in outputs.items():
                differences.append(np.abs(own - others[name]).max() / np.abs(own).max())
            return outputs

        return run

    both = Host(parts.about, {part: compared(part, run) for part, run in parts.runs().items()})
    wanted, found = (_detections(host, pictures) for host in (both, exported))
    overlaps = {} if strict else {"box_iou": 0.5, "mask_iou": 0.5}
    result = agreement(wanted, found, **overlaps)
    package = PACKAGES[parts.about["format"]][-1]
    line = (
        f"{package} {version(package)}: {result.same} of {result.total} detections "
        f"{'the same' if strict else 'overlapping by half'} as PyTorch's in {len(pictures)} "
        f"pictures, outputs within {max(differences):.0e} of their largest value"
    )
    if strict and result.share < SAME:
        raise UserError(f"the exported parts do not find what PyTorch's parts find ({line})")
    return line


def _detections(host: Host, pictures: Sequence[np.ndarray]) -> list[Detections]:
    detector = PartsDetector(host)
    return [detector(picture, order="RGB") for picture in pictures]


def _litert(module: nn.Module, example: Tensor, target: Path) -> None:
    import litert_torch

    litert_torch.config.show_progress = False  # dozens of lines
    [name] = inspect.signature(module.forward).parameters  # becomes the input's in the file
    litert_torch.convert(module, sample_kwargs={name: example}).export(str(target))


def _executorch(module: nn.Module, example: Tensor, target: Path) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    program = torch.export.export(module, (example,))
    edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    target.write_bytes(edge.to_executorch().buffer)


def _quantise(folder: Path, pictures: Sequence[np.ndarray]) -> int:
    """Rewrite LiteRT's parts in 8 bits; ranges are those of what reaches them in the pictures.

    Returns:
        The number of pictures.

    Raises:
        UserError: no picture reaches all parts.
    """
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    host = open_parts(folder)
    seen: dict[str, list[np.ndarray]] = {part: [] for part in PARTS}

    def recording(part: str, run: Run) -> Run:
        def recorded(value: np.ndarray) -> dict[str, np.ndarray]:
            if value.any():  # without regions, a head sees zeros
                seen[part].append(value)
            return run(value)

        return recorded

    recorder = Host(host.about, {part: recording(part, run) for part, run in host.runs.items()})
    for picture in pictures:
        image = data.in_order(picture, "RGB", host.about["channel_order"])
        recorder(resize(np.ascontiguousarray(image), *host.shape(*image.shape[:2])))
    if not all(seen.values()):
        raise UserError("calibration needs pictures in which the model finds something")
    for part in PARTS:
        path = folder / f"{part}{SUFFIXES['litert']}"
        [(signature, names)] = Interpreter(str(path)).get_signature_list().items()
        [name] = names["inputs"]
        own = quantizer.Quantizer(path.read_bytes(), recipe.static_wi8_ai8())
        ranges = own.calibrate({signature: [{name: value} for value in seen[part]]})
        result = own.quantize(ranges, enable_progress_report=False)
        path.write_bytes(result.quantized_model)
    return len(pictures)
