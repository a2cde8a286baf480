"""Fixtures that several test modules share."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that the tests run in."""
    return REPOSITORY


@pytest.fixture(scope="session")
def photos() -> Path:
    """Folder with real photos (VOC2012/, CarParts/); tests that need them skip without it."""
    root = Path(os.environ.get("ATTO_DET_PHOTOS", REPOSITORY.parent / "shared" / "data"))
    if not (root / "VOC2012").is_dir():
        pytest.skip(f"no real photos at {root} (set ATTO_DET_PHOTOS to a folder with VOC2012/)")
    return root
