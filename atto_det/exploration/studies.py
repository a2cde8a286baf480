"""Studies: any number of workers on one storage ask for networks, judge them and report back.

The studies are Optuna's. A trial's parameters are a point of the space, its value is U, and its
constraints are how far it exceeds each requirement (above 0: missed). User attributes:
`parameters`, `macs`, `top1`, and `epochs` for trainings.
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
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from atto_det.design.generator import Generator
from atto_det.design.space import Point
from atto_det.errors import UserError
from atto_det.exploration.sampler import ByTrial, GeneratorSampler, satisfies
from atto_det.nets.cost import ClassifierCost

logger = logging.getLogger(__name__)

Estimate = Callable[[Point], float]
"""The estimated top-1, in percent, of the network at a point."""

Measured = Callable[[Point], float | None]
"""Milliseconds of the network at a point; None if the requirements do not limit them."""

Performance = Callable[[float, ClassifierCost], float]
"""U of a network with this top-1, in percent, and this cost."""

DONE = (TrialState.COMPLETE, TrialState.PRUNED)
MEANWHILE = ("IntegrityError", "ProgrammingError")  # SQLAlchemy's, where another worker was first
PAUSE = 0.05  # seconds between tries to get a lock
LONG_PAUSE = 0.5  # between looks at whether the other workers are done, which read all trials

DEFINITION = "atto_det_generator"  # the study's attribute that says what it explores


def make_sampler(
    name: str, first: Generator | None = None, *, population: int, seed: int
) -> BaseSampler:
    """The sampler of that name.

    Args:
        first: G_0, for the sampler "generator".

    Raises:
        UserError: no such name.
    """
    if name == "generator" and first is not None:
        return GeneratorSampler(first, population=population, seed=seed)
    made: dict[str, Callable[[int], BaseSampler]] = {
        "random": lambda own: RandomSampler(seed=own),
        "tpe": lambda own: TPESampler(seed=own, n_startup_trials=population),
        "nsga2": lambda own: NSGAIISampler(seed=own, population_size=population),
    }
    if name in made:
        return ByTrial(made[name], seed)
    raise UserError(f"there is no sampler {name!r}: choose generator, random, tpe or nsga2")


def open_study(
    storage: str,
    name: str,
    sampler: BaseSampler,
    definition: dict[str, Any],
    attempts: int = 10,
) -> Study:
    """The study of that name; it is created if there is none yet.

    Args:
        storage: path of a journal file, or the URL of a database or of Optuna's gRPC proxy.
        definition: plain values that say what is explored: the space, requirements and data.
        attempts: retries, for when another worker creates the tables of an empty database at the
            same moment.

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
                pruner=NopPruner(),
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
            f"study {name!r} in {storage} explores another space, other requirements, other "
            "data, another recipe or with another budget: name another storage"
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
    """Raised by a judge that stops early; the next worker takes its network up again."""


def work(
    study: Study,
    judge: Callable[[Trial], None],
    *,
    trials: int,
    locks: Path,
    is_over: Callable[[], bool] = lambda: False,
    report: Callable[[Study], None] = lambda study: None,
) -> bool:
    """Judge networks until the study has `trials` finished ones. Any number of workers may run.

    Each worker holds a lock on its trial, which the operating system releases when the process
    ends; the trial of a worker that died is thus noticed and judged again. With several machines,
    `locks` must be on a disk that all of them share, or trials of dead workers stay unfinished.

    Args:
        judge: finishes a trial, or raises `TimeIsOver`.
        locks: folder of the locks of this study.
        is_over: asked before each trial; true to stop early.
        report: called after each trial.

    Returns:
        Whether all trials are finished, by this worker or others.
    """
    while not is_over():
        trial = None
        with locked(locks / "starting"):
            _take_up_again(study, locks)
            # Read the states once: a trial that ends between two reads would be counted in neither.
            states = [one.state for one in study.get_trials(deepcopy=False)]
            done = sum(states.count(state) for state in DONE)
            if done >= trials:
                return True
            if done + states.count(TrialState.RUNNING) < trials:
                trial = study.ask()
                held = _lock(locks / f"trial_{trial.number}")
        if trial is None:  # other workers are on the last trials
            time.sleep(LONG_PAUSE)
            continue
        try:
            judge(trial)
        except TimeIsOver:
            _give_back(study, trial.number)
            return False
        finally:
            os.close(held)
        report(study)
    return False


def finished(study: Study) -> list[FrozenTrial]:
    """The trials that were judged, and those that were rejected."""
    return study.get_trials(deepcopy=False, states=DONE)


def ranked(study: Study) -> list[FrozenTrial]:
    """Completed trials: those that meet the requirements first, then by U."""

    def order(trial: FrozenTrial) -> tuple[bool, float, int]:
        return not satisfies(trial), -(trial.value or 0), trial.number

    return sorted(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)), key=order)


def ask_for(study: Study, points: Sequence[Point], locks: Path) -> None:
    """Queue the points that are not in the study yet."""
    with locked(locks / "starting"):
        for point in points:
            study.enqueue_trial(point, skip_if_exists=True)


def score(
    study: Study,
    trial: Trial,
    generator: Generator,
    estimate: Estimate,
    *,
    milliseconds: Measured = lambda point: None,
    performance: Performance,
) -> None:
    """Compute the estimated U of a trial's point, and finish the trial.

    A network that misses a requirement that is known before training is not scored: its trial is
    marked as pruned.
    """
    point, cost = _suggested(trial, generator)
    excess, time_taken = generator.requirements.excess(cost), None
    if all(value <= 0 for value in excess.values()):  # milliseconds take seconds to measure
        time_taken = milliseconds(point)
        excess = generator.requirements.excess(cost, milliseconds=time_taken)
    if any(value > 0 for value in excess.values()):
        constrain(trial, excess)
        study.tell(trial, state=TrialState.PRUNED)
        return
    top1 = estimate(point)
    trial.set_user_attr("top1", top1)
    excess = generator.requirements.excess(cost, top1=top1, milliseconds=time_taken)
    constrain(trial, excess)
    study.tell(trial, finite(performance(top1, cost)))


def train(
    study: Study,
    trial: Trial,
    generator: Generator,
    training: Estimate,
    *,
    final: Callable[[float], float] = float,
    milliseconds: Measured = lambda point: None,
    performance: Performance,
) -> None:
    """Train the network of a trial and finish the trial with its U.

    Args:
        training: returns the top-1 of the network at a point after training it.
        final: from this training's top-1 to that of the final training, estimated, which is what
            the requirement applies to.

    Raises:
        TimeIsOver: the training raised it.
    """
    point, cost = _suggested(trial, generator)
    top1 = training(point)
    trial.set_user_attr("top1", top1)
    wanted = generator.requirements
    constrain(trial, wanted.excess(cost, top1=final(top1), milliseconds=milliseconds(point)))
    study.tell(trial, finite(performance(top1, cost)))


def _suggested(trial: Trial, generator: Generator) -> tuple[Point, ClassifierCost]:
    dimensions = generator.space.dimensions
    point = {name: trial.suggest_categorical(name, list(c)) for name, c in dimensions.items()}
    cost = generator.cost(point)
    trial.set_user_attr("parameters", cost.parameters)
    trial.set_user_attr("macs", cost.macs)
    return point, cost


def constrain(trial: Trial, excess: Mapping[str, float]) -> None:
    """Store by how much a trial misses each requirement."""
    for name, value in excess.items():
        trial.set_constraint(name, value)


def finite(value: float) -> float:
    """`value`, or a very low number for minus infinity, which databases cannot store."""
    return max(value, -1e9)


@contextmanager
def locked(path: Path, is_over: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Hold a lock file, so that one process at a time runs what is inside.

    Raises:
        TimeIsOver: `is_over` returned true while another process held the lock.
    """
    held = _lock(path, is_over)
    try:
        yield
    finally:
        os.close(held)


def _lock(path: Path, is_over: Callable[[], bool] = lambda: False) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_CREAT | os.O_RDWR)
    while not _try_lock(handle):
        if is_over():
            os.close(handle)
            raise TimeIsOver
        time.sleep(PAUSE)
    return handle


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take_up_again(study: Study, locks: Path) -> None:
    """Give back the running trials whose worker has died."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        path = locks / f"trial_{trial.number}"
        if not path.exists():
            continue  # it runs on a machine that shares no disk, or was started without locks
        handle = os.open(path, os.O_RDWR)
        left = _try_lock(handle)
        os.close(handle)
        if left:
            logger.warning("trial %d was left by its worker: starting it again", trial.number)
            _give_back(study, trial.number)


def _give_back(study: Study, number: int) -> None:
    """Let the next worker judge a trial: the same number, and the same point if it has one.

    Optuna has no public call for this. To fail the trial and queue its point again would change the
    numbers of the trials, which random draws and rounds follow from.
    """
    trial = study.get_trials(deepcopy=False)[number]
    study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
