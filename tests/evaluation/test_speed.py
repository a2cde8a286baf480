"""Time of the VOC part against pycocotools' COCOeval, on as many images as VOC's seg val has.

pytest tests/evaluation/test_speed.py -s      prints both times
"""

import contextlib
import io
import time

import numpy as np
import pytest
from pycocotools import mask as rle_masks
from pycocotools.cocoeval import COCOeval

from atto_det.evaluation import Detections, GroundTruth
from atto_det.evaluation.coco import to_coco
from atto_det.evaluation.protocol import voc_metrics

IMAGES, DETECTIONS, CLASSES, HEIGHT, WIDTH = 1449, 100, 20, 375, 500


def ellipse(center: np.ndarray, radii: np.ndarray) -> tuple[dict, np.ndarray]:
    """A wavy-edged ellipse as a run-length mask, and its box."""
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    edge = 1 + 0.1 * np.sin(columns / 5) + 0.1 * np.cos(rows / 7)
    mask = ((columns - center[0]) / radii[0]) ** 2 + ((rows - center[1]) / radii[1]) ** 2 <= edge
    rle = rle_masks.encode(np.asfortranarray(mask, dtype=np.uint8))
    x, y, width, height = rle_masks.toBbox(rle)
    return rle, np.array([x, y, x + width, y + height])


def make_data_set() -> tuple[dict, dict]:
    """Objects as frequent as VOC's; of the detections a third surround objects of their class."""
    rng = np.random.default_rng(0)
    size = np.array([WIDTH, HEIGHT])
    pool = [ellipse(rng.random(2) * size, rng.uniform(10, 120, 2)) for _ in range(3000)]
    centers = np.array([(box[:2] + box[2:]) / 2 for _, box in pool])
    truth, found = {}, {}
    for number in range(IMAGES):
        count = max(1, rng.poisson(2.4))
        objects = rng.integers(len(pool), size=count)
        classes = rng.integers(CLASSES, size=count)
        picks = rng.integers(len(pool), size=DETECTIONS)
        labels = rng.integers(CLASSES, size=DETECTIONS)
        for k in range(DETECTIONS // 3):
            target = rng.integers(count)
            nearest = np.abs(centers - centers[objects[target]]).sum(axis=1).argpartition(15)
            picks[k], labels[k] = rng.choice(nearest[:15]), classes[target]
        truth[str(number)] = GroundTruth(
            np.stack([pool[i][1] for i in objects]),
            [pool[i][0] for i in objects],
            classes,
            rng.random(count) < 0.05,
        )
        found[str(number)] = Detections(
            np.stack([pool[i][1] for i in picks]),
            [pool[i][0] for i in picks],
            labels,
            rng.random(DETECTIONS),
        )
    return truth, found


@pytest.mark.slow
def test_the_voc_part_takes_at_most_half_of_cocoeval() -> None:
    truth, found = make_data_set()
    names = [f"class {k}" for k in range(CLASSES)]

    start = time.perf_counter()
    metrics = voc_metrics(truth, found, names)
    ours = time.perf_counter() - start
    assert 1 < metrics["AP_m"] < 99  # the data set is neither trivial nor hopeless

    with contextlib.redirect_stdout(io.StringIO()):
        coco_truth, coco_found = to_coco(truth, found, names)
        theirs = {}
        for kind in ("bbox", "segm"):
            judge = COCOeval(coco_truth, coco_found, kind)
            start = time.perf_counter()
            judge.evaluate()
            judge.accumulate()
            theirs[kind] = time.perf_counter() - start

    print(
        f"\n{IMAGES} images × {DETECTIONS} detections: VOC part (boxes and masks, all thresholds) "
        f"{ours:.2f} s; COCOeval bbox {theirs['bbox']:.2f} s, segm {theirs['segm']:.2f} s"
    )
    assert ours <= min(theirs.values()) / 2  # half of even one of the two runs that it replaces
