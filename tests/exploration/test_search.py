"""The search on Optuna: rounds, storages, workers that die."""

import multiprocessing
import os
import signal
import time

import pytest
from optuna.trial import TrialState

from atto_det.design import Generator, Requirements
from atto_det.errors import UserError
from atto_det.exploration.sampler import GeneratorSampler, satisfies
from atto_det.exploration.search import make_sampler, open_study, work


def condensers(point) -> float:
    """A toy top-1: more condensers, better."""
    return 20.0 + 10 * sum(value == "condenser" for value in point.values())


def study_in(folder, generator, name="generator", **changes):
    sampler = make_sampler(name, generator, population=10, seed=1)
    definition = {"space": generator.space.to_dict()} | changes
    return open_study(str(folder / "journal.log"), "toy", sampler, definition)


@pytest.mark.parametrize("name", ["generator", "random", "tpe", "nsga2"])
def test_every_sampler_explores(name, generator, tmp_path):
    study = study_in(tmp_path, generator, name)
    work(study, generator, condensers, trials=15, locks=tmp_path / "locks")
    assert len(study.trials) == 15
    best = study.best_trial
    assert best.user_attrs["top1"] == condensers(best.params)
    work(study, generator, condensers, trials=15, locks=tmp_path / "locks")
    assert len(study.trials) == 15  # there is nothing left to do


def test_generators_rise(generator, tmp_path):
    study = study_in(tmp_path, generator)
    work(study, generator, condensers, trials=50, locks=tmp_path / "locks")
    sampler = study.sampler
    assert isinstance(sampler, GeneratorSampler)
    last = sampler.generator(study, 4)
    assert last.number == 4
    means = [
        sum(condensers(g.point(seed)) for seed in range(30)) / 30
        for g in (sampler.generator(study, 0), last)
    ]
    assert means[1] > means[0] + 5
    # Another process derives the same generator from the storage.
    again = study_in(tmp_path, generator)
    same = again.sampler.generator(again, 4)
    assert [same(seed) for seed in range(5)] == [last(seed) for seed in range(5)]


def test_what_misses_a_requirement(space, tmp_path, generator):
    costs = sorted(generator.cost(generator.point(seed)).macs for seed in range(20))
    wanted = Requirements(macs=costs[5], top1=40)
    strict = Generator(space, generator.probabilities, wanted, 5, 64)
    study = study_in(tmp_path, strict, "random")
    work(study, strict, condensers, trials=40, locks=tmp_path / "locks")
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
    time.sleep(60)
    return 0.0


def run_worker(folder, generator, score, trials):
    study = study_in(folder, generator)
    work(study, generator, score, trials=trials, locks=folder / "locks")


def test_two_workers_one_killed(generator, tmp_path):
    context = multiprocessing.get_context("fork")
    doomed = context.Process(target=run_worker, args=(tmp_path, generator, never, 16))
    doomed.start()
    study = study_in(tmp_path, generator)
    deadline = time.monotonic() + 60
    while not any(t.params for t in study.get_trials(states=(TrialState.RUNNING,))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    begun = study.get_trials(states=(TrialState.RUNNING,))[0]
    other = context.Process(target=run_worker, args=(tmp_path, generator, slow, 16))
    other.start()
    while len(study.get_trials(states=(TrialState.COMPLETE,))) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(doomed.pid, signal.SIGKILL)
    doomed.join()
    other.join(120)
    assert other.exitcode == 0
    run_worker(tmp_path, generator, slow, 16)  # in case the other had begun its last one
    trials = study.get_trials()
    states = [trial.state for trial in trials]
    assert states.count(TrialState.COMPLETE) == 16
    assert states.count(TrialState.FAIL) == 1
    assert trials[begun.number].state == TrialState.FAIL
    point = trials[begun.number].params
    repeated = [t for t in trials if t.params == point and t.state == TrialState.COMPLETE]
    assert repeated
    assert len({t.number for t in trials}) == len(trials)


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
