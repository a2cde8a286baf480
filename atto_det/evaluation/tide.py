"""Kinds of errors, and the AP that each costs: TIDE (Bolya et al., arXiv 2008.08115).

Each wrong detection has one kind; each object that was not found may have one (section 2.2):

| kind | meaning |
|---|---|
| `classification` | overlaps an object of another class by at least the threshold |
| `localisation` | overlaps an object of its class, but by less than the threshold |
| `both` | overlaps an object of another class by less than the threshold |
| `duplicate` | would be right if a better detection had not found the object |
| `background` | overlaps no object |
| `missed` | an object with no detection, and no classification or localisation error |

The cost of a kind is the AP that would be gained if all errors of this kind, and only they, were
corrected (section 2.3): a wrong class or location is corrected for the surest detection of an
object and removed for others; duplicates and background detections are removed; missed objects do
not count. Since the kinds are corrected one at a time, the costs do not add up to 100 minus AP.
A crowd region is no object, and a detection that finds nothing, but lies on a crowd region of its
class by at least the threshold, does not count.

TIDE matches as COCO does, which differs from VOC's rule: a detection is assigned to the
best-overlapping object of its class that is still free. AP is COCO's mean over 101 recalls, at one
threshold; classes without objects but with detections count as 0. Without crowd regions, all
figures equal those of the paper's own program. With them, AP does; there, that program leaves the
detections that do not count out of AP, but not out of the errors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pycocotools import mask as rle_masks

from atto_det.evaluation.arrays import Detections, GroundTruth
from atto_det.evaluation.matching import overlaps

Kind = Literal["box", "mask"]

ERROR_KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
RIGHT = "right"
_RECALLS = np.arange(101) / 100


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """The verdict on every detection and every object of a data set.

    M detections and N objects, image by image, the detections of an image by decreasing score.

    kinds: (M,) `RIGHT` or one of `ERROR_KINDS` except "missed".
    targets: (M,) the object that a detection found, or that a wrong class or location belongs to;
        -1 for none.
    mends: (M,) whether a wrong class or location would be corrected, as the surest for its object.
    overlaps: (M,) the largest overlap with an object of its class.
    classes, scores, images: (M,) of the detections; images by their number.
    object_classes, object_images: (N,) of the objects.
    found: (N,) whether a detection found the object.
    missed: (N,) whether it is an error of the kind "missed".
    rows: (M,) index of each detection in its image's `Detections`.
    """

    kinds: np.ndarray
    targets: np.ndarray
    mends: np.ndarray
    overlaps: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    images: np.ndarray
    rows: np.ndarray
    object_classes: np.ndarray
    object_images: np.ndarray
    found: np.ndarray
    missed: np.ndarray


def judge(
    ground_truth: Mapping[str, GroundTruth],
    detections: Mapping[str, Detections],
    kind: Kind,
    *,
    threshold: float = 0.5,
    background: float = 0.1,
    limit: int = 100,
) -> Verdicts:
    """Judge every detection and object.

    Args:
        ground_truth: image name → objects and crowd regions.
        detections: image name → detections; an image that is missing has none.
        kind: what is compared.
        threshold: overlap from which a detection finds an object.
        background: overlap up to which it is a background error.
        limit: this many detections of each image, with the highest scores, are used.
    """
    columns: dict[str, list[np.ndarray]] = {name: [] for name in Verdicts.__slots__}
    first = 0  # number of the image's first object
    for number, (image_id, annotated) in enumerate(ground_truth.items()):
        found, objects = detections.get(image_id), annotated.without_crowds()
        verdict = _judge_image(annotated, objects, found, kind, threshold, background, limit)
        count, total = len(verdict["kinds"]), len(objects.classes)
        verdict["targets"] = np.where(verdict["targets"] < 0, -1, verdict["targets"] + first)
        verdict["images"] = np.full(count, number)
        verdict["object_images"] = np.full(total, number)
        verdict["object_classes"] = objects.classes
        for name, column in verdict.items():
            columns[name].append(column)
        first += total
    return Verdicts(**{name: np.concatenate(parts) for name, parts in columns.items()})


def _judge_image(
    annotated: GroundTruth,
    objects: GroundTruth,
    found: Detections | None,
    kind: Kind,
    threshold: float,
    background: float,
    limit: int,
) -> dict[str, np.ndarray]:
    total = len(objects.classes)
    scores = np.zeros(0) if found is None else found.scores
    rows = np.argsort(-scores, kind="stable")[:limit]  # (m,)
    classes = np.zeros(0, np.int64) if found is None else found.classes[rows]
    iou = np.zeros((len(rows), total))
    if iou.size:
        iou = overlaps(objects, found, kind, rows, np.arange(total))
    same = classes[:, None] == objects.classes[None, :]  # (m, n)
    targets = _match(np.where(same, iou, 0.0), threshold)
    kept = np.flatnonzero((targets >= 0) | ~_in_crowd(annotated, found, rows, kind, threshold))
    rows, classes, targets, iou, same = (a[kept] for a in (rows, classes, targets, iou, same))
    is_found = np.zeros(total, bool)
    is_found[targets[targets >= 0]] = True

    kinds = np.where(targets >= 0, RIGHT, "background").astype("U14")
    for row in np.flatnonzero(targets < 0) if total else ():
        own, other = np.where(same[row], iou[row], 0.0), np.where(same[row], 0.0, iou[row])
        if background <= own.max() <= threshold:
            kinds[row], targets[row] = "localisation", own.argmax()
        elif other.max() >= threshold:
            kinds[row], targets[row] = "classification", other.argmax()
        elif np.where(is_found, own, 0.0).max() >= threshold:
            kinds[row] = "duplicate"
        elif iou[row].max() > background:
            kinds[row] = "both"

    # The surest wrong class or location of an object that was not found could be corrected.
    mends = np.zeros(len(rows), bool)
    misplaced = np.isin(kinds, ("classification", "localisation"))
    mendable = np.flatnonzero(misplaced & ~np.isin(targets, np.flatnonzero(is_found)))
    _, surest = np.unique(targets[mendable], return_index=True)  # rows are by decreasing score
    mends[mendable[surest]] = True
    missed = ~is_found
    missed[targets[mendable]] = False
    return {
        "kinds": kinds,
        "targets": targets,
        "mends": mends,
        "overlaps": np.where(same, iou, 0.0).max(axis=1, initial=0.0),
        "classes": classes,
        "scores": scores[rows],
        "rows": rows,
        "found": is_found,
        "missed": missed,
    }


def _in_crowd(
    annotated: GroundTruth, found: Detections | None, rows: np.ndarray, kind: Kind, threshold: float
) -> np.ndarray:
    """Which of the detections `rows` lie on a crowd region of their class: bool (m,)."""
    regions = np.flatnonzero(annotated.is_crowd)
    if not len(rows) or not len(regions):
        return np.zeros(len(rows), bool)
    shares = overlaps(annotated, found, kind, rows, regions, of_detection=True)
    same = found.classes[rows][:, None] == annotated.classes[regions][None, :]
    return (same & (shares >= threshold)).any(axis=1)


def _match(iou: np.ndarray, threshold: float) -> np.ndarray:
    """The object (or -1) that each detection finds, from overlaps (m, n) within a class."""
    targets, free = np.full(len(iou), -1), iou.copy()
    for row in range(len(iou) if iou.size else 0):
        best = free[row].argmax()
        if free[row, best] >= threshold:
            targets[row] = best
            free[:, best] = 0
    return targets


def error_costs(verdicts: Verdicts) -> dict:
    """AP and the cost of each kind of error, in percent, as reported by TIDE.

    Returns:
        `AP`, `costs` and `counts` by kind; `false_positives` and `false_negatives`: the AP gained
        if all wrong detections came last, and if no object were missing.
    """
    right = verdicts.kinds == RIGHT
    objects = np.bincount(verdicts.object_classes, minlength=_classes(verdicts))
    base = _mean_ap(verdicts.classes, verdicts.scores, right, objects)
    costs, counts = {}, {}
    for kind in ERROR_KINDS[:-1]:
        of_kind = verdicts.kinds == kind
        counts[kind] = int(of_kind.sum())
        mended = of_kind & verdicts.mends
        keep = ~of_kind | mended
        classes = verdicts.classes.copy()
        classes[mended] = verdicts.object_classes[verdicts.targets[mended]]
        order = np.concatenate([np.flatnonzero(keep & ~right), np.flatnonzero(right)])
        changed = (right | mended)[order]
        ap = _mean_ap(classes[order], verdicts.scores[order], changed, objects)
        costs[kind] = max(ap - base, 0.0)
    counts["missed"] = int(verdicts.missed.sum())
    lost = np.bincount(verdicts.object_classes[verdicts.missed], minlength=len(objects))
    ap = _mean_ap(verdicts.classes, verdicts.scores, right, objects - lost)
    costs["missed"] = max(ap - base, 0.0)
    unfound = np.bincount(verdicts.object_classes[~verdicts.found], minlength=len(objects))
    return {
        "AP": base,
        "costs": costs,
        "counts": counts,
        "false_positives": _mean_ap(verdicts.classes, right * 1.0, right, objects) - base,
        "false_negatives": _mean_ap(verdicts.classes, verdicts.scores, right, objects - unfound)
        - base,
    }


def _classes(verdicts: Verdicts) -> int:
    """The highest class index plus one."""
    both = (verdicts.classes, verdicts.object_classes)
    return 1 + max(int(column.max(initial=-1)) for column in both)


def _mean_ap(
    classes: np.ndarray, scores: np.ndarray, right: np.ndarray, objects: np.ndarray
) -> float:
    """Mean over the classes with an object or a detection; 0 if there is none."""
    aps = []
    for category, positives in enumerate(objects):
        own = classes == category
        if positives or own.any():
            aps.append(_ap(scores[own], right[own], int(positives)))
    return 100 * float(np.mean(aps)) if aps else 0.0


def _ap(scores: np.ndarray, right: np.ndarray, positives: int) -> float:
    """COCO's AP of one class: the mean over 101 recalls of the precision there or beyond."""
    if positives == 0 or len(scores) == 0:
        return 0.0
    right = right[np.argsort(-scores, kind="stable")]
    found = np.cumsum(right)
    precision = found / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(found / positives, _RECALLS, side="left")
    return float(envelope[places[places < len(right)]].sum() / len(_RECALLS))


def confusion_matrix(
    ground_truth: Mapping[str, GroundTruth],
    detections: Mapping[str, Detections],
    num_classes: int,
    *,
    kind: Kind,
    score: float,
    threshold: float = 0.5,
) -> np.ndarray:
    """Objects by the class that was detected for them: int (K + 1, K + 1).

    Row: class of the object, the last one for none. Column: class of the detection, the last one
    for none. Detections are assigned in order of decreasing score, each to the best-overlapping
    free object of any class.

    Args:
        score: detections below it are left out.
        threshold: overlap from which a detection is assigned to an object.
    """
    result = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for image_id, annotated in ground_truth.items():
        found, objects = detections.get(image_id), annotated.without_crowds()
        free = np.ones(len(objects.classes), bool)
        if found is not None:
            rows = np.argsort(-found.scores, kind="stable")
            rows = rows[found.scores[rows] >= score]
            targets = np.full(len(rows), -1)
            if len(rows) and len(free):
                iou = overlaps(objects, found, kind, rows, np.arange(len(free)))
                targets = _match(iou, threshold)
            free[targets[targets >= 0]] = False
            kept = (targets >= 0) | ~_in_crowd(annotated, found, rows, kind, threshold)
            for row, target in zip(rows[kept], targets[kept], strict=True):
                known = objects.classes[target] if target >= 0 else num_classes
                result[known, found.classes[row]] += 1
        np.add.at(result[:, num_classes], objects.classes[free], 1)
    return result


def precision_recall(verdicts: Verdicts, num_classes: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Recall and precision of each class, over its detections by decreasing score."""
    curves = []
    for category in range(num_classes):
        own = verdicts.classes == category
        order = np.argsort(-verdicts.scores[own], kind="stable")
        found = np.cumsum((verdicts.kinds[own] == RIGHT)[order])
        positives = int((verdicts.object_classes == category).sum())
        precision = found / np.arange(1, len(found) + 1)
        curves.append((found / positives if positives else np.zeros(len(found)), precision))
    return curves


def calibration(verdicts: Verdicts, bins: int = 10) -> dict[str, Sequence[float | int | None]]:
    """How often detections of a score are right (arXiv 2004.13546, using only boxes' own scores).

    Returns:
        `score` and `precision`, means in each of equal bins of the score from 0 to 1 (None if a bin
        is empty), `count` in each, and `error`, their mean difference over all detections.
    """
    place = np.minimum((verdicts.scores * bins).astype(int), bins - 1)
    right = verdicts.kinds == RIGHT
    count = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, weights=w, minlength=bins) for w in (verdicts.scores, right * 1.0)]
    score, precision = (
        [float(s / n) if n else None for s, n in zip(column, count, strict=True)] for column in sums
    )
    total = max(int(count.sum()), 1)
    error = float(np.abs(sums[0] - sums[1]).sum() / total)
    return {"score": score, "precision": precision, "count": count.tolist(), "error": error}


def boundary_iou(rle: dict, other: dict, share: float = 0.02) -> float:
    """Boundary IoU of two masks of equal size (Cheng et al., arXiv 2103.16562, equation 1).

    Intersection over union of the parts of the masks within a distance of their contours.

    Args:
        share: the distance as a share of the picture's diagonal.
    """
    strips = [_strip(rle_masks.decode(one), share) for one in (rle, other)]
    union = np.logical_or(*strips).sum()
    return float(np.logical_and(*strips).sum() / union) if union else 0.0


def _strip(mask: np.ndarray, share: float) -> np.ndarray:
    """bool (H, W): the pixels of a mask that erosion by the distance removes."""
    import cv2

    distance = max(round(share * float(np.hypot(*mask.shape))), 1)
    padded = np.pad(mask, 1)  # the picture's border is also a contour
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance)[1:-1, 1:-1]
    return (mask - inner).astype(bool)
