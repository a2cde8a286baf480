"""Find the AttendNets' widths again from their published sizes.

atto-det reconstruct-attendnets --seed 1
atto-det reconstruct-attendnets --seed 1 --train TinyImageNet50 \\
    --output results/reconstruct_attendnets.json     compare the finalists by a short training
"""

import argparse
import dataclasses
import json
import logging
import sys
import tempfile
import time
from typing import Any

from atto_det.cli import output_file, verb_parser
from atto_det.errors import UserError, command_line, write_file

# From configs/pretrain/tiny_imagenet50.yaml, for a few epochs of small pictures.
RECIPE = {
    "model.learning_rate": 0.2,
    "model.weight_decay": 5.0e-4,
    "model.warmup_epochs": 0.5,
    "model.ema_decay": 0,
    "data.batch_size": 64,
    "data.workers": 0,
    "data.scale": [0.25, 1.0],
    "data.color_jitter": 0.2,
    "trainer.precision": "32-true",
    "trainer.accelerator": "cpu",
    "trainer.enable_progress_bar": False,
}


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("reconstruct-attendnets", __doc__)
    add = result.add_argument
    add("--seed", type=int, default=1, help="of the drawing and the training (default: 1)")
    add("--candidates", type=int, default=400_000, help="for each pattern (default: 400,000)")
    add("--train", metavar="FOLDER", help="train each finalist on these pictures by class")
    add("--epochs", type=int, default=1, help="of that training (default: 1)")
    add("--image-size", type=int, default=32, help="in that training (default: 32)")
    add("--output", type=output_file, metavar="FILE", help="write JSON")
    return result


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Search, train if requested, print, and write a file if requested."""
    args = parser().parse_args(arguments)
    if min(args.candidates, args.epochs, args.image_size) < 1:
        raise UserError("--candidates, --epochs and --image-size must be at least 1")

    from atto_det.nets import ATTENDNETS, register_backbone
    from atto_det.nets.reconstruction import PATTERNS, TARGETS, search
    from atto_det.weights.checkpoint import versions

    networks: dict[str, list[dict[str, Any]]] = {}
    for network, target in TARGETS.items():
        rows = networks[network] = []
        for pattern in PATTERNS:
            start = time.perf_counter()
            found = search(target, pattern, seed=args.seed, candidates=args.candidates)
            seconds = time.perf_counter() - start
            print(
                f"{network} {pattern}: {len(found)} of {args.candidates:,} candidates have the "
                f"published sizes ({1e6 * seconds / args.candidates:.1f} µs each)"
            )
            if found:
                row = dataclasses.asdict(found[0]) | {"of_the_right_size": len(found)}
                row["shipped"] = ATTENDNETS.get(network) == found[0].spec
                rows.append(row)
                register_backbone(_name(network, row), found[0].spec)
    recipe = RECIPE | {"epochs": args.epochs, "image_size": args.image_size}
    content = {
        "command": sys.argv,
        "seed": args.seed,
        "versions": versions(),
        "data": args.train,
        "recipe": recipe if args.train else None,
        "networks": networks,
    }
    if not any(networks.values()):
        raise UserError("no candidate has the published sizes: raise --candidates")
    for network, rows in networks.items():
        for row in rows:
            if args.train:
                row["training"] = _train(_name(network, row), args)
            print(_line(network, row), flush=True)
            if args.output:  # after each finalist, since a training may take minutes
                write_file(args.output, json.dumps(content, indent=1) + "\n")
    if args.output:
        print(f"wrote {args.output}")
    return 0


def _name(network: str, row: dict[str, Any]) -> str:
    return f"{network} {row['pattern']}".replace(" ", "_").lower()


def _line(network: str, row: dict[str, Any]) -> str:
    parts = [
        f"{network} {row['pattern']}: {row['parameters'] / 1e3:.1f} K parameters, "
        f"{row['macs'] / 1e6:.1f} M multiply-adds ({100 * row['error']:.2f} % off)"
    ]
    if "training" in row:
        parts.append("top-1 {top1:.1f} %, loss {loss:.3f}".format(**row["training"]))
    return ", ".join([*parts, *(["the one in atto_det"] if row["shipped"] else [])])


def _train(name: str, args: argparse.Namespace) -> dict[str, float]:
    """Top-1 (percent) and loss on the validation pictures, and the seconds it took."""
    from atto_det.pretraining.cli import run

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        settings = RECIPE | {
            "seed_everything": args.seed,
            "model.network": name,
            "data.root": args.train,
            "data.image_size": args.image_size,
            "trainer.max_epochs": args.epochs,
            "trainer.default_root_dir": folder,
        }
        metrics = run(
            ["fit", *(f"--{k}={v}" for k, v in settings.items())]
        ).trainer.callback_metrics
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return {
        "top1": float(metrics["val_top1"]),
        "loss": float(metrics["val_loss"]),
        "seconds": round(time.perf_counter() - start, 1),
    }
