"""tools/pretrain.py as a user runs it."""

import json
import shutil

import pytest
import torch

from atto_det.weights.checkpoint import load_checkpoint

SETTINGS = {
    "model.network": "attonet_d",
    "model.ema_decay": 0.9,
    "data.root": "colours",
    "data.image_size": 32,
    "data.batch_size": 4,
    "data.workers": 0,
    "trainer.max_epochs": 3,
    "trainer.enable_model_summary": "false",
}
KILL = """
import os, signal
from atto_det.pretraining import callbacks
inner = callbacks.EpochReport.on_train_batch_start
def kill(self, trainer, module, batch, index):
    if (trainer.current_epoch, index) == (1, 4):
        os.kill(os.getpid(), signal.SIGKILL)
    inner(self, trainer, module, batch, index)
callbacks.EpochReport.on_train_batch_start = kill
"""
KILL_WHILE_WRITING = """
import os, pathlib, signal
inner = pathlib.Path.replace
count = 0
def kill(self, target):
    global count
    count += str(target).endswith("last.ckpt")
    if count == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return inner(self, target)
pathlib.Path.replace = kill
"""


@pytest.fixture
def pretrain(run_tool, environment, colours):
    """A function that runs `pretrain.py fit` on the colours."""
    environment["DETECTRON2_DATASETS"] = str(colours)

    def fit(output, *arguments, before="", subcommand="fit", **changes):
        settings = SETTINGS | {"trainer.default_root_dir": output} | changes
        flags = [f"--{key}={value}" for key, value in settings.items()]
        return run_tool("pretrain.py", subcommand, *flags, *arguments, before=before)

    return fit


def assert_same(one, other, where=""):
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}/{index}")


@pytest.mark.slow
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(pretrain, tmp_path):
    whole = tmp_path / "whole"
    assert pretrain(whole).returncode == 0
    for name, before in (("in_a_step", KILL), ("while_writing", KILL_WHILE_WRITING)):
        killed = tmp_path / name
        assert pretrain(killed, before=before).returncode == -9
        done = pretrain(killed, "--ckpt_path", "last")
        assert done.returncode == 0, done.stderr
        one, other = (load_checkpoint(folder / "last.ckpt") for folder in (whole, killed))
        for key in ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers"):
            assert_same(one[key], other[key], f"{name}: {key}")
        assert one["global_step"] == other["global_step"] == 27
        assert (killed / "run2.json").exists()


def test_validate_and_test_print_the_accuracy(pretrain, tmp_path):
    output = tmp_path / "run"
    assert pretrain(output, **{"trainer.max_epochs": 1}).returncode == 0
    for subcommand, key in (("validate", "val_top1"), ("test", "test_top1")):
        done = pretrain(output, "--ckpt_path", output / "best.ckpt", subcommand=subcommand)
        assert done.returncode == 0, done.stderr
        assert key in done.stdout


@pytest.mark.slow
def test_two_processes_share_the_pictures(pretrain, tmp_path):
    settings = {"trainer.accelerator": "cpu", "trainer.devices": 2, "trainer.strategy": "ddp"}
    one, two = tmp_path / "one", tmp_path / "two"
    done = pretrain(two, **settings, **{"data.batch_size": 2})
    assert done.returncode == 0, done.stderr
    assert pretrain(one).returncode == 0
    single, double = (load_checkpoint(folder / "last.ckpt") for folder in (one, two))
    assert double["global_step"] == single["global_step"] == 27
    # 15 pictures in all: a share of them, each counted once.
    right = double["atto_det_pretraining"]["top1"] / 100 * 15
    assert right == pytest.approx(round(right), abs=1e-3)
    record = json.loads((two / "run1.json").read_text())
    assert record["processes"] == 2


def last_line(done) -> str:
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: ")
    return line


def test_mistakes_are_one_sentence_each(pretrain, tmp_path, colours, environment):
    output = tmp_path / "run"
    assert pretrain(output, **{"trainer.max_epochs": 1}).returncode == 0
    last = output / "last.ckpt"
    assert "already holds a run: continue it with --ckpt_path last" in last_line(pretrain(output))
    other = pretrain(tmp_path / "other", "--ckpt_path", last, **{"model.network": "attonet_c"})
    assert "holds attonet_d, and model.network is attonet_c" in last_line(other)
    lost = pretrain(tmp_path / "other", "--ckpt_path", tmp_path / "no.ckpt")
    assert "no.ckpt does not exist" in last_line(lost)
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(last.read_bytes()[:5000])
    assert "damaged" in last_line(pretrain(tmp_path / "other", "--ckpt_path", damaged))
    nan = pretrain(tmp_path / "nan", **{"model.learning_rate": 1e30})
    assert "the loss is" in last_line(nan)
    assert "lower model.learning_rate" in last_line(nan)
    none = pretrain(tmp_path / "other", **{"data.root": "nowhere"})
    assert "nowhere/train cannot be read" in last_line(none)
    own = tmp_path / "own"
    shutil.copytree(colours / "colours", own / "colours")
    environment["DETECTRON2_DATASETS"] = str(own)
    broken = own / "colours/train/red/3.png"
    broken.write_bytes(broken.read_bytes()[:200])
    workers = pretrain(tmp_path / "other", **{"data.workers": 1})
    assert "red/3.png cannot be read as a picture" in last_line(workers)
    shutil.rmtree(own / "colours/val/red")
    assert "train and val have different classes" in last_line(pretrain(tmp_path / "other"))
    two = pretrain(tmp_path / "other", "--ckpt_path", last, **{"data.root": "colours/.."})
    assert "colours/../train cannot be read" in last_line(two)


def test_settings_without_which_nothing_can_be_done(pretrain, tmp_path):
    assert "validate needs --ckpt_path" in last_line(
        pretrain(tmp_path / "run", subcommand="validate")
    )
    endless = pretrain(tmp_path / "run", **{"trainer.max_epochs": -1})
    assert "trainer.max_epochs must be at least 1" in last_line(endless)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("--model.rate=1", "unrecognized arguments: --model.rate=1"),
        ("--model.momentum=high", 'Parser key "model.momentum"'),
        ("--config=nope.yaml", "File does not exist: "),
    ],
)
def test_wrong_settings_are_refused_in_one_line(pretrain, tmp_path, setting, says):
    done = pretrain(tmp_path / "run", setting)
    assert says in last_line(done)
    assert "atto-det pretrain fit --help lists all settings" in last_line(done)
    assert done.stderr.count("\n") == 1


def test_the_hint_names_the_command_that_was_given(pretrain, tmp_path):
    done = pretrain(tmp_path / "run", "--model.rate=1", subcommand="validate")
    assert "atto-det pretrain validate --help lists all settings" in last_line(done)
