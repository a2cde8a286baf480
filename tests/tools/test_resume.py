"""Training that is killed, at any moment, and resumed ends like training that was left alone."""

import json
import random
import signal

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
OPTIONS = [
    *("SOLVER.MAX_ITER", 32, "SOLVER.CHECKPOINT_PERIOD", 4, "TEST.EVAL_PERIOD", 9),
    *("SOLVER.EMA.DECAY", 0.9, "SOLVER.ACCUMULATE", 2, "TEST.PATIENCE", 9),
    *("INPUT.LSJ.ENABLED", True, "INPUT.LSJ.SIZE", "(80, 96)"),
    *("INPUT.COPY_PASTE.PROBABILITY", 0.5, "INPUT.COLOR_JITTER.BRIGHTNESS", 0.4),
]

# The process ends by SIGKILL at its n-th file operation (from 0): with the file half written (way
# 0), whole but not yet renamed (1), just renamed (2), or some time later, whatever it does (3).
WAYS = 4
DEADLY = """
import itertools, pathlib, signal, threading
count = itertools.count()
rename = pathlib.Path.replace
def replace(self, target):
    last = next(count) == {number}
    if last and {way} == 0:
        os.truncate(self, os.path.getsize(self) // 2)
    if not last or {way} >= 2:
        rename(self, target)
    if last and {way} < 3:
        os.kill(os.getpid(), signal.SIGKILL)
    elif last:
        later = threading.Timer({delay}, os.kill, (os.getpid(), signal.SIGKILL))
        later.daemon = True
        later.start()
    return target
pathlib.Path.replace = replace
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_killed_25_times_it_ends_like_an_uninterrupted_run(train, tmp_path, engine):
    assert train("OUTPUT_DIR", "whole", *engine, *OPTIONS).returncode == 0
    draw = random.Random(4)
    kills = 0
    while True:
        # Each life reaches further than the four before it, so that the run ends.
        number, way = divmod(kills, WAYS)
        before = DEADLY.format(number=number, way=way, delay=draw.uniform(0, 0.5))
        done = train("--resume", *engine, "OUTPUT_DIR", "parts", *OPTIONS, before=before)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        for path in (tmp_path / "parts").glob("[!.]*.pth"):
            checkpoint.load_checkpoint(path)  # whole, whenever it was
        kills += 1
        assert kills < 40
    assert kills >= 25
    assert_runs_agree(tmp_path / "whole", tmp_path / "parts")
    assert [row["iteration"] for row in rows(tmp_path / "parts")] == [8, 17, 19, 26, 31]
    assert list((tmp_path / "parts").glob(".model*")) == []
