"""From a checkpoint and a picture to detections, in three lines."""

from pathlib import Path

import numpy as np
import torch
from detectron2.data import transforms as T

from atto_det import data
from atto_det.config import set_prediction
from atto_det.evaluation import Detections
from atto_det.weights import checkpoint

from .config import config_from_text
from .evaluator import check_detector, to_detections
from .inference import optimise_for_inference
from .model import build_model


class Predictor:
    """A trained model behind one call.

        predictor = atto_det.Predictor("model_best.pth")
        found = predictor("street.jpg")
        print([predictor.class_names[c] for c in found.classes], found.scores)

    Args:
        path: a checkpoint that this project wrote; it is all that is needed.
        device: "cpu", "cuda" …; by default the checkpoint's, or the CPU where there is no GPU.
        score_threshold: detections below it are dropped; by default the config's
            MODEL.ROI_HEADS.SCORE_THRESH_TEST.

    Attributes:
        class_names: name of each class index.
        cfg: the config of the model.
        model: the Detectron2 model, in evaluation mode, as `optimise_for_inference` leaves it: the
            same results in less time, its batch norms folded into the convolutions.

    Raises:
        UserError: a missing, damaged, unsafe or foreign checkpoint, one of a model that finds no
            objects, or a device that is not there.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: str | None = None,
        score_threshold: float | None = None,
    ) -> None:
        content = checkpoint.load_checkpoint(path)
        part = checkpoint.read_description(content, path)
        cfg = config_from_text(part["config"], f"the config in checkpoint {path}")
        check_detector(cfg)
        set_prediction(cfg, device, score_threshold)
        cfg.freeze()
        self.cfg = cfg
        self.class_names: list[str] = part["class_names"]
        self.model = build_model(cfg).eval()
        checkpoint.load_weights(self.model, content, path)
        optimise_for_inference(self.model)
        size = cfg.INPUT.MIN_SIZE_TEST
        self._resize = T.ResizeShortestEdge([size, size], cfg.INPUT.MAX_SIZE_TEST)

    def __call__(self, image: str | Path | np.ndarray) -> Detections:
        """Detect in a picture: a path, or uint8 (H, W, 3) in BGR order, as OpenCV reads it.

        Returns:
            boxes, masks and scores at the picture's own size, highest score first. `rles` is None
            of a model without masks.

        Raises:
            UserError: an unreadable picture, or an array of another form.
        """
        image = data.rgb_picture(image)
        height, width = image.shape[:2]
        if self.cfg.INPUT.FORMAT == "BGR":
            image = image[:, :, ::-1]
        image = self._resize.get_transform(image).apply_image(image)
        pixels = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))
        with torch.inference_mode():
            output = self.model([{"image": pixels, "height": height, "width": width}])[0]
        return to_detections(output["instances"])
