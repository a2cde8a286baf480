"""Losses, learning rate and AP of a training, also while it runs.

atto-det plot-training output/atto_maskrcnn_voc

Writes curve.png into the run's folder and prints how far the training has come.
"""

import argparse
from pathlib import Path

from atto_det.cli import verb_parser
from atto_det.errors import UserError, command_line


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("plot-training", __doc__)
    result.add_argument("run", type=Path, help="OUTPUT_DIR of a training")
    result.add_argument("--output", type=Path, help="picture to write instead of RUN/curve.png")
    return result


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Read the metrics so far, and plot them."""
    args = parser().parse_args(arguments)
    if not args.run.is_dir():
        raise UserError(f"{args.run} is not a folder: give the OUTPUT_DIR of a training")

    from atto_det.reports import curves

    metrics, output = args.run / "metrics.json", args.output or args.run / "curve.png"
    rows = curves.read_metrics(metrics)
    curves.plot_training(metrics, output)
    print(curves.progress(rows))
    print(f"wrote {output}")
    return 0
