"""tools/make_mini_voc.py as a user runs it."""

import os
import subprocess
import sys

import pytest


@pytest.fixture
def run(repository, tmp_path):
    def run_tool(name, *arguments, **environment):
        return subprocess.run(
            [sys.executable, str(repository / "tools" / name), *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(repository), **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run_tool


def test_make_check_and_make_again(run, tmp_path):
    made = run("make_mini_voc.py", "--root", "sets", "--train", 4, "--val", 2)
    assert (made.returncode, made.stdout) == (0, "sets/mini_voc: 4 + 2 pictures\n")
    checked = run("prepare_voc.py", "--check", "--folder", "sets/mini_voc")
    assert checked.returncode == 0
    assert "0 errors, 0 warnings" in checked.stdout
    again = run(
        "make_mini_voc.py", "--train", 4, "--val", 2, DETECTRON2_DATASETS=str(tmp_path / "sets")
    )
    assert again.returncode == 0
    assert "is up to date" in again.stdout
    other = run("make_mini_voc.py", "--root", "sets", "--train", 5, "--val", 2)
    assert other.returncode == 1
    assert other.stderr.startswith("error: sets/mini_voc exists and is not")
    assert "Traceback" not in other.stderr
