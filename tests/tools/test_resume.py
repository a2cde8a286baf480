"""Training that is killed, at any moment, and resumed ends like training that was left alone."""

import json
import random
import signal
import time

import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from atto_det.weights import checkpoint


def rows(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def assert_runs_agree(whole, parts) -> None:
    for name in ("model_final.pth", "model_best.pth"):
        one, other = (checkpoint.load_checkpoint(f / name) for f in (whole, parts))
        for content in (one, other):
            del content["atto_det"]  # its command and OUTPUT_DIR differ
        assert one.pop("engine", None) == other.pop("engine", None)
        torch.testing.assert_close(one, other, rtol=0, atol=0)  # bit by bit
    iterations = [row["iteration"] for row in rows(parts)]
    assert iterations == [row["iteration"] for row in rows(whole)]
    assert len(set(iterations)) == len(iterations)
    for one, other in zip(rows(whole), rows(parts), strict=True):
        for key in one.keys() & other.keys():
            if key.startswith("mini_voc_val/"):
                assert one[key] == other[key], (one["iteration"], key)
    for result in sorted((whole / "evaluation").iterdir()):
        assert result.read_bytes() == (parts / "evaluation" / result.name).read_bytes()


ENGINES = [
    pytest.param(["--engine", "detectron2"], id="detectron2"),
    pytest.param(["--engine", "torchvision"], id="torchvision", marks=pytest.mark.slow),
]
SHORT = ["SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 2, "TEST.EVAL_PERIOD", 2]
SHORT += ["SOLVER.STEPS", "()"]

RECIPE = [
    *("SOLVER.EMA.DECAY", 0.9, "SOLVER.ACCUMULATE", 2, "TEST.PATIENCE", 9),
    *("INPUT.LSJ.ENABLED", True, "INPUT.LSJ.SIZE", "(80, 96)"),
    *("INPUT.COPY_PASTE.PROBABILITY", 0.5, "INPUT.COLOR_JITTER.BRIGHTNESS", 0.4),
]

# The process ends by SIGKILL at its n-th file operation: with the file half written, whole but not
# yet renamed, or just renamed.
DEADLY = """
import itertools, pathlib, signal
count = itertools.count()
rename = pathlib.Path.replace
def replace(self, target):
    last = next(count) == {number}
    if last and {mode} == 0:
        os.truncate(self, os.path.getsize(self) // 2)
    if not last or {mode} == 2:
        rename(self, target)
    if last:
        os.kill(os.getpid(), signal.SIGKILL)
    return target
pathlib.Path.replace = replace
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_killed_at_every_file_operation_it_ends_like_an_uninterrupted_run(train, tmp_path, engine):
    assert train("OUTPUT_DIR", "whole", *engine, *SHORT).returncode == 0
    lives = 0
    while True:
        before = DEADLY.format(number=lives, mode=lives % 3)
        done = train("--resume", *engine, "OUTPUT_DIR", "parts", *SHORT, before=before)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        for path in (tmp_path / "parts").glob("[!.]*.pth"):
            checkpoint.load_checkpoint(path)  # whole, whenever it was
        lives += 1
        assert lives < 30
    assert lives >= 6
    assert_runs_agree(tmp_path / "whole", tmp_path / "parts")
    left = [path.name for path in (tmp_path / "parts").glob(".model*")]
    assert left == []


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_killed_at_any_time_it_ends_like_an_uninterrupted_run(
    launch, train, tiny, tmp_path, engine
):
    options = [*engine, "SOLVER.MAX_ITER", 22, "SOLVER.CHECKPOINT_PERIOD", 4, "TEST.EVAL_PERIOD", 7]
    options += RECIPE
    train("--help")  # so that the server of the commands is up when time is taken
    begin = time.monotonic()
    assert train("OUTPUT_DIR", "whole", *options).returncode == 0
    length = time.monotonic() - begin
    draw = random.Random(4)
    kills = 0
    while True:
        run = launch(
            "train_net.py", "--config-file", tiny, "--resume", "OUTPUT_DIR", "parts", *options
        )
        # Longer from life to life, as on a machine that grows busier none might get anywhere.
        run.process.join(draw.uniform(0.15, 0.6) * length * (1 + kills / 8))
        if run.process.exitcode is not None:
            break
        run.process.kill()
        assert run.wait().returncode == -signal.SIGKILL
        kills += 1
        assert kills < 40
    assert run.wait().returncode == 0, run.wait().stderr
    assert kills >= 2
    assert_runs_agree(tmp_path / "whole", tmp_path / "parts")
    assert [row["iteration"] for row in rows(tmp_path / "parts")] == [6, 13, 19, 20, 21]
