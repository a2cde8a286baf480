import subprocess
import sys

import pytest

pytest.importorskip("detectron2", reason="the demo trains with Detectron2")


@pytest.mark.slow
def test_demo_goes_through_every_phase(repository, tmp_path):
    command = [sys.executable, str(repository / "tools/demo.py"), "--minutes", "0.2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "AP_m" in done.stdout.splitlines()[-2]
    output = tmp_path / "output/demo"
    for name in ("sheet.png", "curve.png", "model_best.pth", "metrics.json", "run.json"):
        assert (output / name).stat().st_size > 0
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert again.stderr.count("\n") == 1
    assert "holds an earlier demo" in again.stderr


def test_demo_refuses_long_training(run_tool, sentence):
    assert "at most 6 minutes" in sentence(run_tool("demo.py", "--minutes", 60))
