"""The search: networks are asked for, judged and told, by any number of workers on one storage.

Optuna is the engine. A trial's parameters are a point of the space, its value is U, its constraints
are the requirements' excess (above 0: missed). User attributes: `parameters`, `macs`, `top1`.
"""

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import optuna
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

logger = logging.getLogger(__name__)

Score = Callable[[Point], float]
"""The estimated top-1, in percent, of the network at a point."""

SamplerName = Literal["generator", "random", "tpe", "nsga2"]
DEFINITION = "atto_det_generator"  # the study's attribute that says what it explores


def make_sampler(name: SamplerName, first: Generator, *, population: int, seed: int) -> BaseSampler:
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


def open_study(storage: str, name: str, sampler: BaseSampler, definition: dict[str, Any]) -> Study:
    """The study of that name, made where there is none yet.

    Args:
        storage: path of a journal file, or the URL of a database or of Optuna's gRPC proxy.
        definition: plain values that say what is explored: the space, requirements and data.

    Raises:
        UserError: the storage cannot be opened, or its study explores something else.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(
            study_name=name,
            storage=_storage(storage),
            sampler=sampler,
            direction="maximize",
            load_if_exists=True,
        )
    except UserError:
        raise
    except Exception as error:  # whatever the database's client raises
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


def work(
    study: Study,
    generator: Generator,
    score: Score,
    *,
    trials: int,
    locks: Path,
    is_over: Callable[[], bool] = lambda: False,
    report: Callable[[Study, Trial], None] = lambda study, trial: None,
) -> None:
    """Judge networks until the study has `trials` finished ones; one of any number of workers.

    A trial of a worker that died is taken up again: each worker holds a lock on its trial, which
    the system releases with the process. On several machines `locks` must be on a disk that all
    see, or trials of dead workers stay unfinished.

    Args:
        generator: G_0, for space, requirements and costs.
        score: what judges a network that satisfies all that is known before.
        locks: folder of the locks.
        is_over: asked before each trial: whether to stop early.
        report: called after each.
    """
    locks.mkdir(parents=True, exist_ok=True)
    while not is_over():
        with _starting(locks):
            _take_up_again(study, locks)
            running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if len(finished(study)) + len(running) >= trials:
                return
            trial = study.ask()
            held = _lock(locks, trial.number)
        try:
            judge(study, trial, generator, score)
        finally:
            os.close(held)
        report(study, trial)


def finished(study: Study) -> list[FrozenTrial]:
    """The trials that were judged, and those that were refused before."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def judge(study: Study, trial: Trial, generator: Generator, score: Score) -> None:
    """Give a trial its point's U and constraints, and finish it.

    A network that misses what is known before training is not trained: its trial is pruned.
    """
    dimensions = generator.space.dimensions
    point = {name: trial.suggest_categorical(name, list(c)) for name, c in dimensions.items()}
    cost = generator.cost(point)
    trial.set_user_attr("parameters", cost.parameters)
    trial.set_user_attr("macs", cost.macs)
    excess = generator.requirements.excess(cost)
    if any(value > 0 for value in excess.values()):
        for name, value in excess.items():
            trial.set_constraint(name, value)
        study.tell(trial, state=TrialState.PRUNED)
        return
    top1 = score(point)
    trial.set_user_attr("top1", top1)
    for name, value in generator.requirements.excess(cost, top1=top1).items():
        trial.set_constraint(name, value)
    study.tell(trial, max(performance(top1, cost), -1e9))  # a database holds no infinity


@contextmanager
def _starting(locks: Path) -> Iterator[None]:
    """One worker at a time begins a trial."""
    handle = os.open(locks / "starting", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _lock(locks: Path, number: int) -> int:
    handle = os.open(locks / f"trial_{number}", os.O_CREAT | os.O_RDWR)
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
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        if trial.params:
            study.enqueue_trial(trial.params)
