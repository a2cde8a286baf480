"""The tools on a machine without Detectron2: each in an interpreter that cannot import it."""

import json
import subprocess
import sys

import pytest

from atto_det.weights import checkpoint

WITHOUT = """
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "detectron2":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
"""


@pytest.fixture
def tool(repository, environment, tmp_path):
    """A function that runs a tool with the arguments given."""
    (tmp_path / "without").mkdir()
    (tmp_path / "without/sitecustomize.py").write_text(WITHOUT)

    def run(name: str, *arguments: object) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, str(repository / "tools" / name), *map(str, arguments)],
            cwd=tmp_path,
            env=environment | {"PYTHONPATH": str(tmp_path / "without")},
            capture_output=True,
            text=True,
        )

    return run


def succeeded(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    unexpected = [line for line in done.stderr.splitlines() if "no CUDA device" not in line]
    assert unexpected == []  # no warning of a library
    return done.stdout


def test_training_and_drawing(tool, tiny, tmp_path):
    printed = succeeded(tool("train_net.py", "--config-file", tiny, "OUTPUT_DIR", "out"))
    first = printed.splitlines()[0]
    assert first.startswith("engine: torchvision (Detectron2 cannot be imported: No module named")
    assert "AP in percent on mini_voc_val" in printed
    assert "Protocol: mini_voc_val, 4 images" in printed
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.yaml", "run.json", "metrics.json", "evaluation", "model_final.pth"} <= names
    flags = ["--checkpoint", "out/model_final.pth", "--dataset", "mini_voc_val"]
    printed = succeeded(tool("visualize.py", *flags, "--threshold", "0.01", "--sheet", "s.png"))
    assert "wrote 4 pictures on s.png" in printed
    assert (tmp_path / "s.png").stat().st_size > 0


def test_detectron2_asked_for_by_name_is_a_sentence(tool, tiny):
    done = tool("train_net.py", "--config-file", tiny, "--engine", "detectron2")
    assert done.returncode == 1
    assert done.stderr.startswith("error: atto_det.detectron2 needs Detectron2")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_resuming_and_evaluating(tool, tiny, tmp_path):
    train = ["train_net.py", "--config-file", tiny, "OUTPUT_DIR", "out"]
    succeeded(tool(*train))
    longer = ["SOLVER.MAX_ITER", 4, "SOLVER.STEPS", "()"]
    printed = succeeded(tool(*train, "--resume", *longer))
    assert "training from iteration 2 to 4" in printed
    succeeded(tool("train_net.py", "--eval-only", "MODEL.WEIGHTS", "out/model_final.pth"))
    at_the_end, alone = (
        json.loads((tmp_path / f"out/evaluation/mini_voc_val{number}.json").read_text())
        for number in ("_0000004", "")
    )
    assert at_the_end == alone


@pytest.mark.slow
def test_two_processes_share_the_work(tool, tiny, tmp_path):
    train = ["train_net.py", "--config-file", tiny, "SOLVER.CHECKPOINT_PERIOD", 1]
    printed = succeeded(tool(*train, "--num-gpus", 2, "OUTPUT_DIR", "two"))
    assert printed.count("engine: torchvision") == 1
    assert "Protocol: mini_voc_val, 4 images" in printed
    assert json.loads((tmp_path / "two/run.json").read_text())["processes"] == 2
    [row] = (tmp_path / "two/metrics.json").read_text().splitlines()
    assert json.loads(row)["iteration"] == 1
    checkpoint.load_checkpoint(tmp_path / "two/model_final.pth")
    broken = ["SOLVER.BASE_LR", "1e9", "SOLVER.WARMUP_ITERS", 0, "SOLVER.MAX_ITER", 20]
    done = tool(*train, "--num-gpus", 2, "OUTPUT_DIR", "broken", *broken)
    assert done.returncode != 0
    assert "error: the loss became NaN or infinite at iteration" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_demo(tool, tmp_path):
    printed = succeeded(tool("demo.py", "--minutes", 0.1))
    assert "engine: torchvision" in printed
    assert "AP_m" in printed.splitlines()[-2]
    for name in ("sheet.png", "curve.png", "model_final.pth", "metrics.json", "run.json"):
        assert (tmp_path / "output/demo" / name).stat().st_size > 0
