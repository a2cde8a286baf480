"""Fixtures that several test modules share."""

import importlib.util
import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Detection tests skip without Detectron2; where they must run, that is an error."""
    required = os.environ.get("ATTO_DET_REQUIRE_DETECTRON2")
    if required and importlib.util.find_spec("detectron2") is None:
        raise pytest.UsageError("ATTO_DET_REQUIRE_DETECTRON2 is set, but Detectron2 is missing")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that the tests run in."""
    return REPOSITORY


@pytest.fixture(scope="session")
def photos() -> Path:
    """Folder with real photos (VOC2012/, CarParts/); tests that need them skip without it."""
    root = Path(os.environ.get("ATTO_DET_PHOTOS", "photos"))
    if not (root / "VOC2012").is_dir():
        pytest.skip("no real photos: set ATTO_DET_PHOTOS to a folder with VOC2012/ and CarParts/")
    return root


@pytest.fixture(scope="session")
def mini_voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with a mini VOC of 8 + 4 pictures."""
    from atto_det.data import mini_voc

    root = tmp_path_factory.mktemp("data")
    mini_voc.generate(root / "mini_voc", train=8, val=4, seed=3, size=(96, 128))
    return root


@pytest.fixture(scope="session")
def trained(mini_voc, repository, tmp_path_factory) -> Path:
    """The checkpoint of two steps on the mini VOC."""
    from atto_det.detection import load_config, run

    output = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(mini_voc))
        patch.setenv("ATTO_DET_CACHE", str(output / "cache"))
        options = ["OUTPUT_DIR", str(output), "DATASETS.TEST", "()"]
        run.train(load_config(repository / "tests/tiny_mini_voc.yaml", options))
    return output / "model_final.pth"
