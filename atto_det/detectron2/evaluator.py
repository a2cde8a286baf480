"""Passes Detectron2's output to `atto_det.evaluation`, as a Detectron2 evaluator."""

from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode, configurable
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm

from atto_det.config import class_head
from atto_det.errors import UserError
from atto_det.evaluation import Detections
from atto_det.evaluation.arrays import encode_masks
from atto_det.training.scoring import score

from .catalog import load_dataset


def check_detector(cfg: CfgNode) -> None:
    """Refuse a config whose model outputs no instances, which `to_detections` needs.

    Raises:
        UserError: it names the key.
    """
    kind = cfg.MODEL.META_ARCHITECTURE
    if kind in ("ProposalNetwork", "SemanticSegmentor"):
        raise UserError(
            f"MODEL.META_ARCHITECTURE is {kind}, which does not detect objects: to train it, "
            "set DATASETS.TEST to ()"
        )


def to_detections(instances: Instances) -> Detections:
    """Instances in one picture, at its native size, as plain arrays; masks become RLE.

    `rles` is None if the model has no masks.
    """
    instances = instances.to("cpu")
    rles = None
    if instances.has("pred_masks"):
        rles = encode_masks(instances.pred_masks.bool().numpy())  # of (M, H, W)
    return Detections(
        boxes=instances.pred_boxes.tensor.numpy().astype(np.float64),
        rles=rles,
        classes=instances.pred_classes.numpy(),
        scores=instances.scores.numpy().astype(np.float64),
    )


class VOCInstanceEvaluator(DatasetEvaluator):
    """AP_d and AP_m of a data set in VOC layout: `VOCInstanceEvaluator(cfg, dataset_name)`.

    Args:
        dataset_name: a registered data set of this project.
        score_floor: SCORE_THRESH_TEST of the model's head, for the protocol.
        detections_per_image: TEST.DETECTIONS_PER_IMAGE of the model, for the protocol.
        output: folder of the run, in which the detections are written in COCO's results format;
            None writes none.

    Attributes:
        result: all figures of the last `evaluate` in the main process, else None; see
            `atto_det.evaluation` for every key.

    Raises:
        UserError: the config's model does not detect objects.
    """

    @configurable
    def __init__(
        self,
        dataset_name: str,
        *,
        score_floor: float,
        detections_per_image: int,
        output: Path | None = None,
    ) -> None:
        self.dataset_name, self.output = dataset_name, output
        self.score_floor = score_floor
        self.detections_per_image = detections_per_image
        self.reset()

    @classmethod
    def from_config(cls, cfg: CfgNode, dataset_name: str) -> dict[str, Any]:
        """Arguments of the constructor, from a config."""
        check_detector(cfg)
        return {
            "dataset_name": dataset_name,
            "score_floor": class_head(cfg)[1].SCORE_THRESH_TEST,
            "detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "output": Path(cfg.OUTPUT_DIR),
        }

    def reset(self) -> None:
        """Discard the collected detections."""
        self._detections: dict[str, Detections] = {}
        self.result: dict[str, Any] | None = None

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Collect a batch's detections: inputs with `image_id`, outputs with `instances`."""
        for item, output in zip(inputs, outputs, strict=True):
            self._detections[item["image_id"]] = to_detections(output["instances"])

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """AP_d and AP_m in Detectron2's form: {"bbox": {"AP_d": …}, "segm": {"AP_m": …}}.

        Returns:
            In the main process, the result for the detections of all processes; None in the others.
            An AP that does not exist is left out.
        """
        gathered = comm.gather(self._detections)
        if not comm.is_main_process():
            return None
        self.result = score(
            load_dataset(self.dataset_name),
            {image_id: found for part in gathered for image_id, found in part.items()},
            name=self.dataset_name,
            score_floor=self.score_floor,
            detections_per_image=self.detections_per_image,
            output=self.output,
        )
        tasks = (("bbox", "AP_d"), ("segm", "AP_m"))
        return {
            task: {key: self.result[key]} for task, key in tasks if self.result[key] is not None
        }
