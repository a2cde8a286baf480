"""Building a model; Detectron2's complaints about a config become readable errors."""

from detectron2 import modeling
from detectron2.config import CfgNode
from torch import nn

from atto_det.errors import UserError
from atto_det.nets.recomputation import recomputing


def build_model(cfg: CfgNode) -> nn.Module:
    """The model of a config, with random weights.

    Raises:
        UserError: no model can be built from the config; the message gives the reason.
    """
    try:
        model = modeling.build_model(cfg)
    except UserError:
        raise
    except (AssertionError, KeyError, RuntimeError, ValueError) as error:
        reason = str(error.args[0] if error.args else error).splitlines()[0]
        raise UserError(f"no model can be built from this config: {reason}") from error
    backbone = cfg.MODEL.BACKBONE
    if backbone.get("GRADIENT_CHECKPOINTING") and not recomputing(model):
        raise UserError(
            f"MODEL.BACKBONE.GRADIENT_CHECKPOINTING is True, which {backbone.NAME} does not "
            "support: set it to False, or use a backbone with an AttoNet or a timm network"
        )
    return model
