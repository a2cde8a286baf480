"""Tests of what only a GPU does; where torch finds none, they are skipped before their fixtures."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from atto_det import engine as engines


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, with one reason for all."""
    if not torch.cuda.is_available():
        pytest.skip("torch finds no GPU")


@pytest.fixture(params=["detectron2", "torchvision"])
def train(request, data_root, repository, tmp_path) -> Callable[..., Path]:
    """A function that trains the tiny detector on the GPU in mixed precision, and returns the
    checkpoint; it takes the run's name, and options.
    """
    if request.param == "detectron2":
        pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    engine = engines.choose(request.param, say=None)

    def run(name: str, *options: object, resume: bool = False) -> Path:
        given = ["OUTPUT_DIR", tmp_path / name, "MODEL.DEVICE", "cuda", "DATASETS.TEST", "()"]
        given += ["SOLVER.AMP.ENABLED", True, *options]
        cfg = engine.load_config(repository / "tests/tiny_mini_voc.yaml", list(map(str, given)))
        engine.run.train(cfg, resume=resume)
        return tmp_path / name / "model_final.pth"

    return run
