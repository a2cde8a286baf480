"""The report on errors: its content by hand, and a page that stands alone."""

import json
import re

import numpy as np
import pytest
from rectangles import rectangle

from atto_det.errors import UserError
from atto_det.evaluation import Detections, GroundTruth
from atto_det.reports.errors import analyse
from atto_det.reports.errors_html import page

NAMES = ["cat", "<dog>"]


def rle(x1: int, x2: int) -> dict:
    return rectangle(30, 40, (x1, 5, x2, 25))


def boxes(*spans) -> np.ndarray:
    return np.array([[x1, 5, x2, 25] for x1, x2 in spans], float).reshape(-1, 4)


def scene(with_masks: bool):
    spans = [(0, 10), (20, 40)]
    truth = {
        "one": GroundTruth(
            boxes(*spans), [rle(*s) for s in spans], np.array([0, 1]), np.zeros(2, bool)
        ),
        "two": GroundTruth(boxes((0, 10)), [rle(0, 10)], np.array([0]), np.zeros(1, bool)),
    }
    found_spans = [(0, 8), (20, 40), (12, 18)]
    rles = [rle(*s) for s in found_spans] if with_masks else None
    found = {
        "one": Detections(boxes(*found_spans), rles, np.array([0, 0, 1]), np.array([0.9, 0.8, 0.3]))
    }
    return truth, found


@pytest.mark.parametrize("with_masks", [True, False])
def test_content_by_hand(with_masks):
    content = analyse(*scene(with_masks), NAMES, split="val", score=0.5)
    assert list(content["kinds"]) == (["box", "mask"] if with_masks else ["box"])
    counts = content["kinds"]["box"]["counts"]
    assert counts == {
        "classification": 1,
        "localisation": 0,
        "both": 0,
        "duplicate": 0,
        "background": 1,
        "missed": 1,
    }
    # Above 0.5 a cat is found, a dog taken for a cat, a cat not found.
    assert content["confusion"] == [[1, 0, 1], [1, 0, 0], [0, 0, 0]]
    assert content["worst"] == [
        {"image": "one", "wrong": 1, "unfound": 1, "objects": 2},
        {"image": "two", "wrong": 0, "unfound": 1, "objects": 1},
    ]
    # All are small. One of two cats is found, at 7 of COCO's 10 thresholds, and no dog: precision
    # is 1 at 51 of 101 recalls, and half the cats are found, in the mean with a class of 0.
    figures = {"AP": pytest.approx(100 * 0.7 * 51 / 101 / 2), "AR": pytest.approx(100 * 0.7 / 4)}
    unknown = {"AP": None, "AR": None}
    assert content["sizes"] == {
        "small": {"objects": 3, **dict.fromkeys(content["kinds"], figures)},
        "medium": {"objects": 0, **dict.fromkeys(content["kinds"], unknown)},
        "large": {"objects": 0, **dict.fromkeys(content["kinds"], unknown)},
    }
    if with_masks:
        # Strips of one pixel (2 % of 50): 20 × 10 has 56 pixels, 20 × 8 has 52. Common are the
        # left columns (20) and the rest of both ends of the narrower one (2 · 7).
        assert content["boundary"]["pairs"] == 1
        assert content["boundary"]["mask_iou"] == pytest.approx(0.8)
        assert content["boundary"]["boundary_iou"] == pytest.approx(34 / (56 + 52 - 34))
    else:
        assert content["boundary"] is None
    json.dumps(content, allow_nan=False)


def test_the_page_stands_alone():
    content = analyse(*scene(True), NAMES, split="val", score=0.5)
    content |= {"title": "Errors of <a>", "remarks": ["2 pictures"]}
    text = page(content, [("one: 1 wrong", b"\xff\xd8jpeg")])
    assert "<dog>" not in text
    assert "&lt;dog&gt;" in text
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    assert "http" not in text
    assert "<td>small</td><td>3</td><td>17.7</td><td>17.5</td>" in text
    assert "<td>large</td><td>0</td><td>–</td>" in text
    assert text.count("<svg") == 2 + 2  # a curve a class, a calibration a kind


def test_without_any_detection():
    truth, _ = scene(True)
    content = analyse(truth, {}, NAMES, split="val", score=0.5)
    assert content["kinds"]["mask"]["counts"]["missed"] == 3
    assert content["boundary"] is None
    page({**content, "title": "t", "remarks": []}, [])


def test_a_confusion_matrix_of_many_classes_shows_those_that_occur():
    truth, found = scene(True)
    names = [f"class {k}" for k in range(300)]
    content = analyse(truth, found, names, split="val", score=0.5)
    text = page({**content, "title": "t", "remarks": []}, [])
    matrix = text[text.index('class="scroll confusion"') : text.index("Precision by recall")]
    assert matrix.count("<tr>") == 1 + 2 + 1  # two classes of objects, and none
    assert len(text) < 30_000
    assert "detections above the score: 298 classes" in text


def test_a_data_set_without_pictures_is_refused():
    with pytest.raises(UserError, match="val has no image to evaluate on"):
        analyse({}, {}, NAMES, split="val", score=0.5)
