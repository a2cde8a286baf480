"""The AttoNet paper's Table 2: published, recomputed, reached.

Published figures beside recomputed ones, and beside the results of trained networks.

atto-det table2
atto-det table2 --checkpoint output/attonet_a/best.ckpt output/mobilenet/best.ckpt \\
    --output FOLDER
atto-det table2 --top1 attonet_a=31.4 mobilenetv2_100=30.2     data not stated

Of checkpoints of one network that differ in their seeds the mean and the deviation stand there.
"""

import argparse
import sys
from pathlib import Path

from atto_det.cli import output_folder, verb_parser
from atto_det.errors import command_line


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("table2", __doc__)
    several = {"nargs": "+", "action": "extend", "default": []}
    top1 = "NETWORK=PERCENT"
    result.add_argument("--top1", **several, metavar=top1, help="measured elsewhere")
    checkpoints = "of pretraining: network, top-1 and data are read from it"
    result.add_argument("--checkpoint", **several, type=Path, metavar="FILE", help=checkpoints)
    result.add_argument(
        "--output", type=output_folder, metavar="FOLDER", help="write MD, JSON and PNG"
    )
    return result


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Count, print, and write files if requested."""
    args = parser().parse_args(arguments)

    from atto_det.pretraining.measured import parse_top1, read_measured
    from atto_det.pretraining.networks import create_network
    from atto_det.reports import attendnets_table, table2, table2_report
    from atto_det.weights import checkpoint

    measured = [parse_top1(text) for text in args.top1]
    measured += [read_measured(path) for path in args.checkpoint]
    rows = table2.compare(create_network, measured)
    attendnets = attendnets_table.compare(create_network)
    table2_report.print_table2(rows, attendnets)
    if args.output:
        context = {"command": sys.argv, "versions": checkpoint.versions()}
        for path in table2_report.write_table2(args.output, rows, context, attendnets):
            print(f"wrote {path}")
    return 0
