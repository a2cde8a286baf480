"""From a checkpoint and a picture to detections: what is the same with both engines."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from torch import nn
from yacs.config import CfgNode

from atto_det import data
from atto_det.config import (
    ConfigReader,
    check_class_names,
    set_class_count,
    set_prediction,
    use_available_device,
)
from atto_det.errors import UserError
from atto_det.evaluation import Detections
from atto_det.training.finite import finite_outputs
from atto_det.weights import checkpoint

PictureSource = str | Path | np.ndarray


class CheckpointPredictor(ABC):
    """A trained model behind one call.

        predictor = atto_det.Predictor("model_best.pth")
        found = predictor("street.jpg")
        print([predictor.class_names[c] for c in found.classes], found.scores)

    Args:
        path: a checkpoint or a detector file that this project wrote, with either engine, needs
            nothing else, nor does "zoo:NAME", which comes with the package (`atto-det zoo`). One of
            Detectron2's own `DefaultTrainer` needs `cfg`.
        cfg: for a checkpoint that carries no config: the config, or the path of its file.
        class_names: for such a checkpoint, by class index; by default those of `cfg`'s first
            training set.
        device: "cpu", "cuda" …; by default the config's, or the CPU where there is no GPU.
        score_threshold: detections below it are dropped; by default the config's
            MODEL.ROI_HEADS.SCORE_THRESH_TEST.

    Attributes:
        class_names: name of each class index.
        cfg: the config of the model.
        model: in evaluation mode, its batch norms folded into the convolutions.

    Raises:
        UserError: a missing, damaged, unsafe or foreign checkpoint, one of a model that this engine
            does not have or that finds no objects, class names of another number, or a device that
            is not there.
    """

    configs: ConfigReader

    def __init__(
        self,
        path: str | Path,
        *,
        cfg: CfgNode | str | Path | None = None,
        class_names: Sequence[str] | None = None,
        device: str | None = None,
        score_threshold: float | None = None,
    ) -> None:
        content = checkpoint.load_checkpoint(path)
        if cfg is None or "atto_det" in content:
            part = checkpoint.read_description(content, path)
            where = f"the config in checkpoint {path}"
            self.cfg = self.configs.config_from_text(part["config"], where)
            self.class_names: list[str] = part["class_names"]
            check_class_names(self.cfg, self.class_names, f"checkpoint {path}")
        else:
            self._take_config(cfg, class_names)
            content = {"model": content.get("model", content)}
        set_prediction(self.cfg, device, score_threshold)
        self.cfg.freeze()
        self.model = self.build(content, path)

    def _take_config(self, cfg: CfgNode | str | Path, class_names: Sequence[str] | None) -> None:
        """Take config and class names that the checkpoint does not carry."""
        cfg = cfg.clone() if isinstance(cfg, CfgNode) else self.configs.read_file(cfg)
        cfg.defrost()
        use_available_device(cfg)
        if class_names is None and not cfg.DATASETS.TRAIN:
            raise UserError("give class_names: the config has no DATASETS.TRAIN to take them from")
        if class_names is None:
            self.configs.catalog.register_own_data(cfg)
            class_names = self.configs.catalog.class_names_of(cfg.DATASETS.TRAIN[0])
        set_class_count(cfg, class_names, "class_names")
        self.cfg, self.class_names = cfg, list(class_names)

    @overload
    def __call__(self, image: PictureSource, *, order: str = ...) -> Detections: ...
    @overload
    def __call__(self, image: Sequence[PictureSource], *, order: str = ...) -> list[Detections]: ...
    def __call__(
        self, image: PictureSource | Sequence[PictureSource], *, order: str = "BGR"
    ) -> Detections | list[Detections]:
        """Detect in a picture: a path, or uint8 (H, W, 3) in BGR order, as OpenCV reads it.

        Args:
            image: one, or a list of them; each is looked at by itself, so that its result does not
                depend on the others.
            order: of the channels of arrays: "BGR", or "RGB".

        Returns:
            boxes, masks and scores at the picture's own size, highest score first; of a list of
            pictures, a list. `rles` is None of a model without masks.

        Raises:
            UserError: an unreadable picture, an array of another form, or a model whose numbers are
                not finite.
        """
        with finite_outputs(self.model):
            if isinstance(image, list | tuple):
                return [self.detect(self._picture(one, order)) for one in image]
            return self.detect(self._picture(image, order))

    def _picture(self, image: PictureSource, order: str) -> np.ndarray:
        return data.take_picture(image, self.cfg.INPUT.FORMAT, order)

    @abstractmethod
    def build(self, content: dict[str, Any], path: str | Path) -> nn.Module:
        """The model of `cfg` with the weights in `content` of checkpoint `path`, for inference."""

    @abstractmethod
    def detect(self, image: np.ndarray) -> Detections:
        """Detections in uint8 (H, W, 3), channels in the order INPUT.FORMAT, at its own size."""
