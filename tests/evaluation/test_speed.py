"""Time of the evaluation against pycocotools' COCOeval, on as many images as VOC and COCO have.

pytest tests/evaluation/test_speed.py -m slow -s      prints the times
"""

import contextlib
import io
import time

import numpy as np
import pytest
from pycocotools import mask as rle_masks
from pycocotools.cocoeval import COCOeval

from atto_det.evaluation import Detections, GroundTruth
from atto_det.evaluation.coco import coco_metrics, to_coco
from atto_det.evaluation.protocol import voc_metrics

DETECTIONS, CLASSES, HEIGHT, WIDTH = 100, 20, 375, 500


def ellipse(center: np.ndarray, radii: np.ndarray) -> tuple[dict, np.ndarray]:
    """A wavy-edged ellipse as a run-length mask, and its box."""
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    edge = 1 + 0.1 * np.sin(columns / 5) + 0.1 * np.cos(rows / 7)
    mask = ((columns - center[0]) / radii[0]) ** 2 + ((rows - center[1]) / radii[1]) ** 2 <= edge
    rle = rle_masks.encode(np.asfortranarray(mask, dtype=np.uint8))
    x, y, width, height = rle_masks.toBbox(rle)
    return rle, np.array([x, y, x + width, y + height])


def make_data_set(images: int) -> tuple[dict, dict]:
    """Objects as frequent as VOC's; of the detections a third surround objects of their class."""
    rng = np.random.default_rng(0)
    size = np.array([WIDTH, HEIGHT])
    pool = [ellipse(rng.random(2) * size, rng.uniform(10, 120, 2)) for _ in range(3000)]
    centers = np.array([(box[:2] + box[2:]) / 2 for _, box in pool])
    truth, found = {}, {}
    for number in range(images):
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
@pytest.mark.parametrize("images", [1449, 5000], ids=["VOC 2012 seg val", "COCO val2017"])
def test_the_evaluation_takes_at_most_half_of_cocoeval(images) -> None:
    truth, found = make_data_set(images)
    names = [f"class {k}" for k in range(CLASSES)]
    seconds = {}
    start = time.perf_counter()
    metrics = voc_metrics(truth, found, names)
    seconds["VOC part"] = time.perf_counter() - start
    assert 1 < metrics["AP_m"] < 99  # the data set is neither trivial nor hopeless

    start = time.perf_counter()
    columns = coco_metrics(truth, found, names)
    seconds["COCO part"] = time.perf_counter() - start

    coco_truth, coco_found = to_coco(truth, found, names)
    for kind, name in (("bbox", "box"), ("segm", "mask")):
        judge = COCOeval(coco_truth, coco_found, kind)
        with contextlib.redirect_stdout(io.StringIO()):
            start = time.perf_counter()
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        seconds[f"COCOeval {kind}"] = time.perf_counter() - start
        assert columns[name]["AP"] == 100 * judge.stats[0]

    print(f"\n{images} images × {DETECTIONS} detections, boxes and masks: seconds {seconds}")
    voc, coco, *theirs = seconds.values()
    assert voc <= min(theirs) / 2  # half of even one of the two runs
    assert voc + coco <= sum(theirs) / 2
