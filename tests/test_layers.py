"""The arrows between packages point one way; import-linter reads them from pyproject.toml."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def lint_imports(folder: Path) -> subprocess.CompletedProcess:
    """import-linter over the atto_det in `folder`."""
    program = (
        "import sys; from importlinter.cli import lint_imports_command as run; sys.exit(run())"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
    )


def test_every_arrow_points_the_right_way(repository):
    done = lint_imports(repository)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("data/records.py", "import atto_det.nets", "Arrows"),
        ("config/experiment.py", "import atto_det.nets", "Arrows"),
        ("errors.py", "import atto_det.data.records", "Arrows"),
        ("drawing/instances.py", "import atto_det.detectron2", "Arrows"),
        ("somewhere.py", "import os", "Arrows"),
        ("torchvision/model.py", "import atto_det.export.rewrite", "Arrows"),
        ("complexity/count.py", "from detectron2.modeling import FPN", "Detectron2 is imported"),
        ("nets/blocks.py", "def late():\n    import numpy", "Networks need torch alone"),
        ("evaluation/matching.py", "import torch", "need no torch"),
    ],
)
def test_a_wrong_arrow_is_found(repository, tmp_path, module, line, broken):
    shutil.copy(repository / "pyproject.toml", tmp_path)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(repository / "atto_det", tmp_path / "atto_det", ignore=ignore)
    with (tmp_path / "atto_det" / module).open("a") as file:
        file.write(f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    verdicts = [row for row in done.stdout.splitlines() if " BROKEN" in row]
    assert any(broken in row for row in verdicts)
