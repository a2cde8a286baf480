"""Weights to start from, into the torchvision model: of either engine, or of a classifier."""

import logging
from pathlib import Path

from torch import nn
from yacs.config import CfgNode

from atto_det.errors import UserError
from atto_det.weights import timm_backbone
from atto_det.weights.transfer import load_backbone, read_weights

from .mapping import to_detectron2, to_torchvision

logger = logging.getLogger(__name__)


def load_initial(model: nn.Module, cfg: CfgNode, path: str | Path) -> set[str]:
    """Load MODEL.TIMM.WEIGHTS, and what fits from the file MODEL.WEIGHTS, where they are not empty.

    Args:
        path: a checkpoint with Detectron2's names, or the backbone file of a classifier.

    Returns:
        The names of the model's tensors that the file `path` lacks.

    Raises:
        UserError: a missing, damaged or unsafe file, or one of which nothing fits the model.
    """
    timm_backbone.initialise(model, cfg)
    own = to_detectron2(model.state_dict(), cfg)
    if not path:
        return set(own)
    if "://" in str(path) or str(path).endswith((".pkl", ".pyth")):
        raise UserError(
            f"MODEL.WEIGHTS is {path}: URLs and pickles are for Detectron2 (--engine detectron2); "
            "the torchvision engine reads .pth and .safetensors files"
        )
    content = read_weights(path)
    if "backbone" in content:
        return load_backbone(model, cfg, content["backbone"], path)
    given = content["model"]
    fitting = {k: v for k, v in given.items() if k in own and v.shape == own[k].shape}
    if all(key.endswith("num_batches_tracked") for key in fitting):
        raise UserError(
            f"no tensor of checkpoint {path} fits this model: it belongs to another network, or "
            "its names have another prefix"
        )
    model.load_state_dict(to_torchvision(own | fitting, cfg))
    for what, names in (
        ("not in the file, or of another shape there", own.keys() - fitting.keys()),
        ("not in the model, or of another shape there", given.keys() - fitting.keys()),
    ):
        if names:
            logger.warning(
                "%s: %d tensors %s: %s", path, len(names), what, ", ".join(sorted(names))
            )
    logger.info("loaded %d tensors of %s", len(fitting), path)
    return own.keys() - fitting.keys()
