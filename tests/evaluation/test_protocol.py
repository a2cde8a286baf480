"""Cases small enough to work by hand; each says how."""

import json
from dataclasses import replace

import numpy as np
import pytest

from atto_det.errors import UserError
from atto_det.evaluation.coco import COLUMNS

A, B, C = (0, 0, 10, 10), (20, 20, 30, 30), (40, 0, 50, 10)  # apart from each other


def test_a_duplicate_is_wrong(truth, found, score) -> None:
    objects = {"1": truth((0, False, A), (0, False, B))}
    detections = {"1": found((0, 0.9, A), (0, 0.8, A), (0, 0.7, B))}
    # Right, wrong, right: precision 1 at recall 1/2 and 2/3 at recall 1.
    result = score(objects, detections)
    assert result["AP_d"] == pytest.approx(100 * (1 / 2 + 2 / 3 / 2))
    assert result["AP_m"] == result["AP_d"]
    # Recalls 0 to .5 are six points of precision 1, .6 to 1 are five of 2/3.
    result = score(objects, detections, style="11point")
    assert result["AP_d"] == pytest.approx(100 * (6 * 1 + 5 * 2 / 3) / 11)


def test_precision_counts_as_the_best_at_that_recall_or_beyond(truth, found, score) -> None:
    objects = {"1": truth((0, False, A), (0, False, B))}
    detections = {"1": found((0, 0.9, C), (0, 0.8, A), (0, 0.7, B))}
    # Wrong, right, right: precisions 1/2 and 2/3, of which the first is lifted to 2/3.
    assert score(objects, detections)["AP_d"] == pytest.approx(100 * 2 / 3)
    assert score(objects, detections, style="11point")["AP_d"] == pytest.approx(100 * 2 / 3)


def test_eleven_points_reach_a_recall_that_floats_miss(truth, found, score) -> None:
    boxes = [(6 * k, 0, 6 * k + 5, 5) for k in range(10)]
    objects = {"1": truth(*((0, False, box) for box in boxes))}
    detections = {"1": found(*((0, 0.9, box) for box in boxes[:3]))}
    # Recall 3/10 reaches the points 0, .1, .2 and .3, though 0.1 * 3 > 3 / 10 in floats.
    assert score(objects, detections, style="11point")["AP_d"] == pytest.approx(100 * 4 / 11)
    assert score(objects, detections)["AP_d"] == pytest.approx(100 * 3 / 10)


def test_a_detection_goes_to_its_best_object_even_when_that_is_taken(truth, found, score) -> None:
    objects = {"1": truth((0, False, (0, 0, 10, 10)), (0, False, (4, 0, 14, 10)))}
    # The second overlaps the first object by 9/11, the other by 7/13 > 0.5: still a duplicate.
    detections = {"1": found((0, 0.9, (0, 0, 10, 10)), (0, 0.8, (1, 0, 11, 10)))}
    result = score(objects, detections)
    assert result["AP_d"] == pytest.approx(50)
    assert result["coco"]["box"]["AP50"] == pytest.approx(100)  # COCO gives it the other object


def test_difficult_objects(truth, found, score) -> None:
    objects = {"1": truth((0, False, A), (0, True, B))}
    detections = {"1": found((0, 0.95, C), (0, 0.9, B), (0, 0.85, B), (0, 0.8, A))}
    counted = score(objects, detections)
    # Wrong, right, wrong (duplicate), right: precisions 1/2, 2/4, so 1/2 at both recalls.
    assert counted["AP_d"] == counted["difficult_counted"]["AP_d"] == pytest.approx(50)
    # C is wrong, both B are passed over, A is right: precision 1/2 at recall 1/1.
    ignored = score(objects, detections, difficult_counts=False)
    assert ignored["AP_m"] == ignored["difficult_ignored"]["AP_m"] == pytest.approx(50)
    assert ignored["classes"]["cat"]["objects"] == 1
    assert counted["classes"]["cat"]["objects"] == 2
    assert ignored["protocol"]["difficult"] == "ignored"
    # Without C: right, wrong, right where B counts; right alone where it does not.
    detections = {"1": found((0, 0.9, B), (0, 0.85, B), (0, 0.8, A))}
    result = score(objects, detections)
    assert result["difficult_counted"]["AP_d"] == pytest.approx(100 * (1 / 2 + 2 / 3 / 2))
    assert result["difficult_ignored"]["AP_d"] == pytest.approx(100)


def test_a_class_with_difficult_objects_alone(truth, found, score) -> None:
    objects = {"1": truth((0, False, A), (1, True, B))}
    result = score(objects, {"1": found((0, 0.9, A))})
    assert result["AP_d"] == pytest.approx(50)  # 100 and 0
    assert result["classes_left_out"] == []
    assert result["difficult_ignored"]["AP_d"] == pytest.approx(100)
    assert result["difficult_ignored"]["classes_left_out"] == ["dog"]


def test_void_pixels_are_outside_the_object(truth, found, score) -> None:
    # The object's mask is 6 of the 10 rows of its box, the rest is void; the detection has all 10.
    objects = {"1": truth((0, False, A, (0, 0, 10, 6)))}
    result = score(objects, {"1": found((0, 0.9, A, A))})
    assert {key: row["AP_m"] for key, row in result["thresholds"].items()} == {
        "0.25": 100,
        "0.5": 100,
        "0.7": 0,
        "0.75": 0,
    }
    assert {row["AP_d"] for row in result["thresholds"].values()} == {100}


def test_a_class_without_objects_leaves_the_mean_and_is_named(truth, found, score) -> None:
    result = score({"1": truth((1, False, A))}, {"1": found((1, 0.9, A), (0, 0.8, B))})
    assert result["AP_d"] == result["AP_m"] == pytest.approx(100)
    assert result["classes_left_out"] == ["cat"]
    assert result["classes"]["cat"] == {
        "AP_d": None,
        "AP_m": None,
        "objects": 0,
        "difficult": 0,
        "detections": 1,
    }
    assert result["coco"]["mask"]["AP"] == pytest.approx(100)


def test_no_object_at_all_gives_null_and_no_detection_gives_zero(truth, found, score) -> None:
    nothing = score({"1": truth()}, {"1": found((0, 0.9, A))})
    assert nothing["AP_d"] is nothing["AP_m"] is nothing["coco"]["box"]["AP"] is None
    assert json.loads(json.dumps(nothing, allow_nan=False))["AP_m"] is None
    missed = score({"1": truth((0, False, A))}, {})
    assert missed["AP_d"] == missed["AP_m"] == missed["coco"]["mask"]["AP50"] == 0
    assert missed["protocol"]["images_without_detections"] == 1


def test_an_image_without_detections_counts(truth, found, score) -> None:
    objects = {"1": truth((0, False, A)), "2": truth((0, False, A))}
    result = score(objects, {"2": found((0, 0.9, A))})
    assert result["AP_d"] == pytest.approx(50)
    assert result["protocol"]["images"] == 2


def test_equal_scores_keep_the_order_of_the_image_list(truth, found, score) -> None:
    objects = {"a": truth((0, False, A)), "b": truth()}
    detections = {"b": found((0, 0.5, A)), "a": found((0, 0.5, A))}
    assert score(objects, detections)["AP_d"] == pytest.approx(100)  # right, wrong
    backwards = dict(reversed(objects.items()))
    assert score(backwards, detections)["AP_d"] == pytest.approx(50)  # wrong, right
    # Within an image they keep their own order.
    objects = {"a": truth((0, False, A))}
    assert score(objects, {"a": found((0, 0.5, A), (0, 0.5, B))})["AP_d"] == pytest.approx(100)
    assert score(objects, {"a": found((0, 0.5, B), (0, 0.5, A))})["AP_d"] == pytest.approx(50)


@pytest.mark.parametrize(("threshold", "rows"), [("0.25", 5), ("0.5", 10), ("0.7", 14)])
def test_exactly_the_threshold_is_enough(truth, found, score, threshold, rows) -> None:
    objects = {"1": truth((0, False, (0, 0, 10, 20)))}
    exact = (0, 0, 10, rows)
    at = score(objects, {"1": found((0, 0.9, exact))})["thresholds"][threshold]
    assert at == {"AP_d": 100, "AP_m": 100}
    below = found((0, 0.9, (0, 0, 10, rows - 0.001), (0, 0, 10, rows - 1)))
    assert score(objects, {"1": below})["thresholds"][threshold] == {"AP_d": 0, "AP_m": 0}


def test_boxes_are_continuous(truth, found, score) -> None:
    # 1 / 2.1 < 0.5; were boxes a pixel wider, 4 / 6.2 > 0.5.
    objects = {"1": truth((0, False, (0, 0, 1, 2.1)))}
    assert score(objects, {"1": found((0, 0.9, (0, 0, 1, 1)))})["AP_d"] == 0


def test_classes_do_not_help_each_other(truth, found, score) -> None:
    result = score({"1": truth((0, False, A), (1, False, B))}, {"1": found((1, 0.9, A))})
    assert result["AP_d"] == 0
    assert result["classes"]["dog"]["detections"] == 1


def test_the_protocol_is_stated(truth, found, score) -> None:
    objects = {"1": truth((0, False, A)), "2": truth()}
    options = {
        "split": "voc_2012_seg_val",
        "score_floor": 0.1,
        "detections_per_image": 7,
        "objects_left_out": 3,
        "code_version": "1.2",
    }
    assert score(objects, {"1": found((0, 0.9, A))}, **options)["protocol"] == {
        **options,
        "images": 2,
        "crowd_regions": 0,
        "most_objects": 1,
        "images_without_detections": 1,
        "style": "area",
        "threshold": 0.5,
        "difficult": "counted",
    }


def test_a_crowd_region_is_void(truth, found, score) -> None:
    """By hand: A is an object, B a crowd region of cats."""
    rows = truth((0, False, A), (0, False, B))
    objects = {"1": replace(rows, crowd=np.array([False, True]))}
    right, inside = (0, 0.5, A), (0, 0.9, B)
    far, other_class = (0, 0.8, (50, 50, 60, 60)), (1, 0.9, B)
    result = score(objects, {"1": found(right, inside)})
    assert (result["AP_d"], result["AP_m"]) == (100, 100)
    assert result["classes"]["cat"]["objects"] == 1
    assert result["protocol"]["crowd_regions"] == 1
    assert result["protocol"]["most_objects"] == 1
    for wrong in (far, (*inside[:2], (20, 20, 60, 60))):  # outside, or mostly so
        assert score(objects, {"1": found(right, wrong)})["AP_m"] == 50
    nothing = score(objects, {"1": found(inside, other_class)})
    assert nothing["AP_m"] == 0
    assert nothing["classes"]["dog"]["AP_m"] is None


def wrong_inputs() -> list:
    return [
        pytest.param({"boxes": np.zeros((2, 4))}, r"boxes has shape \(2, 4\)", id="shape"),
        pytest.param({"boxes": [[0, 0, 1, 1]]}, "boxes must be a numpy array", id="list"),
        pytest.param({"classes": np.array([0.5])}, "classes must be .* integers", id="kind"),
        pytest.param({"classes": np.array([2])}, "class 2 is not an index of the 2", id="class"),
        pytest.param({"classes": np.array([-1])}, "class -1 is not an index", id="negative"),
        pytest.param({"scores": np.array([np.nan])}, "scores holds a value", id="nan"),
        pytest.param(
            {"boxes": np.array([[5.0, 0, 1, 1]])}, r"box 0 is \[5\.0, .* x1 y1 x2 y2", id="corner"
        ),
        pytest.param({"rles": [{"size": [9, 9]}]}, "rles must be pycocotools'", id="rle"),
        pytest.param(
            {"rles": [{"size": [60, 60], "counts": [3600]}]}, "rles must be", id="uncompressed"
        ),
        pytest.param(
            {"rles": [{"size": [7, 9], "counts": b"o1"}]},
            "masks are 9×7 pixels but the ground truth's are 60×60",
            id="size",
        ),
        pytest.param({"scores": np.array([0.01])}, "score 0.01 is below .* 0.05", id="floor"),
    ]


@pytest.mark.parametrize(("change", "sentence"), wrong_inputs())
def test_wrong_detections_are_named(truth, found, score, change, sentence) -> None:
    detections = replace(found((0, 0.9, A)), **change)
    with pytest.raises(UserError, match=f"^the detections of image 1: .*{sentence}"):
        score({"1": truth((0, False, A))}, {"1": detections})


def test_other_wrong_input_is_named(truth, found, score) -> None:
    objects = {"1": truth((0, False, A))}
    with pytest.raises(UserError, match="hold image 2, which is not in the ground truth of toy"):
        score(objects, {"2": found()})
    with pytest.raises(UserError, match="toy has no image"):
        score({}, {})
    with pytest.raises(UserError, match="class name stands twice in cat, cat"):
        score(objects, {}, ("cat", "cat"))
    with pytest.raises(UserError, match="style is 'round' but must be one of area, 11point"):
        score(objects, {}, style="round")
    with pytest.raises(UserError, match=r"image 1: 2 detections, but .* at most 1"):
        score(objects, {"1": found((0, 0.9, A), (0, 0.8, A))}, detections_per_image=1)
    with pytest.raises(UserError, match=r"ground truth of image 1: difficult must be .* booleans"):
        score({"1": replace(objects["1"], difficult=np.array([0]))}, {})


def test_the_floor_is_compared_in_single_precision(truth, found, score) -> None:
    # A float32 score of 0.7 is 0.69999999 as a float64, and not below a floor of 0.7.
    detections = replace(found((0, 0.9, A)), scores=np.array([0.7], dtype=np.float32))
    assert score({"1": truth((0, False, A))}, {"1": detections}, score_floor=0.7)["AP_d"] == 100


def test_detections_without_masks_have_the_same_boxes_judged(truth, found, score) -> None:
    objects = {"1": truth((0, False, A), (0, True, B)), "2": truth((1, False, C))}
    detections = {
        "1": found((0, 0.9, A), (0, 0.8, A), (0, 0.7, (20, 20, 30, 28))),
        "2": found((1, 0.9, (40, 0, 50, 7)), (0, 0.4, C)),
    }
    boxes = {image_id: replace(value, rles=None) for image_id, value in detections.items()}
    whole, alone = score(objects, detections), score(objects, boxes)
    assert alone["AP_d"] == whole["AP_d"] > 0
    assert alone["AP_m"] is None
    assert alone["coco"]["box"] == whole["coco"]["box"]
    assert alone["coco"]["mask"] == dict.fromkeys(COLUMNS)
    for key in ("protocol", "classes_left_out"):
        assert alone[key] == whole[key]
    for name, row in alone["classes"].items():
        assert row == whole["classes"][name] | {"AP_m": None}
    assert json.loads(json.dumps(alone)) == alone


def test_masks_of_some_images_alone_are_refused(truth, found, score) -> None:
    objects = {"1": truth((0, False, A)), "2": truth((0, False, A))}
    some = {"1": found((0, 0.9, A)), "2": replace(found((0, 0.9, A)), rles=None)}
    with pytest.raises(UserError, match="of some images have masks, those of others None"):
        score(objects, some)
    wrong = {"1": replace(some["2"], scores=np.array([0.9, 0.8]))}
    with pytest.raises(UserError, match=r"scores has shape \(2,\), but 1 boxes need \(1,\)"):
        score(objects, wrong)
