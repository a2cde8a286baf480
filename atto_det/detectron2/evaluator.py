"""Detectron2's output into `atto_det.evaluation`, as a Detectron2 evaluator."""

import numpy as np
import pycocotools.mask as mask_util
from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm

from atto_det.errors import UserError
from atto_det.evaluation import Detections
from atto_det.training.scoring import score

from .catalog import load_dataset


def check_detector(cfg: CfgNode) -> None:
    """Refuse a config whose model gives no instances, as `to_detections` needs them.

    Raises:
        UserError: it names the key.
    """
    kind = cfg.MODEL.META_ARCHITECTURE
    if kind in ("ProposalNetwork", "SemanticSegmentor"):
        raise UserError(
            f"MODEL.META_ARCHITECTURE is {kind}, which finds no objects of classes: to train it, "
            "set DATASETS.TEST to ()"
        )


def to_detections(instances: Instances) -> Detections:
    """Instances of one picture, at its native size, as plain arrays; masks become RLE.

    `rles` is None where the model gives no masks.
    """
    instances = instances.to("cpu")
    rles = None
    if instances.has("pred_masks"):
        masks = instances.pred_masks.bool().numpy().view(np.uint8)  # (M, H, W)
        rles = [mask_util.encode(np.asfortranarray(mask)) for mask in masks]
    return Detections(
        boxes=instances.pred_boxes.tensor.numpy().astype(np.float64),
        rles=rles,
        classes=instances.pred_classes.numpy(),
        scores=instances.scores.numpy().astype(np.float64),
    )


class VOCInstanceEvaluator(DatasetEvaluator):
    """AP_d and AP_m of a data set in VOC layout; see `atto_det.evaluation` for every key.

    Args:
        dataset_name: a registered data set of this project.
        score_floor: SCORE_THRESH_TEST of the model's head, for the protocol.
        detections_per_image: TEST.DETECTIONS_PER_IMAGE of the model, likewise.
    """

    def __init__(self, dataset_name: str, *, score_floor: float, detections_per_image: int) -> None:
        self.dataset_name = dataset_name
        self.score_floor = score_floor
        self.detections_per_image = detections_per_image
        self._detections: dict[str, Detections] = {}

    def reset(self) -> None:
        """Forget what was seen."""
        self._detections = {}

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Keep a batch's detections: inputs with `image_id`, outputs with `instances`."""
        for item, output in zip(inputs, outputs, strict=True):
            self._detections[item["image_id"]] = to_detections(output["instances"])

    def evaluate(self) -> dict | None:
        """The result in the main process, from the detections of all; None in the others."""
        gathered = comm.gather(self._detections)
        if not comm.is_main_process():
            return None
        return score(
            load_dataset(self.dataset_name),
            {image_id: found for part in gathered for image_id, found in part.items()},
            name=self.dataset_name,
            score_floor=self.score_floor,
            detections_per_image=self.detections_per_image,
        )
