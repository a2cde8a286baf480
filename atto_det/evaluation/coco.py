"""COCO's metrics, by faster-coco-eval: COCOeval's figures to the last digit in less time."""

from collections.abc import Mapping, Sequence

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from atto_det.evaluation.arrays import Detections, GroundTruth, have_masks, mask_areas

MAX_DETECTIONS = 100  # per image and class, as in COCO
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""COCO's ranges of object areas in pixels, ends included."""
LIMITS = (1, 10, MAX_DETECTIONS)
COLUMNS = (
    *("AP", "AP50", "AP75"),
    *(f"AP_{size}" for size in SIZES),
    *(f"AR{limit}" for limit in LIMITS),
    *(f"AR_{size}" for size in SIZES),
)
"""In the order in which COCOeval prints them."""


def coco_metrics(
    ground_truth: Mapping[str, GroundTruth],
    detections: Mapping[str, Detections],
    class_names: Sequence[str],
    detections_per_image: int = MAX_DETECTIONS,
) -> dict[str, dict[str, float | None]]:
    """{"box" | "mask": {each of `COLUMNS`}} in percent; None if no class has such an object.

    Those for masks are also None if the detections or the objects have none. Crowd regions are
    treated as in COCOeval: they need not be found, and a detection inside one is not a mistake. Per
    image and class, as many detections count as the detector may return, and at least COCO's 100,
    except for AR1, AR10 and AR100. The size of an object is the area of its mask, or of its box if
    there is no mask; that of a detection is the area of what is compared.
    """
    kinds = {"box": "bbox"}
    if have_masks(ground_truth, detections):
        kinds["mask"] = "segm"
    most = max(MAX_DETECTIONS, detections_per_image)
    metrics = {name: dict.fromkeys(COLUMNS) for name in ("box", "mask")}
    truth, found = to_coco(ground_truth, detections, class_names)
    for name, kind in kinds.items():
        _set_areas(found, kind)
        metrics[name] = _columns(truth, found, kind, most)
    return metrics


def _columns(truth: COCO, found: COCO, kind: str, most: int) -> dict[str, float | None]:
    judge = COCOeval_faster(truth, found, kind)
    judge.params.areaRng = [(0.0, 1e10), *SIZES.values()]
    judge.params.areaRngLbl = ["all", *SIZES]
    judge.params.maxDets = limits = sorted({*LIMITS, most})
    judge.evaluate()
    judge.accumulate()
    # precision: threshold, recall, class, size, limit; recall: threshold, class, size, limit
    precision, recall = judge.eval["precision"], judge.eval["recall"]
    last, sizes = limits.index(most), range(1, 1 + len(SIZES))
    values = [precision[..., 0, last], precision[0, ..., 0, last], precision[5, ..., 0, last]]
    values += [precision[..., size, last] for size in sizes]
    values += [recall[..., 0, limits.index(limit)] for limit in LIMITS]
    values += [recall[..., size, last] for size in sizes]
    return dict(zip(COLUMNS, map(_mean, values), strict=True))


def _set_areas(found: COCO, kind: str) -> None:
    """Set the areas of detections; those of objects stay, as in COCO's own JSON."""
    rows = found.dataset["annotations"]
    if kind == "bbox":
        areas = [row["bbox"][2] * row["bbox"][3] for row in rows]
    else:
        areas = mask_areas([row["segmentation"] for row in rows]).tolist()
    for row, area in zip(rows, areas, strict=True):
        row["area"] = area


def object_areas(objects: GroundTruth | Detections) -> np.ndarray:
    """Areas (N,) of masks, or of boxes if there are no masks, in pixels."""
    if objects.rles is None:
        boxes = objects.boxes.astype(np.float64)
        return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return mask_areas(objects.rles)


def to_coco(
    ground_truth: Mapping[str, GroundTruth],
    detections: Mapping[str, Detections],
    class_names: Sequence[str],
) -> tuple[COCO, COCO]:
    """Both sides as COCO objects of faster-coco-eval."""
    images = [{"id": number} for number in range(1, len(ground_truth) + 1)]
    categories = [{"id": k, "name": name} for k, name in enumerate(class_names)]
    sides: tuple[list[dict], list[dict]] = ([], [])
    for image, (image_id, objects) in zip(images, ground_truth.items(), strict=True):
        for side, value in zip(sides, (objects, detections.get(image_id)), strict=True):
            if value is None or not len(value.boxes):
                continue
            boxes = value.boxes.astype(np.float64)
            boxes[:, 2:] -= boxes[:, :2]  # COCO wants x y width height
            columns = {"bbox": boxes.tolist(), "category_id": value.classes.tolist()}
            columns["area"] = object_areas(value).tolist()
            if value.rles is not None:
                image["height"], image["width"] = value.rles[0]["size"]
                columns["segmentation"] = value.rles
            if isinstance(value, Detections):
                columns["score"] = value.scores.tolist()
            else:
                columns["iscrowd"] = value.is_crowd.astype(int).tolist()
            for row in zip(*columns.values(), strict=True):
                # Ids start at 1, since COCOeval takes a match with id 0 for no match.
                head = {"id": len(side) + 1, "image_id": image["id"], "iscrowd": 0}
                side.append(head | dict(zip(columns, row, strict=True)))
    return tuple(_indexed(images, categories, annotations) for annotations in sides)


def _indexed(images: list[dict], categories: list[dict], annotations: list[dict]) -> COCO:
    side = COCO()
    side.dataset = {"images": images, "categories": categories, "annotations": annotations}
    side.createIndex()
    return side


def _mean(values: np.ndarray) -> float | None:
    known = values[values > -1]  # -1 marks a class without objects
    return 100 * float(known.mean()) if len(known) else None
