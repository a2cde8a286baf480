"""Tiny runs of either engine."""

import shutil
from pathlib import Path

import pytest

from atto_det import engine as engines


@pytest.fixture(scope="module", params=["detectron2", "torchvision"])
def engine(request):
    """The package of an engine."""
    if request.param == "detectron2":
        pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    return engines.choose(request.param, say=None)


@pytest.fixture
def out(tmp_path) -> Path:
    """OUTPUT_DIR of `config`."""
    return tmp_path / "out"


@pytest.fixture
def finished(engine, request, out) -> Path:
    """OUTPUT_DIR, with a finished run of two steps in it."""
    names = {"detectron2": "trained", "torchvision": "trained_by_torchvision"}
    shutil.copytree(request.getfixturevalue(names[engine.ENGINE]).parent, out)
    return out
