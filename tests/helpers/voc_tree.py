"""A folder in VOC layout, small enough to be known pixel by pixel."""

from pathlib import Path

import numpy as np
from PIL import Image

from atto_det.data import VOC_CLASSES
from atto_det.data.images import write_palette_png


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
