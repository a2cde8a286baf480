"""The COCO columns, by pycocotools' own COCOeval."""

import contextlib
import io
from collections.abc import Mapping, Sequence

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from atto_det.evaluation.arrays import Detections, GroundTruth, have_masks, mask_areas

MAX_DETECTIONS = 100  # of an image and class, as COCO has it


def coco_metrics(
    ground_truth: Mapping[str, GroundTruth],
    detections: Mapping[str, Detections],
    class_names: Sequence[str],
    detections_per_image: int = MAX_DETECTIONS,
) -> dict[str, dict[str, float | None]]:
    """{"box" | "mask": {"AP", "AP50", "AP75"}} in percent; None where no class has an object.

    Those of masks are None, too, where the detections or the objects have none. Crowd regions are
    what COCOeval makes of them: nothing to be found, and what lies in one is no mistake. So many of
    an image and class are looked at as the detector may give, and at least COCO's 100.
    """
    kinds = {"box": "bbox"}
    if have_masks(ground_truth, detections):
        kinds["mask"] = "segm"
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth, found = to_coco(ground_truth, detections, class_names)
        metrics = {name: dict.fromkeys(("AP", "AP50", "AP75")) for name in ("box", "mask")}
        for name, kind in kinds.items():
            judge = COCOeval(truth, found, kind)
            # Objects of every size together: the one range that these columns show.
            judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
            judge.params.maxDets = [max(MAX_DETECTIONS, detections_per_image)]
            judge.evaluate()
            judge.accumulate()
            precision = judge.eval["precision"][:, :, :, 0, 0]  # threshold, recall, class
            metrics[name] = {
                "AP": _mean(precision),
                "AP50": _mean(precision[0]),
                "AP75": _mean(precision[5]),
            }
    return metrics


def to_coco(
    ground_truth: Mapping[str, GroundTruth],
    detections: Mapping[str, Detections],
    class_names: Sequence[str],
) -> tuple[COCO, COCO]:
    """Both sides as pycocotools' COCO objects."""
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
            if value.rles is None:
                columns["area"] = boxes[:, 2:].prod(axis=1).tolist()
            else:
                image["height"], image["width"] = value.rles[0]["size"]
                columns["segmentation"] = value.rles
                columns["area"] = mask_areas(value.rles).tolist()
            if isinstance(value, Detections):
                columns["score"] = value.scores.tolist()
            else:
                columns["iscrowd"] = value.is_crowd.astype(int).tolist()
            for row in zip(*columns.values(), strict=True):
                # Numbers start at 1, since COCOeval takes a match with number 0 for no match.
                head = {"id": len(side) + 1, "image_id": image["id"], "iscrowd": 0}
                side.append(head | dict(zip(columns, row, strict=True)))
    return tuple(_indexed(images, categories, annotations) for annotations in sides)


def _indexed(images: list[dict], categories: list[dict], annotations: list[dict]) -> COCO:
    side = COCO()
    side.dataset = {"images": images, "categories": categories, "annotations": annotations}
    side.createIndex()
    return side


def _mean(precision: np.ndarray) -> float | None:
    known = precision[precision > -1]  # -1 marks a class without objects
    return 100 * float(known.mean()) if len(known) else None
