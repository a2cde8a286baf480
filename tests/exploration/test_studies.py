"""The search on Optuna: rounds, storages, workers that die."""

import functools
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pytest
from optuna.storages import GrpcStorageProxy
from optuna.trial import TrialState

from atto_det.design import Generator, Requirements
from atto_det.design.requirements import netscore
from atto_det.errors import UserError
from atto_det.exploration.sampler import GeneratorSampler, satisfies
from atto_det.exploration.studies import (
    TimeIsOver,
    ask_for,
    finished,
    locked,
    make_sampler,
    open_study,
    ranked,
    score,
    train,
    work,
)


def condensers(point) -> float:
    """A toy top-1: more condensers, better."""
    return 20.0 + 10 * sum(value == "condenser" for value in point.values())


def judge(study, generator, estimate):
    return functools.partial(
        score, study, generator=generator, estimate=estimate, performance=netscore
    )


def search(study, generator, estimate, trials, folder) -> None:
    done = work(study, judge(study, generator, estimate), trials=trials, locks=folder / "locks")
    assert done


def study_in(folder, generator, name="generator", **changes):
    sampler = make_sampler(name, generator, population=10, seed=1)
    definition = {"space": generator.space.to_dict()} | changes
    return open_study(str(folder / "journal.log"), "toy", sampler, definition)


@pytest.mark.parametrize("name", ["generator", "random", "tpe", "nsga2"])
def test_every_sampler_explores(name, generator, tmp_path):
    study = study_in(tmp_path, generator, name)
    search(study, generator, condensers, 15, tmp_path)
    assert len(study.trials) == 15
    best = study.best_trial
    assert best.user_attrs["top1"] == condensers(best.params)
    search(study, generator, condensers, 15, tmp_path)
    assert len(study.trials) == 15  # there is nothing left to do


@pytest.mark.parametrize("name", ["random", "tpe", "nsga2", "generator"])
def test_a_search_that_continues_draws_other_points(name, generator, tmp_path):
    def draw(folder: str, parts: list[int]) -> list:
        for trials in parts:  # each as another process, with a sampler of its own
            sampler = make_sampler(name, generator, population=4, seed=3)
            study = open_study(str(tmp_path / folder), "toy", sampler, {})
            search(study, generator, condensers, trials, tmp_path / f"{folder} locks")
        return [trial.params for trial in study.trials]

    whole = draw("whole", [12])
    assert draw("parts", [3, 6, 12]) == whole
    assert len({str(point) for point in whole}) > 7


def test_generators_rise(generator, tmp_path):
    study = study_in(tmp_path, generator)
    search(study, generator, condensers, 50, tmp_path)
    sampler = study.sampler
    assert isinstance(sampler, GeneratorSampler)
    last = sampler.generator(study, 4)
    assert last.number == 4
    means = [
        sum(condensers(g.point(seed)) for seed in range(30)) / 30
        for g in (sampler.generator(study, 0), last)
    ]
    assert means[1] > means[0] + 5
    # Another seed draws other networks from the same G_0.
    other = make_sampler("generator", generator, population=10, seed=2)
    trials = [trial for trial in study.trials if trial.number < 10]
    drawn = [other.sample_relative(study, trial, {}) for trial in trials]
    assert all(point != trial.params for point, trial in zip(drawn, trials, strict=True))
    # Another process derives the same generator from the storage.
    again = study_in(tmp_path, generator)
    same = again.sampler.generator(again, 4)
    assert [same(seed) for seed in range(5)] == [last(seed) for seed in range(5)]


def test_what_misses_a_requirement(space, tmp_path, generator):
    costs = sorted(generator.cost(generator.point(seed)).macs for seed in range(20))
    wanted = Requirements(macs=costs[5], top1=40)
    strict = Generator(space, generator.probabilities, wanted, 5, 64)
    study = study_in(tmp_path, strict, "random")
    search(study, strict, condensers, 40, tmp_path)
    pruned = [t for t in study.trials if t.state == TrialState.PRUNED]
    assert pruned
    assert all(t.constraints["macs"] > 0 and "top1" not in t.user_attrs for t in pruned)
    for trial in study.get_trials(states=(TrialState.COMPLETE,)):
        assert satisfies(trial) == (trial.user_attrs["top1"] >= 40)


def slow(point) -> float:
    time.sleep(0.02)
    return condensers(point)


def never(point) -> float:
    """A worker that will be killed at its work."""
    time.sleep(3600)
    return 0.0


def in_state(study, state) -> list:
    return study.get_trials(states=(state,))


def wait_until(is_so, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def run_worker(folder, generator, estimate, trials):
    search(study_in(folder, generator), generator, estimate, trials, folder)


def test_two_workers_one_killed(generator, tmp_path):
    context = multiprocessing.get_context("fork")
    doomed = context.Process(target=run_worker, args=(tmp_path, generator, never, 16))
    doomed.start()
    study = study_in(tmp_path, generator)
    wait_until(lambda: any(t.params for t in in_state(study, TrialState.RUNNING)), 60)
    begun = in_state(study, TrialState.RUNNING)[0]
    other = context.Process(target=run_worker, args=(tmp_path, generator, slow, 16))
    other.start()
    wait_until(lambda: len(in_state(study, TrialState.COMPLETE)) >= 5, 60)
    os.kill(doomed.pid, signal.SIGKILL)
    doomed.join()
    other.join(120)
    assert other.exitcode == 0
    trials = study.get_trials()
    states = [trial.state for trial in trials]
    assert states == [TrialState.COMPLETE] * 16
    assert begun.params.items() <= trials[begun.number].params.items()


def test_a_training_that_is_interrupted_keeps_its_place(generator, tmp_path):
    points = [generator.point(seed) for seed in range(4)]
    sampler = make_sampler("random", generator, population=5, seed=1)
    study = open_study(str(tmp_path / "journal.log"), "short", sampler, {})
    top1 = {str(point): value for point, value in zip(points, (60, 20, 0, 80), strict=True)}
    begun: list[str] = []

    def training(point) -> float:
        begun.append(str(point))
        if len(begun) == 3:
            raise TimeIsOver
        return top1[str(point)]

    judge = functools.partial(
        train, study, generator=generator, training=training, performance=netscore
    )
    for _ in range(2):
        ask_for(study, points, tmp_path / "locks")
    assert not work(study, judge, trials=4, locks=tmp_path / "locks")
    assert len(finished(study)) == 2
    assert work(study, judge, trials=4, locks=tmp_path / "locks")
    assert len(begun) == 5  # one of them twice
    assert [(t.params, t.state) for t in study.trials] == [
        (point, TrialState.COMPLETE) for point in points
    ]
    assert [t.user_attrs["top1"] for t in ranked(study)] == [80, 60, 20, 0]


def test_a_lock_is_waited_for_until_the_time_is_over(tmp_path):
    with (
        locked(tmp_path / "lock"),
        pytest.raises(TimeIsOver),
        locked(tmp_path / "lock", lambda: True),
    ):
        pass
    with locked(tmp_path / "lock", lambda: True):
        pass


@pytest.fixture
def postgresql():
    """The URL of a server of its own, which does not run as root."""
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed")
    if not shutil.which("initdb") or not shutil.which("pg_ctl"):
        pytest.skip("PostgreSQL's initdb and pg_ctl are not in the path")
    other = {}
    with tempfile.TemporaryDirectory(prefix="pg") as folder:  # a short path, for the socket's sake
        if os.geteuid() == 0:
            try:
                shutil.chown(folder, "postgres", "postgres")
            except LookupError:
                pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres")
            other = {"user": "postgres", "group": "postgres", "extra_groups": []}

        def run(*command: str) -> None:
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            subprocess.run(command, check=True, cwd=folder, timeout=120, **quiet, **other)

        run("initdb", "-D", "data", "-A", "trust", "-U", "postgres")
        options = f"-k {folder} -c listen_addresses=''"
        run("pg_ctl", "-D", "data", "-w", "-t", "100", "-l", "log", "-o", options, "start")
        yield f"postgresql+psycopg2://postgres@/postgres?host={folder}"
        run("pg_ctl", "-D", "data", "-m", "immediate", "stop")


@pytest.mark.slow
def test_two_workers_on_postgresql(generator, tmp_path, postgresql):
    # All are forked before this process has a connection, which they would share.
    context = multiprocessing.get_context("fork")
    begin = context.Event()
    arguments = (postgresql, generator, tmp_path)
    doomed = context.Process(target=work_on, args=(*arguments, never))
    workers = [context.Process(target=work_on, args=(*arguments, slow, begin)) for _ in range(2)]
    for worker in (doomed, *workers):
        worker.start()
    study = on(postgresql, generator)
    wait_until(lambda: any(t.params for t in in_state(study, TrialState.RUNNING)), 600)
    begin.set()
    wait_until(lambda: len(in_state(study, TrialState.COMPLETE)) >= 3, 600)
    os.kill(doomed.pid, signal.SIGKILL)
    doomed.join()
    for worker in workers:
        worker.join(600)
        assert worker.exitcode == 0
    states = [trial.state for trial in study.get_trials()]
    assert states == [TrialState.COMPLETE] * 12


def test_a_worker_behind_a_grpc_proxy(generator, tmp_path):
    """The proxy gives a worker, which is interrupted once, what the journal holds."""
    pytest.importorskip("grpc", reason="grpcio is not installed")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    program = (
        "import sys; from optuna.storages import JournalStorage, run_grpc_proxy_server; "
        "from optuna.storages.journal import JournalFileBackend; "
        "storage = JournalStorage(JournalFileBackend(sys.argv[1])); "
        "run_grpc_proxy_server(storage, port=int(sys.argv[2]))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "journal.log"), str(port)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        GrpcStorageProxy(port=port).wait_server_ready(timeout=60)
        study = on(f"grpc://localhost:{port}", generator)
        estimates = iter([30.0, 31.0])

        def interrupted(point) -> float:
            if (found := next(estimates, None)) is None:
                raise TimeIsOver
            return found

        assert not work(study, judge(study, generator, interrupted), trials=12, locks=tmp_path)
        search(study, generator, condensers, 12, tmp_path)
    finally:
        server.terminate()
        server.wait()
    trials = on(str(tmp_path / "journal.log"), generator).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 12
    assert [trial.user_attrs["top1"] for trial in trials[:2]] == [30.0, 31.0]


def on(url, generator):
    return open_study(url, "toy", make_sampler("generator", generator, population=6, seed=1), {})


def work_on(url, generator, folder, estimate, begin=None) -> None:
    if begin:
        assert begin.wait(600)
    search(on(url, generator), generator, estimate, 12, folder)


def test_mistakes_are_sentences(generator, tmp_path):
    with pytest.raises(UserError, match="there is no sampler 'magic'"):
        make_sampler("magic", generator, population=5, seed=1)
    study_in(tmp_path, generator)
    with pytest.raises(UserError, match=r"study 'toy' in .* explores another space"):
        study_in(tmp_path, generator, data="other")
    sampler = make_sampler("random", generator, population=5, seed=1)
    with pytest.raises(UserError, match="needs a port"):
        open_study("grpc://somewhere", "toy", sampler, {})
    (tmp_path / "broken.log").write_text("no journal\n")
    with pytest.raises(UserError, match="cannot be opened"):
        open_study(str(tmp_path / "broken.log"), "toy", sampler, {})
