"""Detections in COCO's results format, which pycocotools, FiftyOne and others can read."""

import json
import os
from collections.abc import Mapping, Sequence

from atto_det.errors import UserError, write_file
from atto_det.evaluation.arrays import Detections


def coco_results(
    detections: Mapping[str, Detections],
    image_ids: Mapping[str, int | str],
    category_ids: Sequence[int | str],
) -> list[dict]:
    """One dict per detection: `image_id`, `category_id`, `bbox`, `score` and, with masks,
    `segmentation`.

    `bbox` is x, y, width, height in pixels of the upright picture; `segmentation` is a compressed
    RLE with its counts as text. `atto_det.data.coco_ids` returns the ids of a data set.

    Args:
        image_ids: from the names of images to the ids in the annotations' JSON.
        category_ids: by class index.

    Raises:
        UserError: an image or a class has no id.
    """
    rows = []
    for name, found in detections.items():
        if name not in image_ids:
            raise UserError(f"the detections hold image {name}, which the annotations do not have")
        masks = [None] * len(found.boxes) if found.rles is None else found.rles
        boxes, classes, scores = (
            values.tolist() for values in (found.boxes, found.classes, found.scores)
        )
        for (x1, y1, x2, y2), rle, index, score in zip(boxes, masks, classes, scores, strict=True):
            if not 0 <= index < len(category_ids):
                raise UserError(
                    f"the detections of image {name} have class {index}, but the annotations "
                    f"{len(category_ids)} categories"
                )
            row = {
                "image_id": image_ids[name],
                "category_id": category_ids[index],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": score,
            }
            if rle is not None:
                counts = rle["counts"]
                text = counts.decode("ascii") if isinstance(counts, bytes) else counts
                row["segmentation"] = {"size": list(rle["size"]), "counts": text}
            rows.append(row)
    return rows


def write_coco_results(
    path: str | os.PathLike,
    detections: Mapping[str, Detections],
    image_ids: Mapping[str, int | str],
    category_ids: Sequence[int | str],
) -> None:
    """Write `coco_results` completely or not at all.

    Raises:
        UserError: as `coco_results`, or the file cannot be written.
    """
    text = json.dumps(coco_results(detections, image_ids, category_ids), allow_nan=False)
    write_file(path, text + "\n")
