"""Write trained weights for use elsewhere.

atto-det export --checkpoint model_best.pth --format onnx --output model.onnx \\
    --int8 --calibration FOLDER     in 8 bits; without this line in single precision
atto-det export --checkpoint model_best.pth --format onnx --output model.onnx \\
    INPUT.MIN_SIZE_TEST 320         with changes to the config that the checkpoint carries
atto-det export --checkpoint model_best.pth --format litert --output phone/ --size 224 320
    a folder of three parts for LiteRT, or with --format executorch for ExecuTorch
atto-det export --checkpoint last.ckpt --format onnx --output attonet_a.onnx
atto-det export --checkpoint last.ckpt --format safetensors --output attonet_a.safetensors
    for MODEL.WEIGHTS of atto-det train
atto-det export --checkpoint model_best.pth --format safetensors --output detector.safetensors
    a whole detector in 16 bits, which Predictor and MODEL.WEIGHTS take as they do the checkpoint
atto-det export --checkpoint last.ckpt --format safetensors --output attonet_a_8.safetensors \\
    --weight-bits 8 --data FOLDER   weights in 8 bits; top-1 before and after on these pictures
atto-det export --checkpoint model_best.pth.tar --network attonet_a --format safetensors \\
    --output attonet_a.safetensors  trained by timm's or torchvision's scripts, or a state dict
atto-det export --checkpoint last.ckpt --format pth --output attonet_a.pth \\
    --config-file detector.yaml     for Detectron2's own tools, adapted to this detector's pictures
"""

import argparse
import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atto_det.cli import verb_parser
from atto_det.errors import UserError, command_line

if TYPE_CHECKING:
    from torch import Tensor

    from atto_det.weights.backbone_file import Description

BASE = "Base-Atto-MaskRCNN.yaml"
PARTS = ("litert", "executorch")  # formats that are a folder of parts
ONLY = {
    "config_file": ("pth",),
    "images": ("onnx", *PARTS),
    "int8": ("onnx", "litert"),
    "calibration": ("onnx", "litert"),
    "score_threshold": ("onnx", *PARTS),
    "options": ("onnx", *PARTS),
    "size": PARTS,
    "weight_bits": ("safetensors",),
    "data": ("safetensors",),
}


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("export", __doc__)
    add = result.add_argument
    add("--checkpoint", type=Path, required=True, help=".pth of a detector, .ckpt of a classifier")
    formats = ("onnx", *PARTS, "safetensors", "pth")
    add("--format", choices=formats, required=True, help="as above")
    add("--output", type=Path, required=True, metavar="FILE|FOLDER")
    add("--network", help="of a state dict or a checkpoint of timm's or torchvision's scripts")
    colour = {"type": float, "nargs": 3, "metavar": ("R", "G", "B")}
    add("--mean", **colour, help="network: normalisation of its training, 0 to 1")
    add("--std", **colour, help="network: also (default: from the file, else ImageNet's)")
    add("--input-size", type=int, metavar="PIXELS", help="network: side of its pictures (else 224)")
    add("--images", type=Path, nargs="+", help="detector: check on these (default: a painted one)")
    size = "litert, executorch: of the network's input (default: a square for every picture)"
    add("--size", type=int, nargs=2, metavar=("H", "W"), help=size)
    least = "detector: least score; of fewer, fewer masks are computed (default: its own)"
    add("--score-threshold", type=float, metavar="SCORE", help=least)
    add("--int8", action="store_true", help="onnx, litert: layers in 8 bits")
    add("--calibration", metavar="FOLDER|DATASET", help="int8: pictures to measure ranges on")
    add("--weight-bits", type=int, choices=(8,), help="safetensors: round to and store in 8 bits")
    add("--data", metavar="FOLDER", help="weight-bits: measure top-1 before and after on its val")
    fitted = "pth: detector whose PIXEL_MEAN, PIXEL_STD, INPUT.FORMAT the stem is made for"
    add("--config-file", type=Path, help=f"{fitted} (default: configs/{BASE})")
    add(
        "options",
        nargs="*",
        default=[],
        metavar="KEY VALUE",
        help="onnx, litert, executorch: config keys of a detector",
    )
    return result


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Read, write, and print what was written."""
    flags = parser()
    args = flags.parse_intermixed_args(arguments)
    if args.format not in PARTS and args.output.suffix != f".{args.format}":
        raise UserError(f"--output {args.output} must end in .{args.format}, as --format says")
    for name, formats in ONLY.items():
        if getattr(args, name) != flags.get_default(name) and args.format not in formats:
            flag = "KEY VALUE" if name == "options" else f"--{name.replace('_', '-')}"
            raise UserError(f"{flag} is for --format {', '.join(formats)}")
    if args.network and args.format not in ("safetensors", "pth"):
        raise UserError("--network is for --format safetensors and pth")
    if not args.network and (args.mean or args.std or args.input_size):
        raise UserError("--mean, --std and --input-size are for --network: other files state them")
    if args.int8 != bool(args.calibration):
        raise UserError("--int8 and --calibration need each other: ranges are measured on pictures")
    if args.data and not args.weight_bits:
        raise UserError("--data needs --weight-bits 8: top-1 is measured before and after rounding")
    write = {"onnx": _onnx} | dict.fromkeys(PARTS, _parts)
    lines = write.get(args.format, _tensors)(args)
    files = args.output.iterdir() if args.output.is_dir() else [args.output]
    print(f"wrote {args.output}, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB")
    print("\n".join(f"  {line}" for line in lines))
    return 0


def _onnx(args: argparse.Namespace) -> list[str]:
    from atto_det.export.onnx_export import export
    from atto_det.export.samples import calibration_pictures, pictures_to_check

    source, path = args.calibration, args.checkpoint
    measured = calibration_pictures(source, path) if args.int8 else []
    metadata, checks = export(
        path,
        args.output,
        pictures_to_check(args.images or []),
        measured,
        score_threshold=args.score_threshold,
        options=args.options,
    )
    return [*metadata.summary(), *(f"checked  {check}" for check in checks)]


def _parts(args: argparse.Namespace) -> list[str]:
    from atto_det.export.parts_export import export, summary
    from atto_det.export.samples import calibration_pictures, pictures_to_check

    source, path = args.calibration, args.checkpoint
    about, checks = export(
        path,
        args.output,
        args.format,
        pictures_to_check(args.images or []),
        calibration_pictures(source, path) if args.int8 else [],
        size=tuple(args.size) if args.size else None,
        score_threshold=args.score_threshold,
        options=args.options,
    )
    return [*summary(about), *(f"checked  {check}" for check in checks)]


def _tensors(args: argparse.Namespace) -> list[str]:
    """Write a detector or a backbone, whichever the checkpoint holds."""
    from atto_det.design.networks import find_network
    from atto_det.weights.backbone_file import read_pretraining
    from atto_det.weights.checkpoint import load_checkpoint
    from atto_det.weights.foreign import read_foreign

    if args.network:
        network = find_network(args.network, key="--network")
        told = {"mean": args.mean, "std": args.std, "input_size": args.input_size}
        return _backbone(args, *read_foreign(args.checkpoint, network, **told))
    content = load_checkpoint(args.checkpoint)
    if "atto_det" in content and args.format == "safetensors" and not args.weight_bits:
        return _detector(args, content)
    if "atto_det" in content and args.format == "pth":
        raise UserError(
            f"checkpoint {args.checkpoint} holds a detector, and --format pth is for the backbones "
            "of classifiers: export a detector with --format safetensors"
        )
    if "atto_det" in content and args.weight_bits:
        raise UserError(
            f"checkpoint {args.checkpoint} holds a detector, and --weight-bits is for classifiers: "
            "a detector has 8 bits as --format onnx --int8"
        )
    return _backbone(args, *read_pretraining(args.checkpoint, content))


def _detector(args: argparse.Namespace, content: dict[str, Any]) -> list[str]:
    from atto_det.weights.checkpoint import read_description
    from atto_det.weights.detector_file import parameter_count, write_detector

    part = read_description(content, args.checkpoint)
    sha256 = write_detector(args.output, content)
    return [
        f"detector of {len(part['class_names'])} classes: {', '.join(part['class_names'])}",
        f"tensors  {len(content['model'])}, {parameter_count(content['model']):,} parameters",
        f"sha256   {sha256} of tensors and description, checked at loading",
    ]


def _backbone(
    args: argparse.Namespace, state: dict[str, "Tensor"], description: "Description"
) -> list[str]:
    from atto_det.config import CONFIGS, load_yaml
    from atto_det.nets import list_backbones
    from atto_det.nets.normalisation import Normalisation, difference
    from atto_det.nets.registry import is_backbone
    from atto_det.weights import backbone_file

    if not is_backbone(description.network):
        raise UserError(
            f"checkpoint {args.checkpoint} holds {description.network}; the backbones exported "
            f"for detectors are {', '.join(list_backbones())}"
        )
    backbone = backbone_file.without_head(state)
    stem = f"as trained: {description.normalisation}"
    rounding: list[str] = []
    # A training in 8 bits has rounded them, so there is nothing to do but to measure.
    if args.weight_bits and (args.data or not description.weight_bits):
        description, rounding = _rounded(args.data, state, description)
    if args.format == "safetensors":
        bits = args.weight_bits or 32
        sha256 = backbone_file.write_backbone(args.output, backbone, description, bits=bits)
    else:
        config = args.config_file or CONFIGS / BASE
        target = Normalisation.of_detector(load_yaml(config), str(config))
        sha256 = backbone_file.write_detectron2(args.output, backbone, description, target)
        absorbed = difference(description.normalisation, target) or "nothing"
        stem = f"for {config.name}: {target}; absorbed: {absorbed}"
    return [
        f"weights  {description}",
        *rounding,
        f"epoch    {description.epoch}",
        f"tensors  {len(backbone)}; left out: {', '.join(sorted(state.keys() - backbone))}",
        f"stem     {stem}",
        f"sha256   {sha256} of tensors and description, checked at loading",
    ]


def _rounded(
    data: str | None, state: dict[str, "Tensor"], before: "Description"
) -> tuple["Description", list[str]]:
    """The description of the weights after rounding to 8 bits, and lines to print about it."""
    from rich.progress import track

    from atto_det.pretraining.measured import measure_top1
    from atto_det.pretraining.networks import create_network
    from atto_det.weights.backbone_file import rounded

    after = dataclasses.replace(before, weight_bits=8, top1=None)
    if data is None:
        known = "unknown" if before.top1 is None else f"{before.top1:.1f} %"
        return after, [
            f"rounded  to 8 bits; top-1 before {known}, after: give --data to measure it"
        ]
    networks = []
    for values in (state, rounded(state)):
        network = create_network(before.network, len(before.class_names)).eval()
        network.load_state_dict(values)
        networks.append(network)
    shown = partial(track, description="measuring", disable=not sys.stdout.isatty())
    (old, new), pictures = measure_top1(networks, before, data, shown)
    line = f"rounded  to 8 bits; top-1 on {data}: {old:.2f} % before, {new:.2f} % after"
    return dataclasses.replace(after, top1=new, data=before.data | {"val": pictures}), [line]
