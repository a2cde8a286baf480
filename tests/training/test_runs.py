"""A run of either engine: exact resume, what it leaves behind, and how it fails."""

import errno
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import timm
import torch

from atto_det.data import read_image
from atto_det.errors import UserError
from atto_det.training import policy
from atto_det.weights import checkpoint

UNTESTED = ["DATASETS.TEST", "()"]
SIX = [*UNTESTED, "SOLVER.MAX_ITER", 6, "SOLVER.STEPS", "(4,)", "SOLVER.CHECKPOINT_PERIOD", 2]
ONE = ["SOLVER.MAX_ITER", 1, "SOLVER.STEPS", "()"]
RECIPE = [
    *("SOLVER.EMA.DECAY", 0.9, "SOLVER.ACCUMULATE", 2),
    *("INPUT.LSJ.ENABLED", True, "INPUT.LSJ.SIZE", "(80, 96)"),
    *("INPUT.COPY_PASTE.PROBABILITY", 0.5, "INPUT.COLOR_JITTER.BRIGHTNESS", 0.4),
]


class Stop(Exception):
    """The run ends here, without any of the user's sentences."""


def stop(training) -> None:
    raise Stop


@contextmanager
def at_step(iteration: int, happen: Callable[[policy.Training], object]) -> Iterator[None]:
    """Let something happen to a training before a step."""
    before_step = policy.Run.before_step

    def before(self, now: int) -> None:
        before_step(self, now)
        if now == iteration:
            happen(self.training)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy.Run, "before_step", before)
        yield


def final(folder: Path) -> dict:
    content = checkpoint.load_checkpoint(folder / "model_final.pth")
    del content["atto_det"], content["engine"]  # command and OUTPUT_DIR differ; text is no number
    return content


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".pth")


@pytest.fixture(scope="module")
def uninterrupted():
    """Folders of runs that nothing stopped, by engine and recipe."""
    return {}


@pytest.mark.parametrize(
    ("workers", "stops", "recipe"),
    [(2, (3, 4), []), (0, (3,), RECIPE)],
    ids=["twice with two workers", "recipe"],
)
def test_a_run_that_is_stopped_ends_like_one_that_is_not(
    engine, config, uninterrupted, out, tmp_path_factory, workers, stops, recipe
):
    """Stopped between two checkpoints (3), and right after one (4), where the rate changes."""
    name = engine.ENGINE, bool(recipe)
    if name not in uninterrupted:
        uninterrupted[name] = whole = tmp_path_factory.mktemp("whole")
        engine.run.train(config(*SIX, *recipe, "OUTPUT_DIR", whole))
    whole = uninterrupted[name]
    cfg = config(*SIX, "DATALOADER.NUM_WORKERS", workers, *recipe)
    for iteration in stops:
        with at_step(iteration, stop), pytest.raises(Stop):
            engine.run.train(cfg, resume=True)  # the first time there is nothing to go on from
        (out / f".model_000000{iteration}.xyz.pth").write_bytes(
            b"half a checkpoint, left by a kill"
        )
        torch.manual_seed(99)  # whatever happened in between
    engine.run.train(cfg, resume=True)
    one, other = final(whole), final(out)
    assert one["iteration"] == 5
    torch.testing.assert_close(one, other, rtol=0, atol=0)  # bit by bit
    state = one["optimizer"] if "optimizer" in one else one["trainer"]["_trainer"]["optimizer"]
    assert len(state["state"]) > 50
    assert any(own["momentum_buffer"].any() for own in state["state"].values())
    for folder in (out, whole):
        expected = ["model_0000003.pth", "model_0000005.pth", "model_final.pth"]
        assert checkpoints(folder) == expected
        assert [row["iteration"] for row in rows(folder)] == [5]
        assert rows(folder)[0]["lr"] == pytest.approx(0.002)


def test_what_was_changed_in_python_is_checked_before_a_run(engine, config, out):
    cfg = config()
    cfg.defrost()
    cfg.SOLVER.BASE_LR = -1.0
    says = "the config's SOLVER.BASE_LR is -1.0: it must be at least 0"
    starts = [engine.run.train, engine.run.evaluate, engine.run._runner.engine.build_training]
    for start in starts:
        with pytest.raises(UserError, match=says):
            start(cfg)
    assert not out.exists()


def test_a_detector_of_boxes_takes_boxes_without_masks(
    engine, config, mini_voc, out, tmp_path, monkeypatch
):
    """It trains on them, is evaluated by them, and finds boxes."""
    folder = tmp_path / "root/mini_voc"
    shutil.copytree(mini_voc / "mini_voc", folder)
    shutil.rmtree(folder / "SegmentationObject")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(folder.parent))
    with pytest.raises(UserError, match=r"MODEL\.MASK_ON"):
        engine.run.train(config("OUTPUT_DIR", tmp_path / "masks"))
    [result] = engine.run.train(config("MODEL.MASK_ON", False)).values()
    assert result["AP_m"] is None
    assert 0 <= result["AP_d"] <= 100
    assert "data" in json.loads((out / "run.json").read_text())
    predictor = engine.Predictor(out / "model_best.pth", device="cpu")
    found = predictor(read_image(next((folder / "JPEGImages").iterdir())), order="RGB")
    assert found.rles is None
    assert len(found.boxes) == len(found.scores) > 0


def test_another_seed_ends_elsewhere(engine, config, finished, tmp_path):
    engine.run.train(config(*UNTESTED, "SEED", 2, "OUTPUT_DIR", tmp_path / "other"))
    one, other = (final(folder)["model"] for folder in (finished, tmp_path / "other"))
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_activations_computed_again_train_the_same_weights(engine, config, finished, tmp_path):
    other = tmp_path / "other"
    key = "MODEL.BACKBONE.GRADIENT_CHECKPOINTING"
    engine.run.train(config(*UNTESTED, key, True, "OUTPUT_DIR", other))
    torch.testing.assert_close(final(other), final(finished), rtol=0, atol=0)  # bit by bit


def test_the_best_checkpoint_by_mask_ap_is_kept_over_a_resume(engine, config, out, monkeypatch):
    def give(*values):
        """Evaluations have these AP_m in turn, without a model."""
        results = iter(values)
        return lambda training: setattr(
            training, "evaluate", lambda name: {"AP_d": 1.0, "AP_m": next(results)}
        )

    def best():
        return checkpoint.load_checkpoint(out / "model_best.pth")["iteration"]

    monkeypatch.setattr(policy, "report", lambda result, path: None)
    options = ["SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 2, "TEST.EVAL_PERIOD", 1]
    options += ["SOLVER.STEPS", "()"]
    with at_step(0, give(10.0, 30.0, 99.0)), at_step(2, stop), pytest.raises(Stop):
        engine.run.train(config(*options))
    assert best() == 1
    with at_step(2, give(29.9, 20.0)):
        engine.run.train(config(*options), resume=True)
    assert best() == 1
    content = checkpoint.load_checkpoint(out / "model_best.pth")
    checkpoint.read_description(content, "model_best.pth")  # complete in itself
    assert not {"trainer", "optimizer"} & content.keys()
    found = {row["iteration"]: row["mini_voc_val/AP_m"] for row in rows(out)}
    assert found == {0: 10.0, 1: 30.0, 2: 29.9, 3: 20.0}


def test_an_evaluation_that_fails_costs_no_weights_and_is_made_up_for(
    engine, config, out, tmp_path
):
    options = ["SOLVER.MAX_ITER", 2, "TEST.EVAL_PERIOD", 1]
    whole, cfg = tmp_path / "whole", config(*options)
    engine.run.train(config(*options, "OUTPUT_DIR", whole))

    def break_evaluation(training) -> None:
        training.evaluate = lambda name: stop(training)

    for iteration, last in ((0, "model_0000000.pth"), (1, "model_final.pth")):
        with at_step(iteration, break_evaluation), pytest.raises(Stop):
            engine.run.train(cfg, resume=iteration > 0)
        assert (out / "last_checkpoint").read_text() == last
    torch.testing.assert_close(final(whole)["model"], final(out)["model"], rtol=0, atol=0)
    assert final(out)["run"]["owes"]
    [result] = engine.run.train(cfg, resume=True).values()
    torch.testing.assert_close(final(whole), final(out), rtol=0, atol=0)
    found = [
        [(row["iteration"], row["mini_voc_val/AP_m"]) for row in rows(folder)]
        for folder in (whole, out)
    ]
    assert found[0] == found[1]
    assert [iteration for iteration, _ in found[0]] == [0, 1]
    for name in ("1", "2"):
        stored = [
            (folder / f"evaluation/mini_voc_val_000000{name}.json").read_text()
            for folder in (whole, out)
        ]
        assert stored[0] == stored[1]
    assert result == json.loads(stored[0])
    assert engine.run.train(cfg, resume=True) == {}


def test_a_run_leaves_what_it_follows_from_and_what_came_of_it(engine, config, out):
    results = engine.run.train(config("SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 1))
    kept = {path.name for path in out.iterdir() if not path.name.startswith("events.")}
    assert kept == {
        *("config.yaml", "run.json", "metrics.json", "log.txt", "evaluation", "last_checkpoint"),
        *("model_0000002.pth", "model_0000003.pth", "model_final.pth", "model_best.pth"),
    }
    assert (out / "last_checkpoint").read_text() == "model_final.pth"
    assert checkpoint.load_checkpoint(out / "model_final.pth")["engine"] == engine.ENGINE
    record = json.loads((out / "run.json").read_text())
    assert (record["seed"], record["processes"], record["device"]) == (1, 1, "cpu")
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    assert "NUM_CLASSES: 20" in (out / "config.yaml").read_text()
    stored = json.loads((out / "evaluation/mini_voc_val_0000004.json").read_text())
    assert stored == results["mini_voc_val"]
    assert stored["protocol"]["images"] == 4
    [row] = rows(out)
    assert row["iteration"] == 3
    assert row.keys() >= {
        *("loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "loss_rpn_loc", "total_loss"),
        *("lr", "time", "data_time", "eta_seconds", "mini_voc_val/AP_d", "mini_voc_val/AP_m"),
    }
    parts = [row[key] for key in ("forward_time", "backward_time", "optimizer_time")]
    assert min(parts) > 0
    assert sum(parts) < 1.5 * row["time"]  # medians of four steps each
    assert row["pictures_per_second"] > 0
    assert f"{row['pictures_per_second']:.1f} pictures a second" in (out / "log.txt").read_text()
    assert "training from iteration 0 to 4" in (out / "log.txt").read_text()


def test_runs_in_one_process_have_logs_of_their_own(engine, config, tmp_path, capsys, caplog):
    own = logging.getLogger("atto_det")
    own.addHandler(caplog.handler)  # as a program that uses the package may do
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        engine.run.train(config(*UNTESTED, *ONE, "OUTPUT_DIR", folder))
    logs = [(folder / "log.txt").read_text().count("training from") for folder in folders]
    assert (logs, capsys.readouterr().out.count("training from")) == ([1, 1], 2)
    assert caplog.text.count("training from") == 2
    assert caplog.handler in own.handlers


def test_a_finished_run_stays_and_can_be_prolonged(engine, config, finished):
    cfg = config(*UNTESTED)
    with pytest.raises(UserError, match=r"already holds a run: continue it with --resume"):
        engine.run.train(cfg)
    before = (finished / "model_final.pth").read_bytes()
    assert engine.run.train(cfg, resume=True) == {}
    assert (finished / "model_final.pth").read_bytes() == before
    engine.run.train(config(*UNTESTED, "SOLVER.MAX_ITER", 3, "SOLVER.STEPS", "()"), resume=True)
    assert final(finished)["iteration"] == 2


def test_killed_between_the_last_two_checkpoints_it_gets_its_final_one(engine, config, finished):
    whole = (finished / "model_final.pth").read_bytes()
    (finished / "model_final.pth").rename(finished / "model_0000001.pth")
    (finished / "last_checkpoint").write_text("model_0000001.pth")
    engine.run.train(config(*UNTESTED, "SOLVER.CHECKPOINT_PERIOD", 2), resume=True)
    assert (finished / "model_final.pth").read_bytes() == whole
    assert (finished / "last_checkpoint").read_text() == "model_final.pth"


@pytest.mark.parametrize("source", ["trained", "trained_by_torchvision"])
def test_training_starts_from_given_weights_of_either_engine(engine, config, out, source, request):
    if source == "trained":
        pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    path = request.getfixturevalue(source)
    options = [*UNTESTED, "MODEL.WEIGHTS", path, "SOLVER.BASE_LR", 1e-60, *ONE]
    engine.run.train(config(*options))
    one, other = checkpoint.load_checkpoint(path)["model"], final(out)["model"]
    assert one.keys() == other.keys()
    for key in one:
        if "running_" not in key and "num_batches" not in key:
            assert torch.equal(one[key], other[key]), key


def test_training_starts_from_weights_of_timm_and_needs_their_file_no_more(
    engine, config, out, tmp_path
):
    name = "mobilenetv3_small_050"
    state = timm.create_model(name, num_classes=3).state_dict()
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    options = [*UNTESTED, "MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", name]
    options += ["MODEL.TIMM.WEIGHTS", path, "SOLVER.BASE_LR", 1e-60, "SOLVER.CHECKPOINT_PERIOD", 1]
    engine.run.train(config(*options, *ONE))
    path.unlink()
    engine.run.train(config(*options, "SOLVER.STEPS", "()"), resume=True)
    key = "conv_stem.weight"
    assert torch.equal(final(out)["model"][f"backbone.bottom_up.net.{key}"], state[key])
    assert engine.Predictor(out / "model_final.pth").class_names


def test_a_loss_of_nan_is_a_sentence_and_leaves_what_was_saved(engine, config, out):
    def spoil(training):
        for parameter in training.network.parameters():
            parameter.data.fill_(float("nan"))

    with at_step(3, spoil), pytest.raises(UserError) as caught:
        engine.run.train(config(*SIX))
    assert "NaN or infinite at iteration 3: lower SOLVER.BASE_LR (now 0.02)" in str(caught.value)
    assert (out / "last_checkpoint").read_text() == "model_0000001.pth"


def test_a_full_disk_while_a_checkpoint_is_written(engine, config, out, monkeypatch):
    real = os.fsync

    def fsync(file):
        if "model_0000003" in Path(f"/proc/self/fd/{file}").readlink().name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr("atto_det.errors.os.fsync", fsync)
    with pytest.raises(UserError, match=r"model_0000003.pth was not written: the disk is full"):
        engine.run.train(config(*SIX))
    assert (out / "last_checkpoint").read_text() == "model_0000001.pth"
    assert checkpoints(out) == ["model_0000001.pth"]
    assert not list(out.glob(".model*"))


def test_deadline_makes_a_step_the_last_and_evaluates_it(engine, config, out):
    results = engine.run.train(config("SOLVER.MAX_ITER", 100_000), seconds=0)
    assert set(results) == {"mini_voc_val"}
    assert [path.name for path in out.rglob("mini_voc_val_*.json")] == ["mini_voc_val_0000001.json"]
    assert final(out)["iteration"] == 0


def test_pictures_held_out_choose_the_best_model(engine, config, out):
    options = ["DATASETS.HOLD_OUT", 3, "SOLVER.MAX_ITER", 2, "TEST.EVAL_PERIOD", 1]
    results = engine.run.train(config(*options, "TEST.PATIENCE", 5))
    assert list(results) == ["mini_voc_train_held_out", "mini_voc_val"]
    assert results["mini_voc_train_held_out"]["protocol"]["images"] == 3
    assert sorted(path.name for path in (out / "evaluation").iterdir()) == [
        "coco_instances_results_mini_voc_train_held_out.json",
        "coco_instances_results_mini_voc_val.json",
        "mini_voc_train_held_out_0000001.json",
        "mini_voc_train_held_out_0000002.json",
        "mini_voc_val_0000002.json",
    ]
    assert final(out)["run"]["best"] >= results["mini_voc_train_held_out"]["AP_m"]
