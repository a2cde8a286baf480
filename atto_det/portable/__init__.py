"""Atto-MaskRCNN without Detectron2: the same configs and weights on torchvision."""

from .config import load_config
from .model import build_model
from .predictor import Predictor

__all__ = ["Predictor", "build_model", "load_config"]
