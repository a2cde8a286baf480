"""What is due after a step: order, best model, deadline; with a training of no engine."""

import errno
import os

import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from atto_det.errors import UserError
from atto_det.training import policy, run_folder
from atto_det.training.policy import Clock, Run
from atto_det.weights import checkpoint


class Training:
    """One number is the model: the iteration that it was trained for."""

    engine, class_names, pictures, start_iter = "torchvision", ["wheel"], None, 0

    def __init__(self, output, results=(), **options) -> None:
        self.max_iter = options.get("MAX_ITER", 6)
        self.cfg = CfgNode(
            {
                "OUTPUT_DIR": str(output),
                "DATASETS": {
                    "TRAIN": ["train"],
                    "TEST": ["one", "two"] if results else [],
                    "HOLD_OUT": options.get("HOLD_OUT", 0),
                },
                "TEST": {
                    "EVAL_PERIOD": options.get("EVAL_PERIOD", 2),
                    "PATIENCE": options.get("PATIENCE", 0),
                },
                "SOLVER": {
                    "CHECKPOINT_PERIOD": options.get("CHECKPOINT_PERIOD", 0),
                    "EMA": {"DECAY": options.get("DECAY", 0.0)},
                },
            }
        )
        self.network = nn.Linear(1, 1, bias=False)
        self.results = iter(results)
        self.calls = []
        self.policy = Run(self)

    def fit(self) -> None:
        self.policy.start()
        self.done = self.start_iter
        while self.done < self.max_iter:
            self.policy.before_step(self.done)
            self.done += 1
            self.policy.after_step(self.done - 1)

    def evaluate(self, name):
        self.calls.append((self.done, name))
        return next(self.results)

    def write_metrics(self, found):
        self.calls.append((self.done, found))

    def weights(self):
        return {"done": torch.tensor(self.done)}

    def state(self):
        return {"optimizer": {}}


class Stop(Exception):
    """Something fails."""


def ap(boxes, masks) -> dict:
    return {"AP_d": boxes, "AP_m": masks}


@pytest.fixture
def unreported(monkeypatch):
    monkeypatch.setattr(policy, "report", lambda result, path: None)


def best(folder) -> int | None:
    path = folder / "model_best.pth"
    return int(checkpoint.load_checkpoint(path)["model"]["done"]) if path.exists() else None


OTHER = ap(99.0, 99.0)  # of the second test set, by which nothing is chosen
FOREIGN = [{"bbox": {"AP": 9.0}, "segm": {"AP": k}} for k in (1.0, 3.0, 2.0)]


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([ap(9.0, 10.0), ap(1.0, 30.0), ap(80.0, 20.0)], 4),
        ([ap(1.0, None), ap(7.0, None), ap(5.0, None)], 4),  # boxes alone
        ([ap(None, None), ap(0.0, 0.0), ap(0.0, 0.0)], 4),
        ([ap(None, None)] * 3, None),
        (FOREIGN, 4),
        ([{"bbox": {"AP_d": k}} for k in (1.0, 2.0, 3.0)], 6),
    ],
)
def test_the_best_of_the_first_test_set_is_kept(tmp_path, unreported, results, expected):
    training = Training(tmp_path, [item for result in results for item in (result, OTHER)])
    training.fit()
    assert best(tmp_path) == expected
    assert training.policy.results == {"one": results[-1], "two": OTHER}


def test_what_is_due_comes_between_two_checkpoints(tmp_path, unreported, monkeypatch):
    training = Training(tmp_path, [ap(1.0, 2.0), OTHER] * 2, MAX_ITER=4, CHECKPOINT_PERIOD=1)
    write = run_folder.write_checkpoint
    monkeypatch.setattr(
        run_folder,
        "write_checkpoint",
        lambda path, *args, **state: (
            training.calls.append((training.done, path.stem)) or write(path, *args, **state)
        ),
    )
    training.fit()
    found = {"one/AP_d": 1.0, "one/AP_m": 2.0, "two/AP_d": 99.0, "two/AP_m": 99.0}
    assert training.calls == [
        (1, "model_0000000"),
        (2, "model_0000001"),
        *((2, "one"), (2, "two"), (2, found), (2, "model_best"), (2, "model_0000001")),
        (3, "model_0000002"),
        (4, "model_final"),
        *((4, "one"), (4, "two"), (4, found), (4, "model_0000003"), (4, "model_final")),
    ]
    assert sorted(path.stem for path in tmp_path.glob("model_0*")) == [
        "model_0000002",
        "model_0000003",
    ]
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


@pytest.mark.parametrize("fails", ["one", "two"])
@pytest.mark.parametrize(
    ("step", "options"),
    [(4, {}), (6, {}), (6, {"HOLD_OUT": 40}), (4, {"PATIENCE": 1})],
    ids=["in the middle", "at the end", "of the reported sets", "that stops the run"],
)
def test_what_a_failed_evaluation_left_undone_a_resumed_run_makes_up_for(
    tmp_path, unreported, step, options, fails
):
    def train(folder, broken=0, resume=False):
        training = Training(tmp_path / folder, [None], CHECKPOINT_PERIOD=5, **options)

        def evaluate(name):
            if training.done == broken and name == fails:
                raise Stop
            training.calls.append((training.done, name))
            return ap(1.0, 10.0 if training.done < 6 else 20.0)

        training.evaluate = evaluate
        if resume:
            _, content = run_folder.read_last(training.policy.output, "torchvision", ["wheel"])
            training.policy.load_state_dict(content["run"])
            training.done = training.start_iter = content["iteration"] + 1
            assert content["model"]["done"] == training.done  # the weights of that step
        if not training.policy.is_over:
            training.fit()
        return training

    whole = train("whole")
    reached = any(call == (step, fails) for call in whole.calls)
    if not reached:
        pytest.skip("this set is not evaluated then")
    with pytest.raises(Stop):
        train("parts", broken=step)
    parts = train("parts", resume=True)
    assert parts.calls == [call for call in whole.calls if call[0] >= step]  # each of them once
    for name in ("model_final", "model_best"):
        one, other = (
            checkpoint.load_checkpoint(tmp_path / folder / f"{name}.pth")
            for folder in ("whole", "parts")
        )
        for content in (one, other):
            del content["atto_det"]
        assert one == other
    assert train("parts", resume=True).calls == []


def test_metrics_are_written_every_20_steps_and_at_the_end(tmp_path):
    training = Training(tmp_path, MAX_ITER=45, EVAL_PERIOD=0)
    training.fit()
    assert training.calls == [(20, {}), (40, {}), (45, {})]


def test_the_best_is_known_after_a_resume(tmp_path, unreported):
    Training(tmp_path, [ap(1.0, 30.0), OTHER], MAX_ITER=2).fit()
    _, content = run_folder.read_last(tmp_path, "torchvision", ["wheel"])
    resumed = Training(tmp_path, [ap(1.0, 29.0), OTHER], MAX_ITER=4)
    resumed.policy.load_state_dict(content["run"])
    resumed.start_iter = 2
    resumed.fit()
    assert best(tmp_path) == 2


@pytest.mark.parametrize(
    ("engine", "state"),
    [
        ("torchvision", {"best": 41.5}),
        ("detectron2", {"trainer": {"hooks": {"EvaluationHook": {"best": 41.5}, "Other": {}}}}),
    ],
)
def test_the_best_of_an_older_checkpoint_is_known(tmp_path, engine, state):
    path = run_folder.write_checkpoint(
        tmp_path / "model_0000001.pth", {}, "", ["wheel"], engine=engine, iteration=1, **state
    )
    assert path.name == (tmp_path / "last_checkpoint").read_text()
    _, content = run_folder.read_last(tmp_path, engine, ["wheel"])
    assert content["run"] == {"best": 41.5}
    assert content.get("trainer", {"hooks": {"Other": {}}}) == {"hooks": {"Other": {}}}


def test_it_stops_when_no_evaluation_in_a_row_is_better(tmp_path, unreported):
    masks = [10.0, 30.0, 20.0, 31.0, 31.0, 30.0, 99.0]
    results = [item for value in masks for item in (ap(1.0, value), OTHER)]
    options = {"MAX_ITER": 100, "PATIENCE": 2, "CHECKPOINT_PERIOD": 3}
    training = Training(tmp_path, results, **options)
    training.fit()
    assert training.done == 12  # the fourth evaluation was the best, two did not better it
    assert best(tmp_path) == 8
    assert training.policy.results["one"] == ap(1.0, 30.0)
    final, content = run_folder.read_last(tmp_path, "torchvision", ["wheel"])
    assert (final.name, content["iteration"]) == ("model_final.pth", 11)
    for patience, is_over in ((2, True), (3, False)):
        resumed = Training(tmp_path, results, **options | {"PATIENCE": patience})
        resumed.policy.load_state_dict(content["run"])
        resumed.start_iter = content["iteration"] + 1
        assert resumed.policy.is_over == is_over
    _, content = run_folder.read_last(tmp_path, "torchvision", ["wheel"])
    content["run"]["waited"] = 1  # as it was before the last evaluation
    resumed = Training(tmp_path, [ap(1.0, 31.0), OTHER], **options)
    resumed.policy.load_state_dict(content["run"])
    resumed.start_iter = 10
    resumed.fit()
    assert resumed.done == 12


def test_pictures_held_out_are_chosen_by_and_the_test_sets_are_evaluated_at_the_end(
    tmp_path, unreported
):
    held_out = [ap(1.0, value) for value in (10.0, 30.0, 20.0, 25.0)]
    training = Training(
        tmp_path, [*held_out, ap(1.0, 99.0), OTHER], MAX_ITER=100, PATIENCE=2, HOLD_OUT=40
    )
    training.fit()
    assert [call for call in training.calls if isinstance(call[1], str)] == [
        *((done, "train_held_out") for done in (2, 4, 6, 8)),
        (8, "one"),
        (8, "two"),
    ]
    assert best(tmp_path) == 4
    assert training.policy.best == 30.0
    assert list(training.policy.results) == ["train_held_out", "one", "two"]
    written = {done: found for done, found in training.calls if isinstance(found, dict)}
    assert written[6] == {"train_held_out/AP_d": 1.0, "train_held_out/AP_m": 20.0}
    assert written[8]["one/AP_m"] == 99.0


@pytest.mark.parametrize("options", [{"EVAL_PERIOD": 0}, {"results": []}])
def test_patience_without_evaluations_is_refused(tmp_path, options):
    results = options.pop("results", [ap(1.0, 2.0)])
    with pytest.raises(
        UserError, match=r"TEST.PATIENCE is 2 evaluations, but there is none before"
    ):
        Training(tmp_path, results, PATIENCE=2, **options)


class Weighed(Training):
    """The model is one weight, in step k trained to (k + 1)²."""

    def fit(self) -> None:
        before_step = self.policy.before_step

        def train(iteration):
            before_step(iteration)
            nn.init.constant_(self.network.weight, (iteration + 1) ** 2)

        self.policy.before_step = train
        super().fit()

    def evaluate(self, name):
        self.calls.append((self.done, self.network.weight.item()))
        return ap(1.0, self.done)

    def weights(self):
        return {key: value.detach() for key, value in self.network.state_dict().items()}

    def load_weights(self, weights):
        self.network.load_state_dict(weights)


def test_the_average_is_what_is_evaluated_and_saved(tmp_path, unreported):
    training = Weighed(tmp_path, [1], MAX_ITER=4, DECAY=0.25, EVAL_PERIOD=2, CHECKPOINT_PERIOD=3)
    training.fit()
    averages = {1: 1.0, 2: 2 / 11 * 1 + 9 / 11 * 4}  # decay (1 + 1) / (10 + 1), then 0.25
    averages[3] = 0.25 * averages[2] + 0.75 * 9
    averages[4] = 0.25 * averages[3] + 0.75 * 16
    seen = {done: value for done, value in training.calls if isinstance(value, float)}
    assert seen == pytest.approx({done: averages[done] for done in (2, 4)})
    for name, done in (("model_best", 4), ("model_final", 4), ("model_0000002", 3)):
        content = checkpoint.load_checkpoint(tmp_path / f"{name}.pth")
        assert content["model"]["weight"].item() == pytest.approx(averages[done])
        if name != "model_best":
            assert content["run"]["weights"]["weight"].item() == done**2
            assert content["run"]["updates"] == done
    assert training.network.weight.item() == 16


def test_a_resumed_run_averages_on_as_if_it_had_not_stopped(tmp_path, unreported):
    whole = Weighed(tmp_path / "whole", MAX_ITER=7, DECAY=0.6)
    whole.fit()
    Weighed(tmp_path / "parts", MAX_ITER=3, DECAY=0.6).fit()
    _, content = run_folder.read_last(tmp_path / "parts", "torchvision", ["wheel"])
    parts = Weighed(tmp_path / "parts", MAX_ITER=7, DECAY=0.6)
    parts.load_weights(content["model"])  # as the engines do first
    parts.policy.load_state_dict(content["run"])
    assert parts.network.weight.item() == 9
    parts.start_iter = 3
    parts.fit()
    one, other = (
        checkpoint.load_checkpoint(tmp_path / f"{name}/model_final.pth")
        for name in ("whole", "parts")
    )
    for content in (one, other):
        del content["atto_det"], content["engine"]
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    for decay, other in ((0.6, {"best": -1.0}), (0.0, content["run"])):
        with pytest.raises(UserError, match=f"SOLVER.EMA.DECAY is {decay}, but the run had"):
            Weighed(tmp_path / "new", DECAY=decay).policy.load_state_dict(other)


def test_when_the_time_is_up_the_step_is_the_last(tmp_path, unreported):
    training = Training(tmp_path, [ap(1.0, 2.0), OTHER], MAX_ITER=9, EVAL_PERIOD=0)
    training.policy.seconds = 0.0
    training.fit()
    assert training.done == 1
    assert best(tmp_path) == 1
    assert (tmp_path / "model_final.pth").exists()


def test_a_run_killed_before_its_last_file_is_finished_from_the_checkpoint(tmp_path):
    training = Training(tmp_path, MAX_ITER=2, CHECKPOINT_PERIOD=1)
    training.fit()
    whole = (tmp_path / "model_final.pth").read_bytes()
    run_folder.finish(tmp_path)
    assert (tmp_path / "model_final.pth").read_bytes() == whole
    run_folder.tag_last(
        tmp_path, "model_0000000.pth"
    )  # an older, shorter run's final one lies there
    run_folder.finish(tmp_path)
    final = (tmp_path / "model_final.pth").read_bytes()
    assert final == (tmp_path / "model_0000000.pth").read_bytes() != whole
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def test_a_full_disk_is_a_sentence_and_other_errors_stay(tmp_path):
    training = Training(tmp_path, MAX_ITER=1)
    for number, kind in ((errno.ENOSPC, UserError), (errno.EIO, OSError)):

        def write(found, number=number):
            raise OSError(number, os.strerror(number))

        training.write_metrics = write
        with pytest.raises(kind):
            training.fit()


def test_a_clock_writes_nothing(tmp_path):
    training = Training(tmp_path / "none", MAX_ITER=3)
    training.policy = clock = Clock(training)
    training.fit()
    assert len(clock.ends) == 3
    assert not (tmp_path / "none").exists()
