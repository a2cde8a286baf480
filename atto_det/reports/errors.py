"""The errors of a detector: figures for JSON, from ground truth and detections.

The content of a report (`analyse`), ready for JSON:

| key | meaning |
|---|---|
| `split`, `images`, `objects`, `class_names` | what was evaluated |
| `score` | minimum score of the detections in `confusion`, `boundary` and `worst` |
| `kinds` | {"box", "mask" (absent for a detector without masks): {`AP`, `costs`, `counts`, \
`false_positives`, `false_negatives` (`atto_det.evaluation.tide.error_costs`), `calibration`, \
`curves` (class name → {`precision` at recalls 0, 0.01, … 1, and `AP`, its mean})}} |
| `sizes` | {"small", "medium", "large": {`objects`, and for each of `kinds` {`AP`, `AR`: COCO's, \
over thresholds .50 … .95, in percent; None if there is no such object}}} |
| `confusion` | by masks, or by boxes if there are none: objects (rows) by detected class \
(columns), the last of each for none |
| `boundary` | {`mask_iou`, `boundary_iou`: means over the right detections, `pairs`}, or None |
| `worst` | pictures with the most wrong detections and unfound objects: [{`image`, `wrong`, \
`unfound`, `objects`}] |
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from atto_det.errors import UserError
from atto_det.evaluation import Detections, GroundTruth
from atto_det.evaluation.arrays import have_masks
from atto_det.evaluation.coco import SIZES, coco_metrics, object_areas
from atto_det.evaluation.tide import (
    RIGHT,
    Kind,
    Verdicts,
    boundary_iou,
    calibration,
    confusion_matrix,
    error_costs,
    judge,
    precision_recall,
)

POINTS = 101  # stored points of a precision-recall curve


def analyse(
    ground_truth: Mapping[str, GroundTruth],
    detections: Mapping[str, Detections],
    class_names: Sequence[str],
    *,
    split: str,
    score: float,
    worst: int = 12,
) -> dict[str, Any]:
    """The content of a report; see the module's docstring.

    Args:
        ground_truth: image name → objects and crowd regions, which are no objects here, and on
            which detections do not count.
        detections: image name → detections; an image that is missing has none.
        split: name of the data set.
        score: minimum score of detections, where one score must be chosen.
        worst: number of pictures to list.

    Raises:
        UserError: there is no image.
    """
    if not ground_truth:
        raise UserError(f"{split} has no image to evaluate on; check its image list")
    with_crowds = ground_truth
    ground_truth = {image: objects.without_crowds() for image, objects in ground_truth.items()}
    masks = have_masks(ground_truth, detections)
    kinds: tuple[Kind, ...] = ("box", "mask") if masks else ("box",)
    found: dict[str, Any] = {}
    for kind in kinds:
        verdicts = judge(with_crowds, detections, kind)
        found[kind] = {
            **error_costs(verdicts),
            "calibration": calibration(verdicts),
            "curves": _curves(verdicts, class_names),
        }
    sure = {i: one.at_least(score) for i, one in detections.items() if i in ground_truth}
    verdicts = judge(with_crowds, sure, kinds[-1])
    confusion = confusion_matrix(
        with_crowds, detections, len(class_names), kind=kinds[-1], score=score
    )
    return {
        "split": split,
        "images": len(ground_truth),
        "objects": len(verdicts.object_classes),
        "class_names": list(class_names),
        "score": score,
        "kinds": found,
        "sizes": _sizes(with_crowds, detections, class_names, kinds),
        "confusion": confusion.tolist(),
        "boundary": _boundary(ground_truth, sure, verdicts) if "mask" in kinds else None,
        "worst": _worst(list(ground_truth), verdicts)[:worst],
    }


def _curves(verdicts: Verdicts, class_names: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Precision at or beyond each of `POINTS` recalls, for classes with objects."""
    recalls = np.linspace(0, 1, POINTS)
    result = {}
    curves = precision_recall(verdicts, len(class_names))
    for category, (name, (recall, precision)) in enumerate(zip(class_names, curves, strict=True)):
        if not (verdicts.object_classes == category).any():
            continue
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(recall, recalls)
        values = np.append(envelope, 0.0)[places]
        result[name] = {"precision": values.round(4).tolist(), "AP": 100 * float(values.mean())}
    return result


def _sizes(
    ground_truth: Mapping[str, GroundTruth],
    detections: Mapping[str, Detections],
    class_names: Sequence[str],
    kinds: Sequence[Kind],
) -> dict[str, dict[str, Any]]:
    """COCO's AP and AR of small, medium and large objects, and their number."""
    most = max((len(one.scores) for one in detections.values()), default=0)
    metrics = coco_metrics(ground_truth, detections, class_names, most)
    areas = np.concatenate(
        [object_areas(objects.without_crowds()) for objects in ground_truth.values()]
    )
    return {
        size: {
            "objects": int(((areas >= least) & (areas <= greatest)).sum()),
            **{
                kind: {name: metrics[kind][f"{name}_{size}"] for name in ("AP", "AR")}
                for kind in kinds
            },
        }
        for size, (least, greatest) in SIZES.items()
    }


def _boundary(
    ground_truth: Mapping[str, GroundTruth],
    detections: Mapping[str, Detections],
    verdicts: Verdicts,
) -> dict[str, float | int] | None:
    """Mean overlaps of masks and of their borders, over the right detections."""
    images = list(ground_truth)
    firsts = np.searchsorted(verdicts.object_images, np.arange(len(images)))
    right = np.flatnonzero(verdicts.kinds == RIGHT)
    if not len(right):
        return None
    borders = []
    for row in right:
        number = verdicts.images[row]
        objects, found = ground_truth[images[number]], detections[images[number]]
        target = verdicts.targets[row] - firsts[number]
        borders.append(boundary_iou(found.rles[verdicts.rows[row]], objects.rles[target]))
    return {
        "mask_iou": float(verdicts.overlaps[right].mean()),
        "boundary_iou": float(np.mean(borders)),
        "pairs": len(right),
    }


def _worst(images: Sequence[str], verdicts: Verdicts) -> list[dict[str, Any]]:
    """Every picture with a mistake, the most mistakes first."""
    count = len(images)
    wrong = np.bincount(verdicts.images[verdicts.kinds != RIGHT], minlength=count)
    unfound = np.bincount(verdicts.object_images[~verdicts.found], minlength=count)
    objects = np.bincount(verdicts.object_images, minlength=count)
    order = np.argsort(-(wrong + unfound), kind="stable")
    return [
        {
            "image": images[k],
            "wrong": int(wrong[k]),
            "unfound": int(unfound[k]),
            "objects": int(objects[k]),
        }
        for k in order
        if wrong[k] + unfound[k]
    ]
