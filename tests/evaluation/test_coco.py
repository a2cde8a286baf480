"""The COCO columns against figures worked by hand, and AP_m against COCOeval where they agree."""

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as rle_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from atto_det.evaluation import Detections, GroundTruth
from atto_det.evaluation.arrays import mask_areas
from atto_det.evaluation.average_precision import class_ap
from atto_det.evaluation.coco import COLUMNS, SIZES, coco_metrics, to_coco
from atto_det.evaluation.matching import find_overlaps

WHOLE = (0, 0, 10, 50)


def all_small(aps: list[float], recall: float) -> object:
    """Every object is small, and found by the first detection of its class or not at all."""
    values = [*aps, aps[0], None, None, recall, recall, recall, recall, None, None]
    return pytest.approx(dict(zip(COLUMNS, values, strict=True)))


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
        box, mask = 100 * (7 + 3 * low) / 10, 100 * (5 + 5 * low) / 10
        assert coco["box"] == all_small([box, 100, 100], recall=100 * (7 + 3 * 0.5) / 10)
        # Masks: right at .5, .55, … .7 (five), wrong at the other five.
        assert coco["mask"] == all_small([mask, 100, 100 * low], recall=100 * (5 + 5 * 0.5) / 10)


def test_the_mean_is_over_the_classes_that_have_objects(truth, found, score) -> None:
    objects = {"1": truth((0, False, WHOLE), (2, False, (20, 0, 30, 50)))}
    detections = {"1": found((0, 0.9, WHOLE), (1, 0.9, WHOLE))}
    coco = score(objects, detections, ("cat", "dog", "cow"))["coco"]
    assert coco["box"] == all_small([50, 50, 50], recall=50)


def test_sizes_and_numbers_of_detections_by_hand(truth, found, score) -> None:
    """A small, a medium and a large object of a class; the medium one is found second, no large."""
    small, medium, large = (0, 0, 32, 32), (50, 0, 83, 32), (0, 50, 97, 147)
    objects = {"1": truth(*((0, False, box) for box in (small, medium, large)))}
    detections = {"1": found((0, 0.9, small), (0, 0.8, medium), (0, 0.7, (100, 100, 120, 120)))}
    for side in (objects, detections):  # the masks' canvas is smaller
        side["1"] = replace(side["1"], rles=None)
    wanted = {
        # Right, right, wrong: precision 1 up to recall 2/3, that is at 67 of the 101 recalls.
        **dict.fromkeys(("AP", "AP50", "AP75"), 100 * 67 / 101),
        # Each size alone. 32² pixels are small and medium to COCO: a range's ends belong to it.
        **{"AP_small": 100, "AP_medium": 100, "AP_large": 0},
        **{"AR1": 100 / 3, "AR10": 200 / 3, "AR100": 200 / 3},
        **{"AR_small": 100, "AR_medium": 100, "AR_large": 0},
    }
    coco = score(objects, detections)["coco"]
    assert coco["box"] == pytest.approx(wanted)
    assert tuple(coco["box"]) == COLUMNS


def test_as_many_are_looked_at_as_the_detector_may_give(truth, found, score) -> None:
    wrong = [(0, 0.9, (20, 0, 30, 10))] * 100
    objects = {"1": truth((0, False, WHOLE))}
    result = score(objects, {"1": found(*wrong, (0, 0.8, WHOLE))}, detections_per_image=101)
    assert result["coco"]["mask"]["AP50"] == pytest.approx(100 / 101)
    assert result["AP_m"] == pytest.approx(100 / 101)
    result = coco_metrics(objects, {"1": found(*wrong, (0, 0.8, WHOLE))}, ("cat",))
    assert result["mask"]["AP50"] == 0  # COCO's own hundred


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("masks", [True, False])
def test_the_columns_are_cocos_own_crowd_regions_included(seed: int, masks: bool) -> None:
    """Against COCOeval as COCO's users run it, from JSON that is put together here."""
    rng = np.random.default_rng(seed)
    content = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": k + 1, "name": name} for k, name in enumerate("ab")]
    results, truth, detections = [], {}, {}

    def things(count: int) -> tuple:
        corners = rng.integers(0, 40, (count, 2))
        extents = rng.choice([3, 9, 27], (count, 1)) * rng.uniform(1, 6, (count, 2))
        boxes = np.hstack([corners, corners + extents.astype(int)]).astype(float)
        images = np.zeros((count, 210, 210), np.uint8)
        for image, (x1, y1, x2, y2) in zip(images, boxes.astype(int), strict=True):
            image[y1:y2, x1:x2] = rng.random((y2 - y1, x2 - x1)) < 0.8
        rles = [rle_masks.encode(np.asfortranarray(image)) for image in images]
        return boxes, rles, rng.integers(0, 2, count)

    for number in range(1, 16):
        boxes, rles, classes = things(12)
        crowd, hard = rng.random(12) < 0.3, np.zeros(12, bool)
        truth[str(number)] = GroundTruth(boxes, rles if masks else None, classes, hard, crowd)
        moved = boxes + rng.integers(-2, 3, boxes.shape) * [1, 1, 0, 0]
        others, other_rles, other_classes = things(10)
        boxes_found = np.vstack([moved, others])
        rles_found, classes_found = rles + other_rles, np.concatenate([classes, other_classes])
        scores = rng.random(22).round(3)
        detections[str(number)] = Detections(
            boxes_found, rles_found if masks else None, classes_found, scores
        )
        content["images"].append({"id": number, "height": 210, "width": 210})
        for box, rle, k, is_crowd in zip(boxes, rles, classes, crowd, strict=True):
            xywh = [*box[:2], *(box[2:] - box[:2])]
            content["annotations"].append(
                {"id": len(content["annotations"]) + 1, "image_id": number, "category_id": k + 1,
                 "bbox": xywh, "iscrowd": int(is_crowd), "segmentation": rle,
                 "area": float(rle_masks.area(rle)) if masks else xywh[2] * xywh[3]}
            )  # fmt: skip
        for box, rle, k, value in zip(boxes_found, rles_found, classes_found, scores, strict=True):
            xywh = [*box[:2], *(box[2:] - box[:2])]
            results.append(
                {"image_id": number, "category_id": int(k) + 1, "score": value,
                 "bbox": xywh, "segmentation": rle}
            )  # fmt: skip
    ours = coco_metrics(truth, detections, ("a", "b"))
    assert (ours["mask"]["AP"] is None) == (not masks)
    with contextlib.redirect_stdout(io.StringIO()):
        official = COCO()
        official.dataset = content
        official.createIndex()
        for name, kind in (("box", "bbox"), ("mask", "segm"))[: 1 + masks]:
            # As Detectron2 gives them: with boxes beside masks, COCO takes the boxes' areas.
            other = "segmentation" if kind == "bbox" else "bbox"
            own = [{k: v for k, v in row.items() if k != other} for row in results]
            judge = COCOeval(official, official.loadRes(own), kind)
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
            wanted = dict(zip(COLUMNS, 100 * judge.stats, strict=True))
            assert ours[name] == pytest.approx(wanted, abs=1e-9)
            assert min(wanted.values()) > 1
            assert wanted["AP"] < 90
            assert len({wanted[f"AP_{size}"] for size in SIZES}) == len(SIZES)


@pytest.mark.slow
def test_a_thousand_objects_and_a_thousand_detections(truth, found, score) -> None:
    """pycocotools' `area` of a list is wrong from 256 masks on."""
    boxes = [(x, y, x + 1, y + 1) for x in range(40) for y in range(25)]
    objects = {"1": truth(*((0, False, box) for box in boxes))}
    detections = {"1": found(*((0, 0.9 - k / 2000, box) for k, box in enumerate(boxes)))}
    result = score(objects, detections, detections_per_image=1000)
    assert result["AP_m"] == result["coco"]["mask"]["AP"] == pytest.approx(100)
    assert result["protocol"]["most_objects"] == 1000
    assert mask_areas(detections["1"].rles).tolist() == [1] * 1000
    assert mask_areas([]).tolist() == []


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
