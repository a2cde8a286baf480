"""From a checkpoint and a picture to detections, with Detectron2."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T
from torch import nn

from atto_det.evaluation import Detections
from atto_det.training.predictor import CheckpointPredictor
from atto_det.weights import checkpoint

from .augmented_test import augmented, unresized
from .config import configs
from .evaluator import check_detector, to_detections
from .inference import optimise_for_inference
from .mapper import AtLeastAPixel
from .model import build_model


class Predictor(CheckpointPredictor):
    """A trained model of Detectron2; arguments and attributes are `CheckpointPredictor`'s."""

    configs = configs

    def build(self, content: dict[str, Any], path: str | Path) -> nn.Module:
        """Detectron2's model, as returned by `optimise_for_inference`."""
        check_detector(self.cfg)
        model = build_model(self.cfg).eval()
        checkpoint.load_weights(model, content, path)
        return augmented(self.cfg, optimise_for_inference(model))

    def detect(self, image: np.ndarray) -> Detections:
        """Detections in uint8 (H, W, 3), in the channel order of INPUT.FORMAT, at its own size."""
        height, width = image.shape[:2]
        short = unresized(self.cfg).INPUT.MIN_SIZE_TEST
        resize = AtLeastAPixel(T.ResizeShortestEdge([short, short], self.cfg.INPUT.MAX_SIZE_TEST))
        image = resize.get_transform(image).apply_image(image)
        pixels = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))
        with torch.inference_mode():
            output = self.model([{"image": pixels, "height": height, "width": width}])[0]
        return to_detections(output["instances"])
