"""The package as it is installed: its wheel, in an environment of its own, run in an empty folder.

The environment has no package but atto_det's wheel; it sees the present environment's through a
.pth line.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
DETECTRON2 = importlib.util.find_spec("detectron2") is not None


def checked(*command: object) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(repository, tmp_path_factory) -> Path:
    """The folder of the programs of an environment with the wheel."""
    root = tmp_path_factory.mktemp("wheel")
    for name in ("atto_det", "configs", "tools"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(repository / name, root / "source" / name, ignore=ignore)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(repository / name, root / "source")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    quick = ["--no-deps", "--no-build-isolation"]
    checked(*pip, "wheel", *quick, "--wheel-dir", root, root / "source")
    venv.create(root / "venv", symlinks=True)
    [packages] = (root / "venv/lib").glob("python*/site-packages")
    (packages / "present.pth").write_text(sysconfig.get_path("purelib") + "\n")
    [wheel] = root.glob("atto_det-*.whl")
    checked(*pip, "--python", root / "venv/bin/python", "install", "--no-deps", wheel)
    return root / "venv/bin"


@pytest.fixture
def run(installed, tmp_path):
    """A function that runs a program of that environment in an empty folder."""
    unset = ("PYTHONPATH", "DETECTRON2_DATASETS", "VIRTUAL_ENV")
    environment = {key: value for key, value in os.environ.items() if key not in unset}

    def start(program: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [installed / program, *map(str, arguments)],
            cwd=tmp_path,
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=400,
        )

    return start


def test_the_package_is_the_installed_one_and_is_typed(run, installed):
    done = run("python", "-c", "import atto_det; print(atto_det.__file__)")
    package = Path(done.stdout.strip()).parent
    assert package.is_relative_to(installed.parent), done.stdout + done.stderr
    assert (package / "py.typed").exists()
    assert run("atto-det", "--version").stdout.startswith("atto-det ")
    assert [path.name for path in (package / "tools").glob("*.py")] == ["infer_onnx.py"]


def test_configs_are_in_the_package(run, installed, repository):
    done = run("atto-det", "configs")
    assert done.returncode == 0, done.stderr
    *rows, last = done.stdout.splitlines()
    folder = Path(last.removeprefix("in "))
    assert folder.is_relative_to(installed.parent)
    ours = {path.relative_to(repository / "configs") for path in repository.glob("configs/**/*.*")}
    assert {path.relative_to(folder) for path in folder.rglob("*.*")} == ours
    assert {Path(row.split()[0]) for row in rows} == {p for p in ours if p.suffix == ".yaml"}


def test_the_zoo_needs_no_network(run):
    program = (
        "import socket\n"
        "def refuse(*arguments): raise OSError('no network here')\n"
        "socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse\n"
        "import numpy as np, torch, atto_det\n"
        "net = atto_det.create_backbone('attonet_a', weights='distilled').eval()\n"
        "print(list(net(torch.zeros(1, 3, 64, 64))))\n"
        "predictor = atto_det.Predictor('zoo:carparts_tiny', device='cpu')\n"
        "predictor(np.zeros((64, 64, 3), np.uint8))\n"
        "print(len(predictor.class_names))"
    )
    done = run("python", "-c", program)
    assert done.stdout == "['res2', 'res3', 'res4', 'res5']\n18\n", done.stderr


@pytest.mark.parametrize("engine", ["torchvision", *(["detectron2"] if DETECTRON2 else [])])
def test_training_reaches_the_sentence_about_missing_data(run, engine):
    config = ["--config-file", "atto_maskrcnn_lite_voc.yaml", "--engine", engine]
    done = run("atto-det", "train", *config)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: no VOC 2012 at ")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not DETECTRON2, reason="Detectron2 is not installed")
def test_detectron2_gets_its_backbones(run):
    program = (
        "import atto_det.detectron2\n"
        "from detectron2.modeling import BACKBONE_REGISTRY\n"
        "print('build_attonet_fpn_backbone' in BACKBONE_REGISTRY)"
    )
    done = run("python", "-c", program)
    assert done.stdout == "True\n", done.stderr


def test_pretraining_starts_its_further_processes(run, colours, tmp_path):
    pytest.importorskip("lightning")
    settings = {
        "config": "pretrain/attonet_d_imagenet50.yaml",
        "data.root": "colours",
        "data.image_size": 32,
        "data.batch_size": 4,
        "data.workers": 0,
        "trainer.max_epochs": 1,
        "trainer.precision": "32-true",
        "trainer.accelerator": "cpu",
        "trainer.strategy": "ddp",
        "trainer.devices": 2,
        "trainer.default_root_dir": "run",
    }
    flags = [f"--{key}={value}" for key, value in settings.items()]
    done = run("atto-det", "pretrain", "fit", *flags, DETECTRON2_DATASETS=str(colours))
    assert done.returncode == 0, done.stderr
    assert "args parameter" not in done.stderr
    record = json.loads((tmp_path / "run/run1.json").read_text())
    assert record["processes"] == 2
    assert (tmp_path / "run/last.ckpt").exists()
