"""Top-1 of classifiers on pictures that were modified to mislead them.

By FGSM in one step, and by PGD in several from a random start, of at most EPSILON/255 per pixel and
colour. Only networks trained and attacked on the same pictures can be compared.

atto-det robustness --checkpoint output/attonet_b/last.ckpt output/attendnet_a/last.ckpt \\
    --data FOLDER --epsilon 2 4 --output robustness.json
"""

import argparse
import json
import sys
from pathlib import Path

from atto_det.cli import output_file, verb_parser
from atto_det.errors import command_line, write_file


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("robustness", __doc__)
    add = result.add_argument
    add("--checkpoint", nargs="+", type=Path, required=True, metavar="FILE", help="of pretraining")
    add("--data", required=True, metavar="FOLDER", help="pictures by class, whose val is attacked")
    add("--epsilon", nargs="+", type=float, default=[2.0, 4.0], help="default: 2 4")
    add("--steps", type=int, default=10, metavar="N", help="of PGD (default: 10)")
    add("--pictures", type=int, metavar="N", help="of val (default: all)")
    add("--seed", type=int, default=1, help="of the choice of pictures and of random starts")
    add("--output", type=output_file, metavar="FILE", help="write JSON")
    return result


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Attack, print, and write a file if requested."""
    args = parser().parse_args(arguments)

    from rich.progress import track

    from atto_det.nets.registry import short_name
    from atto_det.pretraining.networks import create_network
    from atto_det.pretraining.robustness import CLEAN, Attack, top1_under_attack
    from atto_det.reports.grid import Grid, print_grids
    from atto_det.weights.backbone_file import read_pretraining
    from atto_det.weights.checkpoint import versions

    attacks = [Attack(size, steps) for steps in (1, args.steps) for size in args.epsilon]
    weights = {path: read_pretraining(path) for path in args.checkpoint}  # fails before the work
    results = []
    for path, (state, description) in weights.items():
        shown = short_name(description.network)
        network = create_network(description.network, len(description.class_names)).eval()
        network.load_state_dict(state)
        top1 = top1_under_attack(
            network,
            description,
            args.data,
            attacks,
            pictures=args.pictures,
            seed=args.seed,
            progress=lambda batches, name=shown: track(
                batches, name, disable=not sys.stdout.isatty()
            ),
        )
        results.append(
            {"checkpoint": str(path), "network": description.network, "top1_percent": top1}
        )
    names = (CLEAN, *map(str, attacks))
    rows = tuple(
        (short_name(found["network"]), *(f"{found['top1_percent'][name]:.1f}" for name in names))
        for found in results
    )
    print_grids([Grid(f"top-1 in percent on {args.data}", ("network", *names), rows)])
    if args.output:
        content = {
            "command": " ".join(sys.argv),
            "data": args.data,
            "pictures": args.pictures,
            "seed": args.seed,
            "versions": versions(),
            "results": results,
        }
        write_file(args.output, json.dumps(content, indent=1) + "\n")
        print(f"wrote {args.output}")
    return 0
