"""A folder in VOC layout, small enough to be known pixel by pixel; an ImageNet of two classes."""

import json
import os
from pathlib import Path

import imagenet_tree as tree
import numpy as np
import pytest
from PIL import Image

from atto_det.data import VOC_CLASSES
from atto_det.data.coco import load_coco
from atto_det.data.images import write_palette_png

DOG, CAT = VOC_CLASSES.index("dog") + 1, VOC_CLASSES.index("cat") + 1


class TinyVoc:
    """Writes pictures of 12x8 pixels: a dog of 5x4 (object 1), a cat of 4x4, a void column."""

    def __init__(self, root: Path):
        self.root = root
        for name in ("Annotations", "JPEGImages", "SegmentationClass", "SegmentationObject"):
            (root / name).mkdir(parents=True)
        (root / "ImageSets" / "Segmentation").mkdir(parents=True)

    def add(self, image_id: str, split: str = "train", objects=None, labels=None, classes=None):
        if labels is None:
            labels = np.zeros((8, 12), np.uint8)
            labels[1:5, 1:6] = 1
            labels[3:7, 7:11] = 2
            labels[:, 6] = 255
        if objects is None:
            objects = [("dog", (2, 2, 6, 5), 0), ("cat", (8, 4, 11, 7), 1)]
        if classes is None:
            table = np.zeros(256, np.uint8)
            for number, (name, _, _) in enumerate(objects, 1):
                table[number] = VOC_CLASSES.index(name) + 1
            table[255] = 255
            classes = table[labels]
        height, width = labels.shape
        self.write_png("SegmentationObject", image_id, labels)
        self.write_png("SegmentationClass", image_id, classes)
        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(noise).save(self.jpeg(image_id))
        self.write_xml(image_id, objects, (width, height))
        with (self.root / "ImageSets" / "Segmentation" / f"{split}.txt").open("a") as file:
            file.write(f"{image_id}\n")

    def write_png(self, folder: str, image_id: str, values: np.ndarray):
        write_palette_png(self.root / folder / f"{image_id}.png", values)

    def write_xml(self, image_id: str, objects, size=(12, 8)):
        rows = "".join(
            f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>"
            f"<xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax>"
            "</bndbox></object>"
            for name, box, difficult in objects
        )
        size = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
        self.xml(image_id).write_text(f"<annotation>{size}{rows}</annotation>")

    def xml(self, image_id: str) -> Path:
        return self.root / "Annotations" / f"{image_id}.xml"

    def jpeg(self, image_id: str) -> Path:
        return self.root / "JPEGImages" / f"{image_id}.jpg"

    def png(self, folder: str, image_id: str) -> Path:
        return self.root / folder / f"{image_id}.png"


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
