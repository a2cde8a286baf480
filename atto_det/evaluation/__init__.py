"""AP_d and AP_m by the PASCAL VOC protocol, from plain arrays and run-length masks.

    result = evaluate(ground_truth, detections, class_names, split="voc_2012_seg_val", …)
    rich.print(format_table(result))
    write_json(result, "metrics.json")

`atto_det/evaluation/protocol.py` describes the protocol and every key of the result.
It needs only numpy, pycocotools and rich.
"""

from atto_det.evaluation.arrays import Detections, GroundTruth
from atto_det.evaluation.coco_results import coco_results, write_coco_results
from atto_det.evaluation.protocol import evaluate
from atto_det.evaluation.report import format_table, write_json

__all__ = [
    "Detections",
    "GroundTruth",
    "coco_results",
    "evaluate",
    "format_table",
    "write_coco_results",
    "write_json",
]
