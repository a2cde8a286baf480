"""Trained detectors side by side: accuracy, cost, latency.

An ablation, and the Pareto plot, too.

atto-det compare --json results/comparison_carparts.json --output docs/pareto.png

makes tables and plot from only the JSON. The following commands create the JSON from training
outputs, and update its latencies:

atto-det compare --json FILE --runs output/r50_fpn output/lite output/lite_seed2 \\
    --ablation output/lite output/plain_fpn output/plain_rpn
atto-det compare --json FILE --unlike --runs output/lite output/lite_longer output/r50_fpn
    trainings of any schedule, by their folders' names: AP, AP by size, AR, cost; how they differ
atto-det benchmark --config-file r50_fpn.yaml lite.yaml … --proposals 1000 \\
    --detections 100 --output FOLDER
atto-det compare --json FILE --latency FOLDER/latency.json
"""

import argparse
from functools import partial
from pathlib import Path

from atto_det.cli import verb_parser
from atto_det.errors import UserError, command_line


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("compare", __doc__)
    folders = {"nargs": "+", "type": Path, "default": [], "metavar": "FOLDER"}
    result.add_argument("--json", type=Path, required=True, metavar="FILE", help="the comparison")
    result.add_argument("--runs", **folders, help="outputs of atto-det train, the baseline first")
    result.add_argument("--ablation", **folders, help="outputs: the base, then its variants")
    unlike = "schedules may differ; the table's remarks say how"
    result.add_argument("--unlike", action="store_true", help=unlike)
    result.add_argument("--input", default="800x1088", metavar="HxW", help="of costs; 800x1088")
    result.add_argument("--proposals", type=int, default=1000, help="of costs; 1000")
    result.add_argument("--detections", type=int, default=100, help="of costs; 100")
    result.add_argument("--latency", type=Path, metavar="FILE", help="JSON of atto-det benchmark")
    result.add_argument("--output", type=Path, metavar="PNG", help="the plot; tables as MD beside")
    return result


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Read, count costs of new runs, print, and write files if requested."""
    args = parser().parse_args(arguments)
    if args.ablation and not args.runs:
        raise UserError("--ablation belongs to a comparison that is newly made: give --runs, too")
    if args.unlike and (args.ablation or not args.runs):
        raise UserError("--unlike is for --runs, without --ablation")
    if min(args.proposals, args.detections) < 1:
        raise UserError("--proposals and --detections must be at least 1")

    from atto_det.reports import comparison
    from atto_det.reports.comparison_report import print_comparison, write_comparison

    content = comparison.load(args.json) if args.json.exists() or not args.runs else None
    if args.runs:
        from atto_det.detectron2 import analysis

        height, width = analysis.parse_size(args.input)
        one_pass = analysis.Pass(height, width, args.proposals, args.detections)
        work = {"input": f"{height}x{width}", "proposals": args.proposals}
        work["detections"] = args.detections
        folders = {folder.resolve(): folder for folder in args.runs + args.ablation}
        cost_of = partial(analysis.cost_of_config, one_pass=one_pass)
        read = {
            path: comparison.read_run(folder, cost_of, by_folder=args.unlike)
            for path, folder in folders.items()
        }
        ablation = dict.fromkeys(read[folder.resolve()]["name"] for folder in args.ablation)
        before = content["latency"] if content else None
        content = comparison.build(list(read.values()), list(ablation), work, unlike=args.unlike)
        content["latency"] = before
    if args.latency:
        comparison.add_latency(content, args.latency)
    if args.runs or args.latency:
        comparison.save(args.json, content)
        print(f"wrote {args.json}")
    print_comparison(content)
    if args.output:
        for path in write_comparison(content, args.output):
            print(f"wrote {path}")
    return 0
