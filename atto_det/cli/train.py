"""Train and evaluate a detector from a config file.

It trains an Atto-MaskRCNN, or any Detectron2 model. Without Detectron2, an Atto-MaskRCNN runs on
torchvision and Lightning (--engine torchvision).

atto-det train --config-file atto_maskrcnn_voc.yaml
atto-det train --config-file atto_maskrcnn_voc.yaml --resume
atto-det train --eval-only MODEL.WEIGHTS output/model_best.pth
atto-det train MODEL.WEIGHTS zoo:NAME DATASETS.FOLDERS "[['mine', 'FOLDER']]" \\
    DATASETS.TRAIN "('mine_train',)" DATASETS.TEST "('mine_val',)" OUTPUT_DIR output/mine
        a detector of the zoo, or any checkpoint, learns other classes; prints which layers
        start from random weights
"""

import argparse

from atto_det.cli import verb_parser
from atto_det.errors import UserError, command_line


def parser() -> argparse.ArgumentParser:
    """The flags; the remaining arguments are config keys."""
    result = verb_parser("train", __doc__)
    result.add_argument("--config-file", help="YAML experiment; default: that in MODEL.WEIGHTS")
    result.add_argument("--resume", action="store_true", help="continue from the last checkpoint")
    result.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS")
    add_shared(result)
    return result


def add_shared(parser: argparse.ArgumentParser) -> None:
    """The flags that training and evaluation have in common."""
    add = parser.add_argument
    add("--engine", choices=("auto", "detectron2", "torchvision"), default="auto")
    add("--allow-pickle", action="store_true", help="read .pkl weights you trust")
    add("--num-gpus", type=int, default=1, help="processes on this machine")
    add("--num-machines", type=int, default=1)
    add("--machine-rank", type=int, default=0)
    add("--dist-url", default="auto", help="tcp://HOST:PORT of machine 0")
    add("options", nargs="*", metavar="KEY VALUE", help="config keys")


@command_line
def main(arguments: list[str] | None = None) -> int | None:
    """Train, or evaluate."""
    return start(parser().parse_intermixed_args(arguments))


def start(args: argparse.Namespace) -> int | None:
    """Run in this process, or in several."""
    if args.num_gpus < 1 or not 0 <= args.machine_rank < args.num_machines:
        raise UserError(
            "--num-gpus and --num-machines must be at least 1, and --machine-rank below the latter"
        )
    import torch

    from atto_det import engine
    from atto_det.training.runner import Job

    if torch.cuda.is_available() and args.num_gpus > torch.cuda.device_count():
        raise UserError(
            f"--num-gpus is {args.num_gpus}; there are {torch.cuda.device_count()} GPUs"
        )
    job = Job(
        config_file=args.config_file,
        options=args.options,
        resume=args.resume,
        eval_only=args.eval_only,
        allow_pickle=args.allow_pickle,
        processes=args.num_gpus,
        machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
    )
    return engine.choose(args.engine).run.launch(job)
