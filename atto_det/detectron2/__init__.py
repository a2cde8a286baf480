"""AttoNets in Detectron2. Importing this module registers backbones, heads and data sets, once.

import atto_det.detectron2
cfg = atto_det.detectron2.get_cfg()            # or add_attonet_config(your_cfg)
cfg.MODEL.BACKBONE.NAME = "build_attonet_fpn_backbone"
"""

from atto_det.data import data_root

from . import _detectron2, run  # in this order: the first reports a missing Detectron2
from .backbone import AttoNetBackbone, create_backbone, register_backbones
from .catalog import load_dataset, register_builtin
from .checkpointer import ENGINE, AttoCheckpointer
from .config import add_attonet_config, get_cfg, load_config
from .evaluator import VOCInstanceEvaluator
from .heads import SeparableMaskHead, SeparableRPNHead, register_heads
from .loader import training_scenes
from .mapper import AttoDatasetMapper
from .predictor import Predictor
from .trainer import Trainer, evaluate_model

__all__ = [
    "ENGINE",
    "AttoCheckpointer",
    "AttoDatasetMapper",
    "AttoNetBackbone",
    "MissingDetectron2",
    "Predictor",
    "SeparableMaskHead",
    "SeparableRPNHead",
    "Trainer",
    "VOCInstanceEvaluator",
    "add_attonet_config",
    "create_backbone",
    "data_root",
    "evaluate_model",
    "get_cfg",
    "load_config",
    "load_dataset",
    "run",
    "training_scenes",
]

MissingDetectron2 = _detectron2.MissingDetectron2

register_backbones()
register_heads()
register_builtin()
