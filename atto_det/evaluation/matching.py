"""The object that each detection is matched with: the part that is done once per data set.

Legend: N objects and M detections of the whole data set, in the order of the image list.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as rle_masks

from atto_det.evaluation.arrays import Detections, GroundTruth, have_masks


@dataclass(frozen=True, slots=True, eq=False)
class Overlaps:
    """For every detection, the best-overlapping object of its class in its image.

    classes, scores: (M,) of the detections.
    best: per kind ("box", "mask"; only "box" for detections without masks), (M,) index of that
        object, -1 if the image has no object of the class; the first of several that overlap
        equally.
    iou: per kind, (M,) the overlap with it, 0 without one.
    void: per kind, (M,) the largest share of the detection that a crowd region of its class covers.
    object_classes, object_difficult: (N,) of the objects.
    object_crowd: (N,), which of them are crowd regions, which never occur in `best`.
    """

    classes: np.ndarray
    scores: np.ndarray
    best: dict[str, np.ndarray]
    iou: dict[str, np.ndarray]
    void: dict[str, np.ndarray]
    object_classes: np.ndarray
    object_difficult: np.ndarray
    object_crowd: np.ndarray


def find_overlaps(
    ground_truth: Mapping[str, GroundTruth], detections: Mapping[str, Detections]
) -> Overlaps:
    """Compare detections with objects, once for each image and class."""
    kinds = ("box", "mask") if have_masks(ground_truth, detections) else ("box",)
    columns: dict[str, list[np.ndarray]] = {key: [] for key in ("classes", "scores")}
    columns |= {f"{kind} {what}": [] for kind in kinds for what in ("best", "iou", "void")}
    first = 0  # index of the image's first object
    for image_id, objects in ground_truth.items():
        found = detections.get(image_id)
        if found is not None and len(found.classes):
            best, iou, void = _best_in_image(objects, found, kinds)
            columns["classes"].append(found.classes)
            columns["scores"].append(found.scores)
            for kind in kinds:
                columns[f"{kind} best"].append(np.where(best[kind] < 0, -1, best[kind] + first))
                columns[f"{kind} iou"].append(iou[kind])
                columns[f"{kind} void"].append(void[kind])
        first += len(objects.classes)

    joined = {key: np.concatenate(parts) if parts else [] for key, parts in columns.items()}
    return Overlaps(
        classes=np.asarray(joined["classes"], dtype=np.int64),
        scores=np.asarray(joined["scores"], dtype=np.float64),
        best={kind: np.asarray(joined[f"{kind} best"], dtype=np.int64) for kind in kinds},
        iou={kind: np.asarray(joined[f"{kind} iou"], dtype=float) for kind in kinds},
        void={kind: np.asarray(joined[f"{kind} void"], dtype=float) for kind in kinds},
        object_classes=np.concatenate([g.classes for g in ground_truth.values()]),
        object_difficult=np.concatenate([g.difficult for g in ground_truth.values()]),
        object_crowd=np.concatenate([g.is_crowd for g in ground_truth.values()]),
    )


def _best_in_image(
    objects: GroundTruth, found: Detections, kinds: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    count, crowd = len(found.classes), objects.is_crowd
    best = {kind: np.full(count, -1) for kind in kinds}
    iou = {kind: np.zeros(count) for kind in kinds}
    void = {kind: np.zeros(count) for kind in kinds}
    for category in set(objects.classes.tolist()):
        rows = np.flatnonzero(found.classes == category)  # (m,)
        columns = np.flatnonzero((objects.classes == category) & ~crowd)  # (n,)
        regions = np.flatnonzero((objects.classes == category) & crowd)
        if len(rows) == 0:
            continue
        for kind in kinds:
            if len(columns):
                matrix = overlaps(objects, found, kind, rows, columns)  # (m, n)
                winner = matrix.argmax(axis=1)
                best[kind][rows] = columns[winner]
                iou[kind][rows] = matrix[np.arange(len(rows)), winner]
            if len(regions):
                shares = overlaps(objects, found, kind, rows, regions, of_detection=True)
                void[kind][rows] = shares.max(axis=1)
    return best, iou, void


def overlaps(
    objects: GroundTruth,
    found: Detections,
    kind: str,
    rows: np.ndarray,
    columns: np.ndarray,
    *,
    of_detection: bool = False,
) -> np.ndarray:
    """Overlaps (m, n) of detections `rows` and objects `columns`, at least one of each.

    Intersection over union, or over the detection's own area.
    """
    if kind == "box":
        return box_iou(found.boxes[rows], objects.boxes[columns], of_first=of_detection)
    return rle_masks.iou(
        [found.rles[i] for i in rows],
        [objects.rles[j] for j in columns],
        [int(of_detection)] * len(columns),
    )


def box_iou(boxes: np.ndarray, others: np.ndarray, *, of_first: bool = False) -> np.ndarray:
    """Intersection over union of boxes (m, 4) and (n, 4) as x1 y1 x2 y2: (m, n); 0 if both empty.

    Coordinates are continuous: the width of a box is x2 - x1, without adding 1. With `of_first`,
    the intersection over the area of the first box.
    """
    boxes, others = boxes.astype(np.float64), others.astype(np.float64)
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = (high - low).clip(min=0).prod(axis=2)
    areas, other_areas = ((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, others))
    union = areas[:, None] + (0 if of_first else other_areas[None, :] - common)
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)
