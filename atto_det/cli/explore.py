"""Explore designs: from requirements to networks, and to a generator of them.

atto-det explore --config explore/tiny_imagenet50.yaml --output output/explore --hours 3
atto-det explore --config explore/tiny_imagenet50.yaml --output output/explore    continues
atto-det explore --config explore/tiny_imagenet50.yaml --output output/explore --sampler tpe
    another sampler (or --seed), with the same budget and trainings, for comparison in the report
atto-det explore --config explore/carparts_detector.yaml --output output/explore_detector
    a search for a detector instead: values of config keys, each detector trained

Any number of workers may run the same command with one --output, which all of them can access, and,
on several machines, one --storage: a database's URL, or grpc://HOST:PORT of Optuna's proxy. The
output folder then contains

journal.log                  the studies, which optuna-dashboard reads
supernet/, alone/            trainings: of the shared weights, and of single networks
<sampler>-<seed>/            for each search
    exploration.html, .png   the report
    exploration.json         every network, its figures, and where they came from
    found.yaml               the network with the highest U that meets the requirements
    generator_<k>.yaml       the generators G_0, G_1, …

and, if a detector is searched for, detectors/ with the trainings, and <sampler>-<seed>/ with
detectors.html, .png, .json, and found.yaml, an experiment file.
"""

import argparse
import logging
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from atto_det.cli import verb_parser
from atto_det.errors import UserError, command_line


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("explore", __doc__)
    result.add_argument("--config", required=True, metavar="YAML")
    result.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    result.add_argument("--storage", help="of the study; default: OUTPUT/journal.log")
    result.add_argument("--sampler", choices=("generator", "random", "tpe", "nsga2"))
    result.add_argument("--hours", type=float, help="stop after this time; run again to continue")
    result.add_argument("--seed", type=int, default=1, help="of the search")
    return result


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Go through the stages, and write the results."""
    args = parser().parse_args(arguments)
    if args.hours is not None and args.hours <= 0:
        raise UserError(f"--hours is {args.hours}: give a number above 0")
    begin = time.monotonic()

    from rich.logging import RichHandler
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from atto_det.config import load_yaml
    from atto_det.exploration.settings import check_seed

    check_seed(args.seed, "--seed")
    is_detector = "detector" in load_yaml(args.config)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        handler = RichHandler(console=progress.console, show_path=False, show_level=False)
        logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
        logging.getLogger("atto_det").setLevel(logging.INFO)
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        tasks = {}

        def say(stage: str, done: int, total: int, words: str) -> None:
            """Update a bar for each stage; without a terminal, log a line for each step."""
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, description=f"{stage}, {words}")
            if not progress.console.is_terminal:
                logging.getLogger(__name__).info("%s %d of %d, %s", stage, done, total, words)

        def seconds_left() -> float | None:
            return args.hours and begin + 3600 * args.hours - time.monotonic()

        explore = _explore_detectors if is_detector else _explore_networks
        write = explore(args, say, seconds_left)
    if write is None:
        print("time is up: run the same command to continue")
        return 0
    for path in write():
        print(f"wrote {path}")
    return 0


def _explore_networks(
    args: argparse.Namespace,
    say: Callable[[str, int, int, str], None],
    seconds_left: Callable[[], float | None],
) -> Callable[[], list[Path]] | None:
    """Explore; returns what writes the outcome, or None if the time ran out first."""
    from atto_det.exploration.outcome import write_outcome
    from atto_det.exploration.settings import read_settings
    from atto_det.exploration.stages import Exploration

    warnings.filterwarnings("ignore", module="lightning")
    settings = read_settings(args.config)
    exploration = Exploration(
        settings,
        output=args.output,
        storage=args.storage or str(args.output / "journal.log"),
        sampler=args.sampler or settings.search.sampler,
        seed=args.seed,
        is_over=lambda: (left := seconds_left()) is not None and left < 0,
        say=say,
    )
    return partial(write_outcome, exploration) if exploration.run() else None


def _explore_detectors(
    args: argparse.Namespace,
    say: Callable[[str, int, int, str], None],
    seconds_left: Callable[[], float | None],
) -> Callable[[], list[Path]] | None:
    """As `_explore_networks`, for a detector."""
    from atto_det.exploration.detector_outcome import write_outcome
    from atto_det.exploration.detector_settings import read_detector_settings
    from atto_det.exploration.detectors import DetectorExploration

    exploration = DetectorExploration(
        read_detector_settings(args.config),
        output=args.output,
        storage=args.storage or str(args.output / "journal.log"),
        sampler=args.sampler,
        seed=args.seed,
        seconds_left=seconds_left,
        say=say,
    )
    return partial(write_outcome, exploration) if exploration.run() else None
