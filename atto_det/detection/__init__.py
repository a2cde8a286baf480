"""AttoNets in Detectron2. Importing this registers the backbones and the data sets, once.

import atto_det.detection
cfg = atto_det.detection.get_cfg()            # or add_attonet_config(your_cfg)
cfg.MODEL.BACKBONE.NAME = "build_attonet_fpn_backbone"
"""

from atto_det.errors import UserError

try:
    import detectron2  # noqa: F401
except ImportError as error:

    class MissingDetectron2(UserError, ImportError):
        """Detectron2 is not installed."""

    raise MissingDetectron2(
        "atto_det.detection needs Detectron2, which is not installed here: "
        "pip install --no-build-isolation -r requirements/detectron2.txt"
    ) from error

from detectron2.modeling import BACKBONE_REGISTRY

from . import backbone
from .backbone import AttoNetBackbone
from .catalog import data_root, load_dataset, register_builtin
from .checkpointer import AttoCheckpointer
from .config import add_attonet_config, get_cfg, load_config
from .evaluator import VOCInstanceEvaluator
from .mapper import AttoDatasetMapper
from .predictor import Predictor
from .trainer import Trainer, evaluate_model

__all__ = [
    "AttoCheckpointer",
    "AttoDatasetMapper",
    "AttoNetBackbone",
    "Predictor",
    "Trainer",
    "VOCInstanceEvaluator",
    "add_attonet_config",
    "data_root",
    "evaluate_model",
    "get_cfg",
    "load_config",
    "load_dataset",
]

for _builder in (
    backbone.build_attonet_backbone,
    backbone.build_attonet_fpn_backbone,
    backbone.build_retinanet_attonet_fpn_backbone,
):
    if _builder.__name__ not in BACKBONE_REGISTRY:  # an importlib.reload is no second registration
        BACKBONE_REGISTRY.register(_builder)
register_builtin()
