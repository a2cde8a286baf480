"""Errors by kind: by hand, and equal to the program of TIDE's authors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rectangles import rectangle

from atto_det.evaluation import Detections, GroundTruth
from atto_det.evaluation.tide import (
    ERROR_KINDS,
    RIGHT,
    boundary_iou,
    calibration,
    confusion_matrix,
    error_costs,
    judge,
    precision_recall,
)

SIZE = (40, 60)


def rle(box) -> dict:
    """The rectangle of a box as a mask."""
    return rectangle(*SIZE, box)


def truth(*rows) -> GroundTruth:
    """Objects from (class, x1, y1, x2, y2)."""
    rows = np.array(rows, dtype=float).reshape(-1, 5)
    boxes = rows[:, 1:]
    classes = rows[:, 0].astype(int)
    return GroundTruth(boxes, [rle(box) for box in boxes], classes, np.zeros(len(rows), bool))


def found(*rows) -> Detections:
    """Detections from (class, score, x1, y1, x2, y2)."""
    rows = np.array(rows, dtype=float).reshape(-1, 6)
    boxes = rows[:, 2:]
    return Detections(boxes, [rle(box) for box in boxes], rows[:, 0].astype(int), rows[:, 1])


OBJECTS = {
    "a": truth((0, 0, 0, 20, 10), (1, 30, 0, 50, 10), (0, 0, 20, 10, 40), (1, 40, 20, 60, 40)),
    "b": truth((0, 10, 10, 20, 20)),
}
DETECTIONS = {
    "a": found(
        (0, 0.9, 0, 0, 20, 10),  # right
        (0, 0.8, 1, 0, 20, 10),  # again: a duplicate
        (0, 0.7, 30, 0, 50, 10),  # on an object of class 1
        (0, 0.6, 0, 32, 10, 40),  # 80 of 200 pixels of the third object
        (0, 0.5, 45, 30, 55, 40),  # a quarter of the fourth, which is of class 1
        (1, 0.4, 20, 25, 25, 30),  # on nothing
    ),
}


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_one_error_of_each_kind(kind):
    verdicts = judge(OBJECTS, DETECTIONS, kind)
    wanted = [RIGHT, "duplicate", "classification", "localisation", "both", "background"]
    assert verdicts.kinds.tolist() == wanted
    assert verdicts.targets.tolist() == [0, -1, 1, 2, -1, -1]
    assert verdicts.mends.tolist() == [False, False, True, True, False, False]
    assert verdicts.found.tolist() == [True, False, False, False, False]
    assert verdicts.missed.tolist() == [False, False, False, True, True]
    result = error_costs(verdicts)
    assert result["counts"] == dict.fromkeys(ERROR_KINDS, 1) | {"missed": 2}
    # Class 0 has three objects and one find, first: precision 1 up to recall 1/3, which is 34 of
    # the 101 points. Class 1 finds nothing.
    assert result["AP"] == pytest.approx(100 * 34 / 101 / 2)
    # The class put right, class 1 has its best detection right: half of two objects.
    assert result["costs"]["classification"] == pytest.approx(100 * 51 / 101 / 2)
    # The place put right, class 0 finds a second object at rank 4: precision 1/2 to recall 2/3.
    assert result["costs"]["localisation"] == pytest.approx(100 * (67 - 34) / 101 / 2 / 2)
    assert result["costs"]["background"] == result["costs"]["both"] == 0
    # One object of each class less: class 0 has found half of its two.
    assert result["costs"]["missed"] == pytest.approx(100 * (51 - 34) / 101 / 2)


def test_an_object_is_mended_once_by_its_surest_error():
    objects = {"a": truth((0, 0, 0, 20, 20))}
    wrong = {"a": found((0, 0.5, 0, 0, 20, 8), (1, 0.6, 0, 0, 20, 20), (0, 0.4, 0, 0, 9, 20))}
    verdicts = judge(objects, wrong, "box")
    assert verdicts.kinds.tolist() == ["classification", "localisation", "localisation"]
    assert verdicts.mends.tolist() == [True, False, False]
    assert not verdicts.missed.any()


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_what_lies_on_a_crowd_region_does_not_count(kind):
    rows = truth((0, 0, 0, 10, 10), (0, 20, 0, 60, 40), (1, 30, 0, 40, 10))
    crowd = np.array([False, True, False])
    objects = {"a": GroundTruth(rows.boxes, rows.rles, rows.classes, rows.difficult, crowd)}
    detections = {
        "a": found(
            (0, 0.9, 0, 0, 10, 10),  # right
            (0, 0.8, 20, 0, 30, 10),  # wholly on the region
            (0, 0.7, 30, 0, 40, 10),  # also on an object of class 1
            (1, 0.6, 20, 20, 30, 30),  # on the region, of another class
            (0, 0.5, 14, 0, 24, 10),  # four tenths on it
        )
    }
    verdicts = judge(objects, detections, kind)
    assert verdicts.scores.tolist() == [0.9, 0.6, 0.5]
    assert verdicts.kinds.tolist() == [RIGHT, "background", "background"]
    assert verdicts.rows.tolist() == [0, 3, 4]
    assert verdicts.found.tolist() == [True, False]
    assert error_costs(verdicts)["AP"] == pytest.approx(50)  # class 1 finds nothing
    matrix = confusion_matrix(objects, detections, 2, kind=kind, score=0.5)
    assert matrix.tolist() == [[1, 0, 0], [1, 0, 0], [1, 1, 0]]


def test_images_without_objects_or_detections():
    objects = {"empty": truth(), "blind": truth((1, 0, 0, 9, 9))}
    verdicts = judge(objects, {"empty": found((0, 0.9, 0, 0, 5, 5))}, "mask")
    assert verdicts.kinds.tolist() == ["background"]
    assert verdicts.missed.tolist() == [True]
    assert error_costs(verdicts)["AP"] == 0
    nothing = judge({"empty": truth()}, {}, "box")
    assert error_costs(nothing)["counts"] == dict.fromkeys(ERROR_KINDS, 0)


@st.composite
def scene(draw):
    """Three images of random objects and detections near them, no two scores equal."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    objects, detections = {}, {}
    scores = iter(random.permutation(np.linspace(0.05, 0.99, 200)))
    for image in "abc":
        count = draw(st.integers(0, 6))
        corners = random.integers(0, (40, 20), (count, 2))
        sides = random.integers(5, 20, (count, 2))
        boxes = np.concatenate([corners, corners + sides], axis=1)
        objects[image] = truth(*((random.integers(0, 3), *box) for box in boxes))
        rows = []
        for box in np.repeat(boxes, 3, axis=0) if count else [[5, 5, 20, 20]]:
            moved = np.clip(box + random.integers(-5, 6, 4), 0, (58, 38, 60, 40))
            moved[2:] = np.maximum(moved[2:], moved[:2] + 1)
            rows.append((random.integers(0, 3), next(scores), *moved))
        detections[image] = found(*rows)
    return objects, detections


@pytest.mark.parametrize("kind", ["box", "mask"])
@settings(max_examples=40)
@given(scene())
def test_equal_to_the_authors_program(kind, both):
    tidecv = pytest.importorskip("tidecv", reason="tidecv is not installed")
    objects, detections = both
    if not any(len(one.classes) for one in objects.values()):
        return
    truths, guesses = tidecv.Data("truth"), tidecv.Data("found")
    for number, image in enumerate(objects):
        truths.add_image(number, image)  # one without objects is looked at, too
    for number, (image, one) in enumerate(objects.items()):
        for index, box in enumerate(one.boxes):
            size = [*box[:2], *(box[2:] - box[:2])]
            truths.add_ground_truth(number, int(one.classes[index]), size, one.rles[index])
        some = detections[image]
        for index, box in enumerate(some.boxes):
            size = [*box[:2], *(box[2:] - box[:2])]
            guesses.add_detection(
                number, int(some.classes[index]), float(some.scores[index]), size, some.rles[index]
            )
    run = tidecv.TIDE().evaluate(
        truths, guesses, mode=tidecv.TIDE.BOX if kind == "box" else tidecv.TIDE.MASK
    )
    ours = error_costs(judge(objects, detections, kind))
    assert ours["AP"] == pytest.approx(run.ap, abs=1e-9)
    names = dict(zip(("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"), ERROR_KINDS, strict=True))
    for error, cost in run.fix_main_errors().items():
        assert ours["costs"][names[error.short_name]] == pytest.approx(cost, abs=1e-9)
    for error, count in run.count_errors().items():
        assert ours["counts"][names[error.short_name]] == count
    special = {error.short_name: cost for error, cost in run.fix_special_errors().items()}
    assert ours["false_positives"] == pytest.approx(special["FalsePos"], abs=1e-9)
    assert ours["false_negatives"] == pytest.approx(special["FalseNeg"], abs=1e-9)


def test_confusion_by_hand():
    matrix = confusion_matrix(OBJECTS, DETECTIONS, 2, kind="box", score=0.45)
    # Found as 0: the first object, and the second, of class 1. The duplicate, the piece of the
    # third and the quarter of the fourth lie on nothing.
    assert matrix.tolist() == [[1, 0, 2], [1, 0, 1], [3, 0, 0]]
    assert confusion_matrix(OBJECTS, {}, 2, kind="mask", score=0.5).tolist() == [
        [0, 0, 3],
        [0, 0, 2],
        [0, 0, 0],
    ]


def test_curves_and_calibration_by_hand():
    verdicts = judge(OBJECTS, DETECTIONS, "box")
    recall, precision = precision_recall(verdicts, 2)[0]
    assert recall.tolist() == pytest.approx([1 / 3] * 5)
    assert precision.tolist() == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
    result = calibration(verdicts, bins=2)
    assert result["count"] == [1, 5]
    assert result["score"] == pytest.approx([0.4, 0.7])
    assert result["precision"] == pytest.approx([0, 0.2])
    assert result["error"] == pytest.approx((0.4 + 5 * 0.5) / 6)


def test_boundary_iou_by_hand():
    """A diagonal of 72.1 pixels: strips of one pixel. Of squares of 10 they have 36 pixels."""
    square, shifted = rle((10, 10, 20, 20)), rle((11, 10, 21, 20))
    assert boundary_iou(square, square) == 1
    # Common: rows 10 and 19 share columns 11 to 19, 9 pixels each; the columns share nothing else.
    assert boundary_iou(square, shifted) == pytest.approx(18 / (36 + 36 - 18))
    assert boundary_iou(square, rle((40, 10, 50, 20))) == 0
