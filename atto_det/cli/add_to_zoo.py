"""Make a file of the zoo of a trained classifier's backbone, with its card.

python tools/add_to_zoo.py --checkpoint last.ckpt --name distilled --check TinyImageNet50 \\
    --terms "Tiny ImageNet is for non-commercial research" --limits "64 pixels; …"
"""

import argparse
from pathlib import Path

from atto_det.cli import verb_parser
from atto_det.errors import UserError, command_line


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("add-to-zoo", __doc__)
    add = result.add_argument
    add("--checkpoint", type=Path, required=True, help=".ckpt of tools/pretrain.py")
    add("--name", required=True, help='what create_backbone calls the weights: "distilled"')
    add("--check", required=True, metavar="FOLDER", help="train/ and val/, to measure features on")
    add("--terms", required=True, help="of the data and the teacher, which the weights carry")
    add("--limits", required=True, help="what the weights are not for")
    add("--output", type=Path, metavar="FOLDER", help="default: the package's own zoo")
    return result


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Write file and card, and say what was measured."""
    args = parser().parse_args(arguments)
    from rich.progress import track

    from atto_det.data import data_root
    from atto_det.pretraining.nearest_mean import nearest_mean_top1
    from atto_det.weights import backbone_file, zoo
    from atto_det.weights.checkpoint import load_checkpoint
    from atto_det.weights.create import create_backbone

    if not args.name.isidentifier():
        raise UserError(f"--name {args.name} must be a word, such as distilled")
    state, description = backbone_file.read_pretraining(args.checkpoint)
    part = load_checkpoint(args.checkpoint)[backbone_file.TRAINING_PART]
    path = (args.output or zoo.ZOO) / f"{description.network}-{args.name}.safetensors"
    backbone_file.write_backbone(path, state, description, bits=16)
    backbone = create_backbone(description.network, weights=path)
    root = data_root() / args.check
    top1 = nearest_mean_top1(
        backbone, description, root, progress=lambda batches: track(batches, root.name)
    )
    zoo.write_card(
        path,
        {
            "network": description.network,
            "weights": args.name,
            "parameters": sum(value.numel() for value in backbone.parameters()),
            "data": description.data,
            "terms": args.terms,
            "recipe": description.recipe,
            "command": description.command,
            "epochs": description.epoch,
            "versions": description.versions,
            "figures": {
                "checkpoint": part.get("figures", {}),
                "nearest_class_mean": {"data": root.name, "top1": round(top1, 2)},
            },
            "limits": args.limits,
        },
    )
    print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB, and its card")
    print(f"  weights  {description}")
    print(f"  nearest class mean, {root.name}: top-1 {top1:.2f} %")
    return 0
