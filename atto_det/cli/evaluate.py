"""AP_d and AP_m of a trained detector on its test sets.

atto-det evaluate --checkpoint output/model_best.pth
atto-det evaluate --checkpoint output/model_best.pth DATASETS.TEST "('carparts_val',)"

The checkpoint carries its config; KEY VALUE pairs change keys of it.
"""

import argparse

from atto_det.cli import train, verb_parser
from atto_det.errors import command_line


def parser() -> argparse.ArgumentParser:
    """The flags; the remaining arguments are config keys."""
    result = verb_parser("evaluate", __doc__)
    result.add_argument("--checkpoint", required=True, help="a file, or a URL Detectron2 knows")
    result.add_argument("--config-file", help="instead of the checkpoint's own config")
    train.add_shared(result)
    return result


@command_line
def main(arguments: list[str] | None = None) -> int | None:
    """Evaluate in this process, or in several."""
    args = parser().parse_intermixed_args(arguments)

    from atto_det.config import refuse_other_weights

    refuse_other_weights(args.options, args.checkpoint)
    args.options = ["MODEL.WEIGHTS", args.checkpoint, *args.options]
    args.eval_only, args.resume = True, False
    return train.start(args)
