"""Create a zoo file, with its card, from a trained backbone or detector.

atto-det add-to-zoo --checkpoint last.ckpt --name distilled --check TinyImageNet50 \\
    --terms "Tiny ImageNet is for non-commercial research" --limits "64 pixels; …"
    the classifier's backbone, with the top-1 of its features' nearest class means
atto-det add-to-zoo --checkpoint model_final.pth --name carparts_tiny --check carparts_val \\
    --terms "cite Pasupa et al. 2021" --limits "…"
    the detector, with its AP on a data set
atto-det zoo --page docs/model_zoo.md     then puts it on the page
"""

import argparse
import dataclasses
import re
import tempfile
from pathlib import Path
from typing import Any

from atto_det.cli import verb_parser
from atto_det.errors import UserError, command_line


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("add-to-zoo", __doc__)
    add = result.add_argument
    add("--checkpoint", type=Path, required=True, help=".ckpt of a classifier, .pth of a detector")
    add("--name", required=True, help='for create_backbone(weights=NAME) or Predictor("zoo:NAME")')
    add("--check", required=True, metavar="DATA", help="folder with train/ and val/, or a data set")
    add("--terms", required=True, help="of the data and the teacher, which apply to the weights")
    add("--limits", required=True, help="what the weights are not suitable for")
    add("--output", type=Path, metavar="FOLDER", help="default: the package's own zoo")
    return result


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Write file and card, and print what was measured."""
    args = parser().parse_args(arguments)
    from atto_det.weights import zoo
    from atto_det.weights.backbone_file import TRAINING_PART
    from atto_det.weights.checkpoint import load_checkpoint

    if not args.name.isidentifier():
        raise UserError(f"--name {args.name} must be a word, such as distilled")
    content = load_checkpoint(args.checkpoint)
    add, folder = _backbone if TRAINING_PART in content else _detector, args.output or zoo.ZOO
    folder.mkdir(parents=True, exist_ok=True)
    # A file that cannot be measured leaves nothing behind, and replaces nothing.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as temporary:
        path, values, lines = add(args, Path(temporary), content)
        zoo.write_card(path, values | {"terms": args.terms, "limits": args.limits})
        for file in (path.with_suffix(".json"), path):
            file.replace(folder / file.name)
    path = folder / path.name
    print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB, and its card")
    print("\n".join(f"  {line}" for line in lines))
    return 0


def _backbone(
    args: argparse.Namespace, folder: Path, content: dict[str, Any]
) -> tuple[Path, dict[str, Any], list[str]]:
    """Write the backbone of a classifier; returns path, card, and lines to print."""
    from rich.progress import track

    from atto_det.data import data_root
    from atto_det.nets.registry import short_name
    from atto_det.pretraining.nearest_mean import nearest_mean_top1
    from atto_det.weights import backbone_file
    from atto_det.weights.create import create_backbone

    state, description = backbone_file.read_pretraining(args.checkpoint, content)
    texts = {key: without_folders(getattr(description, key)) for key in ("command", "recipe")}
    description = dataclasses.replace(description, **texts)
    path = folder / f"{short_name(description.network)}-{args.name}.safetensors"
    backbone_file.write_backbone(path, state, description, bits=16)
    backbone = create_backbone(description.network, weights=path)
    root = data_root() / args.check
    top1 = nearest_mean_top1(
        backbone, description, root, progress=lambda batches: track(batches, root.name)
    )
    part = content[backbone_file.TRAINING_PART]
    card = {
        "kind": "backbone",
        "network": short_name(description.network),
        "weights": args.name,
        "parameters": sum(value.numel() for value in backbone.parameters()),
        "data": description.data,
        "recipe": description.recipe,
        "command": description.command,
        "start": part.get("start"),  # of checkpoints before it was recorded: random weights
        "epochs": description.epoch,
        "versions": description.versions,
        "figures": {
            "checkpoint": part.get("figures", {}),
            "nearest_class_mean": {"data": root.name, "top1": round(top1, 2)},
        },
    }
    said = f"nearest class mean, {root.name}: top-1 {top1:.2f} %"
    return path, card, [f"weights  {description}", said]


def _detector(
    args: argparse.Namespace, folder: Path, content: dict[str, Any]
) -> tuple[Path, dict[str, Any], list[str]]:
    """Write a detector and evaluate the file; returns path, card, and lines to print."""
    from atto_det import engine
    from atto_det.bounded_yaml import parse_yaml
    from atto_det.config import backbones
    from atto_det.weights.checkpoint import read_description
    from atto_det.weights.detector_file import parameter_count, trained_on, write_detector

    part = read_description(content, args.checkpoint)
    part |= {key: without_folders(part[key]) for key in ("command", "config")}
    config = parse_yaml(part["config"], str(args.checkpoint))
    path = folder / f"{args.name}.safetensors"
    write_detector(path, content)
    chosen = engine.choose()
    with tempfile.TemporaryDirectory() as output:
        options = ["MODEL.WEIGHTS", str(path), "OUTPUT_DIR", output]
        options += ["DATASETS.TEST", repr((args.check,))]
        cfg = chosen.run.read_config(None, options, evaluates=True)
        result = chosen.run.evaluate(cfg)[args.check]
    card = {
        "kind": "detector",
        "network": backbones.network(config),
        "weights": args.name,
        "class_names": part["class_names"],
        "parameters": parameter_count(content["model"]),
        "data": {"train": trained_on(part["config"])},
        "recipe": part["config"],
        "command": part["command"],
        "seed": config["SEED"],
        "steps": config["SOLVER"]["MAX_ITER"],
        "versions": part["versions"],
        "figures": {
            "AP": {
                "data": args.check,
                "engine": chosen.ENGINE,
                **{key: result[key] for key in ("AP_d", "AP_m", "coco", "protocol")},
            }
        },
    }
    return path, card, [f"classes  {', '.join(part['class_names'])}"]


def without_folders(text: str) -> str:
    """A command or a config in which absolute paths are replaced by file names.

    The folders of the machine that trained mean nothing on another one.
    """
    return re.sub(r"""(?<![\w.:/~-])/(?:[^\s/'",]+/)*([^\s/'",]+)""", r"\1", text)
