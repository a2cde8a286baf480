"""The COCO columns against figures worked by hand, and AP_m against COCOeval where they agree."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools import mask as rle_masks
from pycocotools.cocoeval import COCOeval

from atto_det.evaluation import Detections, GroundTruth
from atto_det.evaluation.average_precision import class_ap
from atto_det.evaluation.coco import to_coco
from atto_det.evaluation.matching import find_overlaps

WHOLE = (0, 0, 10, 50)


def test_golden_columns(truth, found, score) -> None:
    objects = {"1": truth((0, False, WHOLE)), "2": truth((0, True, WHOLE))}
    detections = {
        # Box IoU 41/50 = .82, mask IoU 36/50 = .72.
        "1": found((0, 0.9, (0, 0, 10, 41), (0, 0, 10, 36))),
        "2": found((0, 0.8, WHOLE)),
    }
    # Where the first is right: both right, 1 at all 101 recalls. Where it is wrong: precision 1/2
    # up to recall .5, that is at 51 of the 101 recalls.
    low = 51 * 0.5 / 101
    for counts in (True, False):  # every object counts here, difficult ones too
        coco = score(objects, detections, difficult_counts=counts)["coco"]
        # Boxes: right at .5, .55, … .8 (seven thresholds), wrong at .85, .9, .95.
        assert coco["box"] == pytest.approx(
            {"AP": 100 * (7 + 3 * low) / 10, "AP50": 100, "AP75": 100}
        )
        # Masks: right at .5, .55, … .7 (five), wrong at the other five.
        assert coco["mask"] == pytest.approx(
            {"AP": 100 * (5 + 5 * low) / 10, "AP50": 100, "AP75": 100 * low}
        )


def test_the_mean_is_over_the_classes_that_have_objects(truth, found, score) -> None:
    objects = {"1": truth((0, False, WHOLE), (2, False, (20, 0, 30, 50)))}
    detections = {"1": found((0, 0.9, WHOLE), (1, 0.9, WHOLE))}
    coco = score(objects, detections, ("cat", "dog", "cow"))["coco"]
    assert coco["box"] == pytest.approx({"AP": 50, "AP50": 50, "AP75": 50})


def test_only_the_best_hundred_of_an_image_and_class_are_looked_at(truth, found, score) -> None:
    wrong = [(0, 0.9, (20, 0, 30, 10))] * 100
    objects = {"1": truth((0, False, WHOLE))}
    result = score(objects, {"1": found(*wrong, (0, 0.8, WHOLE))})
    assert result["coco"]["mask"]["AP50"] == 0
    assert result["AP_m"] == pytest.approx(100 / 101)
    result = score(objects, {"1": found(*wrong[1:], (0, 0.8, WHOLE))})
    assert result["coco"]["mask"]["AP50"] == pytest.approx(100 / 100)


def random_image(rng: np.random.Generator) -> tuple[GroundTruth, Detections]:
    """Objects that do not share pixels, so that VOC's and COCO's matching are the same."""
    labels = np.repeat(np.repeat(rng.integers(0, 4, (5, 5)), 6, 0), 6, 1)
    objects = [labels == k for k in range(1, 4) if (labels == k).any()]
    finds = []
    for _ in range(8):
        find = objects[rng.integers(len(objects))].copy() if objects else labels > 0
        find ^= rng.random(find.shape) < rng.choice([0.0, 0.1, 0.2, 0.4])
        finds.append(find)

    def encode(masks: list) -> list:
        return [rle_masks.encode(np.asfortranarray(m, dtype=np.uint8)) for m in masks]

    zeros = np.zeros
    return (
        GroundTruth(
            zeros((len(objects), 4)), encode(objects), zeros(len(objects), int),
            zeros(len(objects), bool),
        ),
        Detections(zeros((8, 4)), encode(finds), zeros(8, int), rng.integers(1, 9, 8) / 10),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_mask_ap_agrees_with_cocoeval_on_disjoint_objects(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = [random_image(rng) for _ in range(12)]
    truth = {str(k): pair[0] for k, pair in enumerate(pairs)}
    found = {str(k): pair[1] for k, pair in enumerate(pairs)}
    positives = sum(len(objects.classes) for objects in truth.values())

    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(*to_coco(truth, found, ["thing"]), "segm")
        # With every recall that can occur instead of 101 fixed ones, its mean is the area.
        judge.params.recThrs = np.arange(1, positives + 1) / positives
        judge.params.iouThrs = np.array([0.6, 0.7, 0.75])
        judge.evaluate()
        judge.accumulate()
    theirs = judge.eval["precision"][:, :, 0, 0, -1].mean(axis=1)

    overlaps = find_overlaps(truth, found)
    ours = [
        class_ap(overlaps, 0, "mask", threshold=t, difficult_counts=True, style="area")
        for t in (0.6, 0.7, 0.75)
    ]
    assert ours == pytest.approx(list(100 * theirs))
    assert 5 < min(ours) < max(ours) < 95  # the case is neither trivial nor hopeless
