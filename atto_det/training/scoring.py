"""Passes detections to `atto_det.evaluation`, whichever engine made them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from atto_det import __version__, data
from atto_det.evaluation import (
    Detections,
    GroundTruth,
    evaluate,
    format_table,
    write_coco_results,
    write_json,
)


def to_ground_truth(record: data.ImageRecord) -> GroundTruth:
    """The objects and crowd regions of a record as plain arrays."""
    objects = (*record.instances, *record.crowds)
    rles = [o.rle for o in objects]
    return GroundTruth(
        boxes=np.array([o.box for o in objects], dtype=np.float64).reshape(-1, 4),
        rles=None if None in rles else rles,
        classes=np.array([o.category for o in objects], dtype=np.int64),
        difficult=np.array([o.difficult for o in objects], dtype=bool),
        crowd=np.arange(len(objects)) >= len(record.instances),
    )


def score(
    dataset: data.Dataset,
    detections: Mapping[str, Detections],
    *,
    name: str,
    score_floor: float,
    detections_per_image: int,
    output: Path | None = None,
) -> dict:
    """AP_d and AP_m; `atto_det.evaluation.evaluate` documents every key of the result.

    Args:
        detections: of each picture, by its id.
        name: of the data set, for the protocol.
        score_floor: MODEL.ROI_HEADS.SCORE_THRESH_TEST of the model, for the protocol.
        detections_per_image: TEST.DETECTIONS_PER_IMAGE of the model, for the protocol.
        output: folder of the run; detections are written into it in COCO's results format, as
            evaluation/coco_instances_results_<name>.json.

    Raises:
        UserError: as `evaluate`, or the file cannot be written.
    """
    if output is not None:
        path = output / "evaluation" / f"coco_instances_results_{name}.json"
        write_coco_results(path, detections, *data.coco_ids(dataset))
    return evaluate(
        {record.image_id: to_ground_truth(record) for record in dataset.records},
        detections,
        dataset.class_names,
        split=name,
        score_floor=score_floor,
        detections_per_image=detections_per_image,
        objects_left_out=dataset.left_out - dataset.crowds,
        code_version=__version__,
    )


def metrics_of(result: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a result that a training records: AP_d and AP_m, if they are known.

    For a result of one of Detectron2's evaluators: all its figures, as "task/metric".
    """
    if "AP_d" in result:
        return {key: result[key] for key in ("AP_d", "AP_m") if result[key] is not None}
    return {f"{task}/{key}": value for task, own in result.items() for key, value in own.items()}


def judged_by(result: Mapping[str, Any]) -> float | None:
    """The figure that selects the best model of a training: AP of masks, or else of boxes."""
    metrics = metrics_of(result)
    names = ("AP_m", "segm/AP_m", "segm/AP", "AP_d", "bbox/AP_d", "bbox/AP")
    return next((metrics[name] for name in names if name in metrics), None)


def report(result: dict, path: Path) -> None:
    """Print a result as a table and write it to `path` as JSON."""
    if "AP_d" in result:  # Detectron2's evaluators print theirs themselves
        Console().print(format_table(result))
    write_json(result, path)
