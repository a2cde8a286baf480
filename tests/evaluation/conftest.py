"""Short ways to write objects and detections; masks are the boxes unless said otherwise."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from pycocotools import mask as rle_masks

from atto_det.evaluation import Detections, GroundTruth, evaluate

SIZE = (60, 60)


def rectangle(box: Sequence[float]) -> dict:
    """The mask of the pixels inside a box with whole-numbered corners."""
    mask = np.zeros(SIZE, dtype=np.uint8, order="F")
    x1, y1, x2, y2 = (round(value) for value in box)
    mask[y1:y2, x1:x2] = 1
    return rle_masks.encode(mask)


def columns(rows: Sequence[tuple], last_kind: type) -> tuple:
    """(class, score or difficult, box[, box of the mask]) per row → the dataclasses' arrays."""
    return (
        np.array([row[2] for row in rows], dtype=float).reshape(-1, 4),
        [rectangle(row[-1]) for row in rows],
        np.array([row[0] for row in rows], dtype=np.int64),
        np.array([row[1] for row in rows], dtype=last_kind),
    )


@pytest.fixture(scope="session")
def truth() -> Callable[..., GroundTruth]:
    """truth((class, difficult, box[, box of the mask]), …) → objects of one image."""
    return lambda *rows: GroundTruth(*columns(rows, bool))


@pytest.fixture(scope="session")
def found() -> Callable[..., Detections]:
    """found((class, score, box[, box of the mask]), …) → detections in one image."""
    return lambda *rows: Detections(*columns(rows, float))


@pytest.fixture(scope="session")
def score() -> Callable[..., dict]:
    """`evaluate` with class names cat and dog, and a protocol to be overridden."""

    def run(ground_truth: dict, detections: dict, class_names=("cat", "dog"), **options) -> dict:
        protocol = {
            "split": "toy",
            "score_floor": 0.05,
            "detections_per_image": 200,
            "objects_left_out": 0,
            "code_version": "0",
        }
        return evaluate(ground_truth, detections, class_names, **{**protocol, **options})

    return run
