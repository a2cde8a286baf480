"""Explore designs: from requirements to networks, and to a generator of them.

atto-det explore --config explore/tiny_imagenet50.yaml --output output/explore --hours 3
atto-det explore --config explore/tiny_imagenet50.yaml --output output/explore    goes on

Any number of workers may run the same command on one --output, or, on several machines, on one
--storage: a database's URL, or grpc://HOST:PORT of Optuna's proxy. The output folder then holds

journal.log           the study, which optuna-dashboard reads
supernet.pth          the weights that all networks share
generator_<k>.yaml    the generators G_0, G_1, …
found.yaml            the network with the highest U that satisfies the requirements
exploration.json      every network, its figures, and how they came about
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from atto_det.cli import verb_parser
from atto_det.errors import UserError, atomic_path, command_line

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from atto_det.design.generator import Generator
    from atto_det.exploration.pictures import Pictures
    from atto_det.exploration.settings import Settings
    from atto_det.exploration.supernet import Supernet


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("explore", __doc__)
    result.add_argument("--config", required=True, metavar="YAML")
    result.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    result.add_argument("--storage", help="of the study; default: OUTPUT/journal.log")
    result.add_argument("--sampler", choices=("generator", "random", "tpe", "nsga2"))
    result.add_argument("--hours", type=float, help="stop after so many; run again to go on")
    result.add_argument("--seed", type=int, default=1)
    return result


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Train the supernet, search, and write what was found."""
    args = parser().parse_args(arguments)
    if args.hours is not None and args.hours <= 0:
        raise UserError(f"--hours is {args.hours}: give a number above 0")
    begin = time.monotonic()

    import torch

    from atto_det.data import data_root
    from atto_det.design.generator import Generator
    from atto_det.exploration.pictures import read_pictures
    from atto_det.exploration.search import make_sampler, open_study
    from atto_det.exploration.settings import read_settings
    from atto_det.exploration.supernet import Supernet
    from atto_det.nets import get_spec

    def is_over() -> bool:
        return args.hours is not None and time.monotonic() - begin > 3600 * args.hours

    settings = read_settings(args.config)
    train, judges = read_pictures(
        data_root() / settings.data.root,
        settings.data.size,
        judged=settings.data.judged,
        seed=args.seed,
    )
    first = Generator.around(
        settings.space,
        get_spec(settings.prototype, "prototype"),
        settings.requirements,
        classes=len(train.classes),
        size=settings.data.size,
    )
    first.point(0)  # requirements that nothing can meet are refused before anything trains
    name = args.sampler or settings.search.sampler
    sampler = make_sampler(name, first, population=settings.search.population, seed=args.seed)
    study = open_study(
        args.storage or str(args.output / "journal.log"),
        f"{name}-{args.seed}",
        sampler,
        settings.definition() | {"seed": args.seed},
    )
    torch.manual_seed(args.seed)
    supernet = Supernet(settings.space, len(train.classes))
    if not _train(supernet, train, settings, args.output, args.seed, is_over):
        print("time is up: run the same command to go on")
        return 0
    count = settings.search.rounds * settings.search.population
    _search(study, first, supernet, train, judges, count, args.output, is_over)
    _write(args.output, study, first, settings, name, args.seed)
    return 0


def _train(
    supernet: "Supernet",
    train: "Pictures",
    settings: "Settings",
    output: Path,
    seed: int,
    is_over: Callable[[], bool],
) -> bool:
    """Train the shared weights, or read those of a finished training."""
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from atto_det.exploration.supernet import train_supernet

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("supernet", total=settings.supernet.steps)

        def report(step: int, loss: float, seconds: float) -> None:
            progress.update(task, completed=step, description=f"supernet, loss {loss:.3f}")

        return train_supernet(
            supernet,
            train,
            steps=settings.supernet.steps,
            batch=settings.supernet.batch,
            learning_rate=settings.supernet.learning_rate,
            seed=seed,
            checkpoint=output / "supernet.pth",
            report=report,
            is_over=is_over,
        )


def _search(
    study: "Study",
    first: "Generator",
    supernet: "Supernet",
    train: "Pictures",
    judges: "Pictures",
    count: int,
    output: Path,
    is_over: Callable[[], bool],
) -> None:
    """Judge networks until there are `count` of them, or the time is up."""
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from atto_det.exploration.search import finished, work
    from atto_det.exploration.supernet import score_part

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("search", total=count, completed=len(finished(study)))

        def report(study: "Study", trial: object) -> None:
            best = best_trial(study)
            text = f"search, best U {best.value:.2f}" if best else "search, none satisfies yet"
            progress.update(task, completed=len(finished(study)), description=text)

        work(
            study,
            first,
            lambda point: score_part(supernet, point, train, judges),
            trials=count,
            locks=output / "locks",
            is_over=is_over,
            report=report,
        )


def best_trial(study: "Study") -> "FrozenTrial | None":
    """The finished trial with the highest U among those that satisfy the requirements."""
    from atto_det.exploration.sampler import satisfies
    from atto_det.exploration.search import finished

    found = [t for t in finished(study) if t.value is not None and satisfies(t)]
    return max(found, key=lambda trial: (trial.value, -trial.number), default=None)


def _write(
    output: Path,
    study: "Study",
    first: "Generator",
    settings: "Settings",
    sampler: str,
    seed: int,
) -> None:
    """The generators, the best network, every figure; and a table of the best."""
    import yaml

    from atto_det.exploration.sampler import GeneratorSampler, satisfies
    from atto_det.exploration.search import finished
    from atto_det.nets.spec_file import spec_to_dict
    from atto_det.reports.grid import Grid, print_grids
    from atto_det.weights.checkpoint import run_record

    trials = finished(study)
    if isinstance(study.sampler, GeneratorSampler):
        rounds = len(trials) // settings.search.population
        for number in range(rounds + 1):
            study.sampler.generator(study, number).save(output / f"generator_{number}.yaml")
    judged = [trial for trial in trials if trial.value is not None]
    best = best_trial(study)
    rows = []
    for trial in sorted(judged, key=lambda t: (not satisfies(t), -(t.value or 0)))[:10]:
        figures = trial.user_attrs
        rows.append(
            (
                str(trial.number),
                f"{trial.value:.2f}",
                f"{figures['top1']:.1f}",
                f"{figures['parameters'] / 1e6:.3f}",
                f"{figures['macs'] / 1e6:.1f}",
                "yes" if satisfies(trial) else "no",
            )
        )
    header = ("network", "U", "top-1\n(%)", "param.\n(M)", "MACs\n(M)", "satisfies")
    title = f"The best of {len(judged)} judged, {len(trials) - len(judged)} refused untrained"
    print_grids([Grid(title, header, tuple(rows))])
    content = {
        "run": run_record(seed=seed, processes=1, device="cpu"),
        "sampler": sampler,
        "settings": settings.definition() | {"prototype": settings.prototype},
        "top1": "with the supernet's weights, on the part of the training split that judges",
        "networks": [
            {
                "number": trial.number,
                "u": trial.value,
                "constraints": trial.constraints,
                **trial.user_attrs,
                "point": trial.params,
            }
            for trial in trials
        ],
    }
    with atomic_path(output / "exploration.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    if best is None:
        print("no network satisfies the requirements yet: loosen them, or search longer")
        return
    spec = spec_to_dict(first.space.spec(best.params))
    with atomic_path(output / "found.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(spec, sort_keys=False, default_flow_style=None))
    print(f"wrote network {best.number} to {output / 'found.yaml'}")
