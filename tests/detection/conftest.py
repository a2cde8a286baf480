"""A tiny config on the mini VOC, folders written by hand, and a checkpoint of two steps."""

import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atto_det.data import voc_palette


@pytest.fixture
def data_root(mini_voc, monkeypatch, tmp_path) -> Path:
    """The data root of the mini VOC, in the environment."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(mini_voc))
    monkeypatch.setenv("ATTO_DET_CACHE", str(tmp_path / "cache"))
    return mini_voc


@pytest.fixture
def config(data_root, repository, tmp_path):
    """A function from further options to the frozen tiny config, with its own OUTPUT_DIR."""
    from atto_det.detection import load_config

    def make(*options: object):
        output = ["OUTPUT_DIR", str(tmp_path / "out")]
        return load_config(
            repository / "tests/tiny_mini_voc.yaml", output + list(map(str, options))
        )

    return make


OBJECT = """<object><name>{}</name><difficult>0</difficult><bndbox>
<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""


@pytest.fixture
def voc_folder():
    """A function that writes a folder in VOC layout: one rectangle of class 1 in each picture.

    The rectangle covers columns 8 to 23 and rows 16 to 39 of 64 columns and 48 rows; the pixels
    left of it are void.
    """

    def write(root: Path, class_names, **splits: list[str]) -> Path:
        for name in ("JPEGImages", "Annotations", "SegmentationClass", "SegmentationObject"):
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "ImageSets/Segmentation").mkdir(parents=True, exist_ok=True)
        (root / "class_names.txt").write_text("\n".join(class_names))
        labels = np.zeros((48, 64), np.uint8)
        labels[16:40, 8:24] = 1
        labels[16:40, 4:8] = 255
        for split, ids in splits.items():
            (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(ids))
            for name in ids:
                pixels = np.full((48, 64, 3), 40, np.uint8)
                pixels[labels == 1] = (200, 30, 90)
                Image.fromarray(pixels).save(root / f"JPEGImages/{name}.jpg", quality=95)
                for folder in ("SegmentationClass", "SegmentationObject"):
                    image = Image.fromarray(labels)
                    image.putpalette(voc_palette().tobytes())
                    image.save(root / folder / f"{name}.png")
                (root / f"Annotations/{name}.xml").write_text(
                    "<annotation><size><width>64</width><height>48</height></size>"
                    + OBJECT.format(class_names[0], 9, 17, 24, 40)
                    + "</annotation>"
                )
        return root

    return write


@pytest.fixture
def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
