"""A folder in VOC layout, ImageNets of two classes, a COCO JSON: small enough to be known."""

import json
import os
from pathlib import Path

import imagenet_tree as tree
import pytest
from PIL import Image
from voc_tree import TinyVoc

from atto_det.data.coco import load_coco


@pytest.fixture
def tiny_voc(tmp_path) -> TinyVoc:
    """A folder in VOC layout without pictures."""
    return TinyVoc(tmp_path / "VOC2012")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTO_DET_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def cut():
    """Cuts a file to a part of its length."""

    def cut_file(path: Path, part: float = 0.6):
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * part)])

    return cut_file


@pytest.fixture
def no_sync(monkeypatch):
    """Milliseconds for each file, which only a power failure would show the use of."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def source(tmp_path):
    """A function that makes an ImageNet in one of the layouts."""

    def make(train="folders", val="folders"):
        tree.put(tmp_path / "imagenet", tree.TRAIN[train] | tree.VALIDATION[val])
        return tmp_path / "imagenet"

    return make


@pytest.fixture
def wanted(tmp_path):
    """A class list as an editor on Windows writes it."""
    path = tmp_path / "list.txt"
    path.write_bytes(b"# two\r\n" + tree.NAMES.replace(b"\n", b"\r\n"))
    return path


@pytest.fixture
def written(tmp_path):
    """Writes a JSON of one 8x6 picture with the given annotations, and loads it."""
    Image.new("RGB", (6, 8)).save(tmp_path / "a.jpg")

    def write(*annotations, **changes):
        content = {
            "images": [{"id": 7, "file_name": "a.jpg", "height": 8, "width": 6}],
            "categories": [{"id": 90, "name": "last"}, {"id": 3, "name": "first"}],
            "annotations": [{"image_id": 7, "category_id": 90, **item} for item in annotations],
            **changes,
        }
        (tmp_path / "x.json").write_text(json.dumps(content))
        return load_coco(tmp_path / "x.json", tmp_path)

    return write
