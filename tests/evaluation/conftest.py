"""Short ways to write objects and detections; masks are the boxes unless said otherwise."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from rectangles import rectangle

from atto_det.evaluation import Detections, GroundTruth, evaluate


def columns(rows: Sequence[tuple], last_kind: type) -> tuple:
    """(class, score or difficult, box[, box of the mask]) per row → the dataclasses' arrays."""
    return (
        np.array([row[2] for row in rows], dtype=float).reshape(-1, 4),
        [rectangle(60, 60, row[-1]) for row in rows],
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
