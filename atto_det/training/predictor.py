"""From a checkpoint and a picture to detections: the part that both engines share."""

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
    refuse_other_weights,
    set_class_count,
    set_prediction,
    use_available_device,
)
from atto_det.errors import UserError
from atto_det.evaluation import Detections
from atto_det.evaluation.tiling import check_tile, detect_in_tiles
from atto_det.training.finite import finite_outputs
from atto_det.weights import checkpoint

PictureSource = str | Path | np.ndarray


class CheckpointPredictor(ABC):
    """A trained model that is called with pictures.

        predictor = atto_det.Predictor("model_best.pth")
        found = predictor("street.jpg")
        print([predictor.class_names[c] for c in found.classes], found.scores)

    Args:
        path: a checkpoint or a detector file that this project wrote with either engine, or
            "zoo:NAME" for one that comes with the package (`atto-det zoo`); these need nothing
            else. A checkpoint of Detectron2's own `DefaultTrainer` also needs `cfg`.
        cfg: config, or the path of its file, for a checkpoint without one.
        class_names: for such a checkpoint, by class index; by default those of `cfg`'s first
            training set.
        device: "cpu", "cuda" …; by default the config's, or the CPU if there is no GPU.
        score_threshold: detections below it are dropped; by default the config's
            MODEL.ROI_HEADS.SCORE_THRESH_TEST.
        tile: side in pixels of the tiles that larger pictures are looked at in, each as a picture
            of its own (`atto_det.evaluation.tiling`); by default pictures are seen as a whole.
        options: changes to the config that the checkpoint carries: KEY, VALUE, KEY, VALUE …

    Attributes:
        class_names: name of each class index.
        cfg: the config of the model.
        model: in evaluation mode, with batch norms folded into the convolutions.

    Raises:
        UserError: a checkpoint that is missing, damaged, unsafe or foreign; a model that this
            engine does not have or that detects no objects; the wrong number of class names; or a
            device that does not exist.
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
        tile: int | None = None,
        options: Sequence[str] = (),
    ) -> None:
        check_tile(tile)
        self.tile = tile
        refuse_other_weights(options, path)
        content = checkpoint.load_checkpoint(path)
        if cfg is None or "atto_det" in content:
            part = checkpoint.read_description(content, path)
            where = f"the config in checkpoint {path}"
            self.cfg = self.configs.config_from_text(part["config"], where, options)
            self.class_names: list[str] = part["class_names"]
            check_class_names(self.cfg, self.class_names, f"checkpoint {path}")
        elif options:
            raise UserError(f"checkpoint {path} carries no config that options could change")
        else:
            self._take_config(cfg, class_names)
            content = {"model": content.get("model", content)}
        set_prediction(self.cfg, device, score_threshold)
        self.cfg.freeze()
        self.model = self.build(content, path)

    def _take_config(self, cfg: CfgNode | str | Path, class_names: Sequence[str] | None) -> None:
        """Set the config and class names for a checkpoint that has none."""
        cfg = cfg.clone() if isinstance(cfg, CfgNode) else self.configs.read_file(cfg)
        cfg.defrost()
        use_available_device(cfg)
        if class_names is None and not cfg.DATASETS.TRAIN:
            raise UserError("give class_names: the config has no DATASETS.TRAIN to take them from")
        if class_names is None:
            self.configs.catalog.register_own_data(cfg)
            try:
                class_names = self.configs.catalog.class_names_of(cfg.DATASETS.TRAIN[0])
            except UserError as error:
                raise UserError(f"{error}; or give class_names in Python") from error
        set_class_count(cfg, class_names, "class_names")
        self.cfg, self.class_names = cfg, list(class_names)

    @overload
    def __call__(self, image: PictureSource, *, order: str = ...) -> Detections: ...
    @overload
    def __call__(self, image: Sequence[PictureSource], *, order: str = ...) -> list[Detections]: ...
    def __call__(
        self, image: PictureSource | Sequence[PictureSource], *, order: str = "BGR"
    ) -> Detections | list[Detections]:
        """Detect objects in a picture: a path, or uint8 (H, W, 3) in BGR order, as OpenCV reads it.

        Args:
            image: a picture or a list of them; each is processed separately, so that its result
                does not depend on the others.
            order: of the channels of arrays: "BGR" or "RGB".

        Returns:
            Boxes, masks and scores at the picture's own size, highest score first; for a list of
            pictures, a list of these. `rles` is None for a model without masks.

        Raises:
            UserError: an unreadable picture, an array of the wrong shape or type, or a model whose
                outputs are not finite.
        """
        with finite_outputs(self.model):
            if isinstance(image, list | tuple):
                return [self._detect(one, order) for one in image]
            return self._detect(image, order)

    def _detect(self, image: PictureSource, order: str) -> Detections:
        picture = data.take_picture(image, self.cfg.INPUT.FORMAT, order)
        return detect_in_tiles(self.detect, picture, self.tile)

    @abstractmethod
    def build(self, content: dict[str, Any], path: str | Path) -> nn.Module:
        """The model of `cfg` with the weights in `content` of checkpoint `path`, for inference."""

    @abstractmethod
    def detect(self, image: np.ndarray) -> Detections:
        """Detections in uint8 (H, W, 3), in the channel order of INPUT.FORMAT, at its own size."""
