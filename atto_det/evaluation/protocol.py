"""The protocol of AP_d and AP_m, and every key of the result.

A detection is right at a threshold if its best-overlapping object, among those of its class in its
image, overlaps it by at least the threshold (intersection over union) and no detection with a
higher score has found that object before; otherwise it is wrong. Equal scores keep the order of
the image list, then the order in the image. Average precision summarises the precision-recall
curve of a class over all images. AP_d compares boxes (in continuous coordinates), AP_m masks, on
the same images, objects and detections. If difficult objects do not count, they need not be found,
and a detection whose best-overlapping object is one of them is neither right nor wrong. A crowd
region (COCO's iscrowd: objects that were not separated) is void: it need not be found, and a
detection that does not find an object, but of which a crowd region of its class covers the
threshold or more (intersection over the detection's own area), is neither right nor wrong.
See Everingham et al., "The PASCAL Visual Object Classes Challenge: A Retrospective", IJCV 2015,
and Hariharan et al., "Simultaneous Detection and Segmentation", ECCV 2014.

The result of `evaluate` holds only numbers, strings, lists and dicts, ready for JSON. Every AP is
in percent; it is None if there is no object to find, and such classes are left out of every mean.
If the detector or the objects have no masks, every AP of masks is None.

| key | meaning |
|---|---|
| `AP_d`, `AP_m` | mean over the classes at threshold 0.5, as `protocol` says |
| `difficult_counted`, `difficult_ignored` | the same two means as {`AP_d`, `AP_m`, \
`classes_left_out`} with difficult objects counted, and not; one of them equals the headline |
| `thresholds` | {"0.25", "0.5", "0.7", "0.75": {`AP_d`, `AP_m`}}, as `protocol` says |
| `coco` | {"box", "mask": {`AP` (mean over thresholds .50, .55, … .95), `AP50`, `AP75`, \
`AP_small`, `AP_medium`, `AP_large` (objects of up to 32², 96² and more pixels of area), `AR1`, \
`AR10`, `AR100` (recall, mean over the same thresholds, of the best 1, 10, 100 of an image and \
class), `AR_small`, `AR_medium`, `AR_large`}} by faster-coco-eval; difficult objects count, \
crowd regions are ignored as in COCOeval, the best 100 detections of an image and class are used, \
or `detections_per_image` if that is more |
| `classes` | per class name {`AP_d`, `AP_m` (as the headline), `objects` (those that count), \
`difficult` (objects marked so, counted or not), `detections`} |
| `classes_left_out` | names of the classes with no object that counts: not part of the mean |
| `protocol` | {`split`, `images`, `images_without_detections`, `style` ("area", "11point"), \
`threshold`, `difficult` ("counted", "ignored"), `score_floor`, `detections_per_image`, \
`objects_left_out`, `crowd_regions`, `most_objects` (in one image), `code_version`} |
"""

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from atto_det.errors import UserError
from atto_det.evaluation.arrays import Detections, GroundTruth, check_image
from atto_det.evaluation.average_precision import Style, class_ap
from atto_det.evaluation.coco import coco_metrics
from atto_det.evaluation.matching import Overlaps, find_overlaps

THRESHOLD = 0.5
THRESHOLDS = (0.25, 0.5, 0.7, 0.75)
_COMPARED = {"AP_d": "box", "AP_m": "mask"}


def evaluate(
    ground_truth: Mapping[str, GroundTruth],
    detections: Mapping[str, Detections],
    class_names: Sequence[str],
    *,
    split: str,
    score_floor: float,
    detections_per_image: int,
    objects_left_out: int,
    code_version: str,
    difficult_counts: bool = True,
    style: Style = "area",
) -> dict:
    """Score detections against the ground truth; the module's docstring documents the keys.

    Args:
        ground_truth: image name → objects, in the order of the image list.
        detections: image name → detections; an image that is missing has none, and counts.
        class_names: one name per class index.
        split: name of the data set, for the protocol.
        score_floor: the detector returned nothing below this score.
        detections_per_image: it returned at most this many in an image.
        objects_left_out: number of objects that the data reader left out, for the protocol; crowd
            regions are counted from the ground truth.
        code_version: version of the code that ran, for the protocol.
        difficult_counts: whether the headline counts objects marked difficult.
        style: "area" under the curve (VOC 2010 on) or "11point" (until VOC 2009).

    Raises:
        UserError: no image, a detection for an image that is not in the ground truth, arrays that
            are not as `GroundTruth` and `Detections` specify, or detections that contradict
            `score_floor` or `detections_per_image`. The message names image and key.
    """
    if style not in get_args(Style):
        raise UserError(f"style is {style!r} but must be one of {', '.join(get_args(Style))}")
    _check(ground_truth, detections, class_names, score_floor, detections_per_image, split)
    result = voc_metrics(
        ground_truth, detections, class_names, difficult_counts=difficult_counts, style=style
    )
    result["coco"] = coco_metrics(ground_truth, detections, class_names, detections_per_image)
    crowds = [objects.is_crowd for objects in ground_truth.values()]
    result["protocol"] = {
        "split": split,
        "images": len(ground_truth),
        "images_without_detections": sum(
            image_id not in detections or not len(detections[image_id].scores)
            for image_id in ground_truth
        ),
        "style": style,
        "threshold": THRESHOLD,
        "difficult": "counted" if difficult_counts else "ignored",
        "score_floor": score_floor,
        "detections_per_image": detections_per_image,
        "objects_left_out": objects_left_out,
        "crowd_regions": sum(int(flags.sum()) for flags in crowds),
        "most_objects": max(int((~flags).sum()) for flags in crowds),
        "code_version": code_version,
    }
    return result


def voc_metrics(
    ground_truth: Mapping[str, GroundTruth],
    detections: Mapping[str, Detections],
    class_names: Sequence[str],
    *,
    difficult_counts: bool = True,
    style: Style = "area",
) -> dict:
    """All of `evaluate` except COCO's metrics, the protocol and the checks of the input."""
    overlaps = find_overlaps(ground_truth, detections)

    def per_class(name: str, threshold: float, counts: bool) -> list[float | None]:
        return [
            class_ap(
                overlaps,
                category,
                _COMPARED[name],
                threshold=threshold,
                difficult_counts=counts,
                style=style,
            )
            for category in range(len(class_names))
        ]

    aps = {
        counts: {name: per_class(name, THRESHOLD, counts) for name in _COMPARED}
        for counts in (True, False)
    }
    summaries = {counts: _summary(aps[counts], class_names) for counts in aps}
    return {
        **summaries[difficult_counts],
        "difficult_counted": summaries[True],
        "difficult_ignored": summaries[False],
        "thresholds": {
            f"{threshold:g}": {
                name: _mean(per_class(name, threshold, difficult_counts)) for name in _COMPARED
            }
            for threshold in THRESHOLDS
        },
        "classes": _class_rows(overlaps, aps[difficult_counts], class_names, difficult_counts),
    }


def _class_rows(
    overlaps: Overlaps, aps: dict[str, list], class_names: Sequence[str], difficult_counts: bool
) -> dict[str, dict]:
    def counts(classes: np.ndarray) -> list[int]:
        return np.bincount(classes, minlength=len(class_names)).tolist()

    single = ~overlaps.object_crowd
    every, hard = overlaps.object_classes[single], overlaps.object_difficult[single]
    objects = counts(every if difficult_counts else every[~hard])
    columns = (aps["AP_d"], aps["AP_m"], objects, counts(every[hard]), counts(overlaps.classes))
    keys = ("AP_d", "AP_m", "objects", "difficult", "detections")
    return {
        name: dict(zip(keys, row, strict=True))
        for name, row in zip(class_names, zip(*columns, strict=True), strict=True)
    }


def _summary(aps: dict[str, list[float | None]], class_names: Sequence[str]) -> dict:
    left_out = [name for name, ap in zip(class_names, aps["AP_d"], strict=True) if ap is None]
    return {**{name: _mean(values) for name, values in aps.items()}, "classes_left_out": left_out}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _check(
    ground_truth: Mapping[str, GroundTruth],
    detections: Mapping[str, Detections],
    class_names: Sequence[str],
    score_floor: float,
    detections_per_image: int,
    split: str,
) -> None:
    if not ground_truth:
        raise UserError(f"{split} has no image to evaluate on; check its image list")
    if len(set(class_names)) != len(class_names):
        raise UserError(f"{split}: a class name stands twice in {', '.join(class_names)}")
    if len({found.rles is None for found in detections.values()}) > 1:
        raise UserError(
            "the detections of some images have masks, those of others None: give those of one "
            "detector"
        )
    for image_id in detections:
        if image_id not in ground_truth:
            raise UserError(
                f"the detections hold image {image_id}, which is not in the ground truth of "
                f"{split}; evaluate on the data set that they were made for"
            )
    for image_id, objects in ground_truth.items():
        found = detections.get(image_id)
        check_image(image_id, objects, found, len(class_names))
        if found is None or not len(found.scores):
            continue
        if len(found.scores) > detections_per_image:
            raise UserError(
                f"the detections of image {image_id}: {len(found.scores)} detections, but "
                f"detections_per_image states at most {detections_per_image}"
            )
        # In single precision, in which detectors compare.
        if np.float32(found.scores.min()) < np.float32(score_floor):
            raise UserError(
                f"the detections of image {image_id}: score {found.scores.min():g} is below the "
                f"stated score_floor {score_floor:g}"
            )
