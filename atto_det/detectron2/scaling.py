"""Curves of a detector's time and memory over the size of its work, and of a data set's.

Each curve changes one quantity and keeps the rest: see `AXES`. The detectors' work is that of
`benchmark.py`. A data set of N pictures is a COCO JSON with two objects in each, whose pictures are
N links to one file of 64x48 pixels; four detections in each are scored by every metric.
"""

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as rle_masks

from atto_det.complexity.benchmarking import SEED, BenchmarkCase
from atto_det.complexity.latency import Contestant, Mark, measure, peak_memory_of
from atto_det.complexity.scaling import Curve, Point
from atto_det.config import CONFIGS
from atto_det.data import load_coco
from atto_det.data.sample import sample_picture
from atto_det.evaluation import Detections, GroundTruth, evaluate

from . import benchmark
from .config import load_config
from .loader import TrainLoader

AXES = {
    "pixels": tuple(side**2 for side in (320, 512, 800, 1280, 2048)),  # of a square picture
    "detections": (1, 10, 100, 300, 1000),  # of 1000 proposals
    "classes": (1, 10, 100, 300),  # with 1000 proposals, so that one class gives enough
    "batch": (1, 2, 4, 8, 16),
    "threads": (1, 2, 4, 8, 16),  # up to the machine's cores
    "records": (100, 1_000, 10_000, 100_000),
}
HEIGHT, WIDTH, OBJECTS, FOUND, CLASSES = 48, 64, 2, 4, 20


def curve(
    axis: str,
    case: BenchmarkCase,
    *,
    repeats: int = 3,
    warmup: int = 1,
    threads: int | None = None,
    memory: bool = True,
    others: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
    values: Sequence[int] | None = None,
    say: Callable[[str], None] = print,
) -> Curve:
    """Measure one of `AXES` for a detector, or for a data set of generated pictures.

    Args:
        case: what stays the same.
        repeats, warmup, threads, memory, others, say: as in `benchmark.run`.
        values: instead of those in `AXES`, increasing.

    Raises:
        UserError: as `benchmark.run`.
    """
    values = values or AXES[axis]
    if axis == "records":
        work = f"{OBJECTS} objects and {FOUND} detections a picture of {WIDTH}x{HEIGHT} pixels"
        return Curve(axis, work, tuple(_data_set_point(value, memory, say) for value in values))
    if axis == "threads":
        values = [value for value in values if value <= (os.cpu_count() or 1)]
    if axis in ("detections", "classes"):
        case = replace(case, proposals=max(case.proposals or 0, 1000))
    points, before = [], torch.get_num_threads()
    try:
        for value in values:
            changed, own = case, threads
            if axis == "pixels":
                side = round(value**0.5)
                changed = replace(case, height=side, width=side)
            elif axis == "threads":
                own = value
            else:
                changed = replace(case, **{axis: value})
            say(f"{axis}: {value:,}")
            [latency] = benchmark.run(
                [changed],
                repeats=repeats,
                warmup=warmup,
                threads=own,
                memory=memory,
                others=others,
                say=say,
            )
            points.append(Point(value, latency.timing.parts, latency.memory))
    finally:
        torch.set_num_threads(before)
    kept = {
        "pixels": f"{case.height}x{case.width}",
        "proposals": f"{latency.proposals} proposals",
        "detections": f"{latency.detections} detections",
        "batch": f"batches of {case.batch}",
    }
    kept.pop(axis, None)
    work = ", ".join([f"{latency.detector} {case.mode}", *kept.values()])
    return Curve(axis, work, tuple(points))


def _data_set_point(records: int, memory: bool, say: Callable[[str], None]) -> Point:
    say(f"records: {records:,}")
    make = partial(_data_set, records)
    [timing] = measure([make()], 1, warmup=0)
    peak = peak_memory_of(make, imports=[__name__], runs=1) if memory else None
    return Point(records, timing.parts, peak)


def _data_set(records: int) -> Contestant:
    """Reads, starts to train on, and evaluates a data set of so many pictures."""
    folder = tempfile.TemporaryDirectory()  # deleted with the contestant
    path, pictures = _write_data_set(Path(folder.name), records)
    truth, found = _scored(records)

    def run(mark: Mark, _folder: tempfile.TemporaryDirectory = folder) -> None:
        load_coco(path, pictures)
        mark("reading")
        _first_batch(path, pictures)
        mark("start of training, with reading")
        names = [f"class {k}" for k in range(CLASSES)]
        evaluate(
            truth,
            found,
            names,
            split="generated",
            score_floor=0.0,
            detections_per_image=FOUND,
            objects_left_out=0,
            code_version="",
        )
        mark("evaluation")

    return Contestant(f"{records} records", run)


def _write_data_set(folder: Path, records: int) -> tuple[Path, Path]:
    """COCO's JSON, and the folder of its pictures."""
    pictures = folder / "images"
    pictures.mkdir()
    one = folder / "one.jpg"
    pixels = np.ascontiguousarray(sample_picture(HEIGHT, WIDTH, None, SEED).transpose(1, 2, 0))
    Image.fromarray(pixels).save(one)
    random = np.random.default_rng(SEED)
    images, annotations = [], []
    for number in range(1, records + 1):
        (pictures / f"{number}.jpg").symlink_to(one)  # hard links may be limited to 65,000
        size = {"height": HEIGHT, "width": WIDTH}
        images.append({"id": number, "file_name": f"{number}.jpg", **size})
        for x, y, width, height in _boxes(random, OBJECTS).tolist():
            corners = [x, y, x + width, y, x + width, y + height, x, y + height]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": len(annotations) % CLASSES + 1,
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                    "segmentation": [corners],
                }
            )
    categories = [{"id": k + 1, "name": f"class {k}"} for k in range(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path, pictures


def _first_batch(path: Path, pictures: Path) -> None:
    options = [
        *("DATASETS.COCO", repr([["generated", str(path), str(pictures)]])),
        *("DATASETS.TRAIN", "('generated',)", "DATASETS.TEST", "()"),
        *("DATALOADER.NUM_WORKERS", "0", "MODEL.DEVICE", "cpu"),
    ]
    loader = TrainLoader(load_config(CONFIGS / "atto_maskrcnn_tiny_voc.yaml", options))
    next(iter(loader))


def _scored(records: int) -> tuple[dict[str, GroundTruth], dict[str, Detections]]:
    """The objects of each picture, and detections of which half are objects, moved a little."""
    random = np.random.default_rng(SEED)
    truth, found = {}, {}
    for number in range(records):
        boxes = _boxes(random, OBJECTS)
        moved = np.concatenate([boxes + random.integers(0, 3, boxes.shape), _boxes(random, FOUND)])
        moved = moved[:FOUND]
        classes = random.integers(0, CLASSES, OBJECTS)
        labels = np.concatenate([classes, random.integers(0, CLASSES, FOUND - OBJECTS)])
        truth[str(number)] = GroundTruth(*_shapes(boxes), classes, np.zeros(OBJECTS, bool))
        found[str(number)] = Detections(*_shapes(moved), labels, random.random(FOUND))
    return truth, found


def _boxes(random: np.random.Generator, number: int) -> np.ndarray:
    """x, y, width, height of boxes that lie inside the picture, even if moved and grown by 2."""
    corners = random.integers(0, (WIDTH // 2, HEIGHT // 2), (number, 2))
    sides = random.integers(8, (WIDTH // 2 - 4, HEIGHT // 2 - 4), (number, 2))
    return np.concatenate([corners, sides], axis=1)


def _shapes(boxes: np.ndarray) -> tuple[np.ndarray, list[dict]]:
    """Corners of boxes, and masks that fill them."""
    corners = boxes.astype(float)
    corners[:, 2:] += corners[:, :2]
    return corners, rle_masks.frPyObjects(boxes.astype(float), HEIGHT, WIDTH)
