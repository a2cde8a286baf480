"""Atto-MaskRCNN without Detectron2: the same configs and weights on torchvision.

`load_config`, `build_model` and `Predictor` behave like Detectron2 and take its experiment files
and weights; `maskrcnn_attonet_fpn` and its like are torchvision's own detectors.
"""

import importlib

from atto_det.data.catalog import load_dataset
from atto_det.errors import UserError

from .config import load_config
from .detectors import fasterrcnn_attonet_fpn, maskrcnn_attonet_fpn, retinanet_attonet_fpn
from .mapper import training_scenes
from .model import build_model
from .predictor import Predictor

ENGINE = "torchvision"

__all__ = [
    "ENGINE",
    "Predictor",
    "build_model",
    "fasterrcnn_attonet_fpn",
    "load_config",
    "load_dataset",
    "maskrcnn_attonet_fpn",
    "retinanet_attonet_fpn",
    "run",
    "training_scenes",
]


def __getattr__(name: str) -> object:
    """Import `run` when it is first used, since it needs Lightning, which predicting does not."""
    if name != "run":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return importlib.import_module(f"{__name__}.run")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lightning":
            raise
        raise UserError(
            "training without Detectron2 needs Lightning: pip install lightning"
        ) from error
