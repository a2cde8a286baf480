"""Studies: networks are asked for, judged and told, by any number of workers on one storage.

Optuna is the engine. A trial's parameters are a point of the space, its value is U, its constraints
are the requirements' excess (above 0: missed). User attributes: `parameters`, `macs`, `top1`, and
of trainings `epochs`.
"""

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from atto_det.design.generator import Generator
from atto_det.design.requirements import performance
from atto_det.design.space import Point
from atto_det.errors import UserError
from atto_det.exploration.sampler import GeneratorSampler
from atto_det.nets.cost import ClassifierCost

logger = logging.getLogger(__name__)

Estimate = Callable[[Point], float]
"""The estimated top-1, in percent, of the network at a point."""

Measured = Callable[[Point], float | None]
"""Milliseconds of the network at a point; None where nothing is required of them."""

After = Callable[[int, float], bool]
"""Whether to break off a training after so many epochs with this top-1."""

Training = Callable[[Point, After], tuple[float, int]]
"""Train the network at a point alone; its top-1 in percent, and the epochs done."""

DONE = (TrialState.COMPLETE, TrialState.PRUNED)
MEANWHILE = ("IntegrityError", "ProgrammingError")  # SQLAlchemy's: what is made exists by now
PAUSE = 0.2  # seconds, between looks at whether other workers are done

DEFINITION = "atto_det_generator"  # the study's attribute that says what it explores


def make_sampler(name: str, first: Generator, *, population: int, seed: int) -> BaseSampler:
    """The sampler of that name.

    Raises:
        UserError: no such name.
    """
    if name == "generator":
        return GeneratorSampler(first, population=population)
    if name == "random":
        return RandomSampler(seed=seed)
    if name == "tpe":
        return TPESampler(seed=seed, n_startup_trials=population)
    if name == "nsga2":
        return NSGAIISampler(seed=seed, population_size=population)
    raise UserError(f"there is no sampler {name!r}: choose generator, random, tpe or nsga2")


def open_study(
    storage: str,
    name: str,
    sampler: BaseSampler,
    definition: dict[str, Any],
    pruner: BasePruner | None = None,
    attempts: int = 10,
) -> Study:
    """The study of that name, made where there is none yet.

    Args:
        storage: path of a journal file, or the URL of a database or of Optuna's gRPC proxy.
        definition: plain values that say what is explored: the space, requirements and data.
        pruner: breaks off trainings.
        attempts: more of them, where another worker made the tables of an empty database meanwhile.

    Raises:
        UserError: the storage cannot be opened, or its study explores something else.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    while True:
        try:
            study = optuna.create_study(
                study_name=name,
                storage=_storage(storage),
                sampler=sampler,
                pruner=pruner or optuna.pruners.NopPruner(),
                direction="maximize",
                load_if_exists=True,
            )
            break
        except UserError:
            raise
        except Exception as error:  # whatever the database's client raises
            if type(error).__name__ in MEANWHILE and attempts:
                attempts -= 1
                time.sleep(PAUSE)
                continue
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"storage {storage} cannot be opened: {reason}") from error
    known = study.user_attrs.get(DEFINITION)
    if known is None:
        study.set_user_attr(DEFINITION, definition)
    elif known != definition:
        raise UserError(
            f"study {name!r} in {storage} explores another space, other requirements or other "
            "data: name another storage"
        )
    return study


def _storage(storage: str) -> BaseStorage | str:
    if storage.startswith("grpc://"):
        host, _, port = storage.removeprefix("grpc://").partition(":")
        if not port.isdigit():
            raise UserError(f"storage {storage} needs a port: grpc://host:13000")
        return optuna.storages.GrpcStorageProxy(host=host, port=int(port))
    if "://" in storage:
        return storage
    Path(storage).parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(storage))


class TimeIsOver(Exception):
    """Of a judge that breaks off: its network is taken up again by the next worker."""


def work(
    study: Study,
    judge: Callable[[Trial], None],
    *,
    trials: int,
    locks: Path,
    is_over: Callable[[], bool] = lambda: False,
    report: Callable[[Study], None] = lambda study: None,
) -> bool:
    """Judge networks until the study has `trials` finished ones; one of any number of workers.

    A trial of a worker that died is taken up again: each worker holds a lock on its trial, which
    the system releases with the process. On several machines `locks` must be on a disk that all
    see, or trials of dead workers stay unfinished.

    Args:
        judge: finishes a trial, or raises `TimeIsOver`.
        locks: folder of the locks of this study.
        is_over: asked before each trial: whether to stop early.
        report: called after each.

    Returns:
        Whether all are finished, by whichever worker.
    """
    while not is_over():
        trial = None
        with locked(locks / "starting"):
            _take_up_again(study, locks)
            # Read once: a trial that ends between two looks would count as neither.
            states = [one.state for one in study.get_trials(deepcopy=False)]
            done = sum(states.count(state) for state in DONE)
            if done >= trials:
                return True
            if done + states.count(TrialState.RUNNING) < trials:
                trial = study.ask()
                held = _lock(locks / f"trial_{trial.number}")
        if trial is None:  # the last ones are other workers'
            time.sleep(PAUSE)
            continue
        try:
            judge(trial)
        except TimeIsOver:
            _again(study, trial.number)
            return False
        finally:
            os.close(held)
        report(study)
    return False


def finished(study: Study) -> list[FrozenTrial]:
    """The trials that were judged, and those that were refused or broken off as poor."""
    return study.get_trials(deepcopy=False, states=DONE)


def ask_for(study: Study, points: Sequence[Point], locks: Path) -> None:
    """Put those points into the study that are not there yet."""
    with locked(locks / "starting"):
        for point in points:
            study.enqueue_trial(point, skip_if_exists=True)


def score(
    study: Study,
    trial: Trial,
    generator: Generator,
    estimate: Estimate,
    milliseconds: Measured = lambda point: None,
) -> None:
    """Give a trial its point's estimated U, and finish it.

    A network that misses what is known before training is not scored: its trial is pruned.
    """
    point, cost = _suggested(trial, generator)
    excess, time_taken = generator.requirements.excess(cost), None
    if all(value <= 0 for value in excess.values()):  # milliseconds take seconds to measure
        time_taken = milliseconds(point)
        excess = generator.requirements.excess(cost, milliseconds=time_taken)
    if any(value > 0 for value in excess.values()):
        _constrain(trial, excess)
        study.tell(trial, state=TrialState.PRUNED)
        return
    top1 = estimate(point)
    trial.set_user_attr("top1", top1)
    excess = generator.requirements.excess(cost, top1=top1, milliseconds=time_taken)
    _constrain(trial, excess)
    study.tell(trial, finite(performance(top1, cost)))


def train(
    study: Study,
    trial: Trial,
    generator: Generator,
    training: Training,
    *,
    scale: float = 1.0,
    milliseconds: Measured = lambda point: None,
) -> None:
    """Give a trial its point's U after a training, unless the study's pruner breaks it off.

    Args:
        scale: what top-1 is multiplied by to estimate that of a longer training, which the
            requirement is about.

    Raises:
        TimeIsOver: as the training does.
    """
    point, cost = _suggested(trial, generator)
    poor = False

    def after(epoch: int, top1: float) -> bool:
        nonlocal poor
        trial.report(finite(performance(top1, cost)), epoch)
        poor = trial.should_prune()
        return poor

    top1, epochs = training(point, after)
    trial.set_user_attr("top1", top1)
    trial.set_user_attr("epochs", epochs)
    if poor:
        study.tell(trial, state=TrialState.PRUNED)
        return
    wanted = generator.requirements
    _constrain(trial, wanted.excess(cost, top1=top1 * scale, milliseconds=milliseconds(point)))
    study.tell(trial, finite(performance(top1, cost)))


def _suggested(trial: Trial, generator: Generator) -> tuple[Point, ClassifierCost]:
    dimensions = generator.space.dimensions
    point = {name: trial.suggest_categorical(name, list(c)) for name, c in dimensions.items()}
    cost = generator.cost(point)
    trial.set_user_attr("parameters", cost.parameters)
    trial.set_user_attr("macs", cost.macs)
    return point, cost


def _constrain(trial: Trial, excess: Mapping[str, float]) -> None:
    for name, value in excess.items():
        trial.set_constraint(name, value)


def finite(value: float) -> float:
    """A database holds no infinity."""
    return max(value, -1e9)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time."""
    held = _lock(path)
    try:
        yield
    finally:
        os.close(held)


def _lock(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_CREAT | os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def _take_up_again(study: Study, locks: Path) -> None:
    """Fail the running trials whose worker is gone, and put their points first in the queue."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        path = locks / f"trial_{trial.number}"
        if not path.exists():
            continue  # of another machine, or older than the locks
        handle = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        finally:
            os.close(handle)
        logger.warning("trial %d was not finished by its worker: taken up again", trial.number)
        _again(study, trial.number)


def _again(study: Study, number: int) -> None:
    """Fail a trial, and ask for its point once more."""
    params = study.get_trials(deepcopy=False)[number].params
    study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
    if params:
        study.enqueue_trial(params)
