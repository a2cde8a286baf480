"""Loads initial weights into the torchvision model: of either engine, or of a classifier."""

import logging
from collections.abc import Sequence
from pathlib import Path

from torch import nn
from yacs.config import CfgNode

from atto_det.errors import UserError
from atto_det.weights import timm_backbone
from atto_det.weights.fine_tuning import fitting, refuse_strangers, start_table
from atto_det.weights.transfer import load_backbone, read_weights

from .mapping import to_detectron2, to_torchvision

logger = logging.getLogger(__name__)


def load_initial(
    model: nn.Module, cfg: CfgNode, path: str | Path, class_names: Sequence[str] = ()
) -> set[str]:
    """Load MODEL.TIMM.WEIGHTS, and whatever fits from the file MODEL.WEIGHTS; either may be empty.

    Args:
        path: a checkpoint with Detectron2's names, a detector file, or the backbone file of a
            classifier; "zoo:NAME" for those that come with the package.
        class_names: of the training, to be compared with those of a checkpoint.

    Returns:
        The names of the model's tensors that are missing in the file `path`.

    Raises:
        UserError: a missing, damaged or unsafe file, or one from which nothing fits the model.
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
    given = fitting(own, content, path)
    loaded = {key: value for key, value in given.items() if key in own}
    refuse_strangers(own, own.keys() - loaded.keys(), f"checkpoint {path}")
    model.load_state_dict(to_torchvision(own | loaded, cfg))
    if "atto_det" in content:
        logger.info("%s", start_table(own, loaded, content, class_names, path))
        return own.keys() - loaded.keys()
    for what, names in (
        ("not in the file, or of another shape there", own.keys() - loaded.keys()),
        ("not in the model, or of another shape there", content["model"].keys() - loaded.keys()),
    ):
        if names:
            logger.warning(
                "%s: %d tensors %s: %s", path, len(names), what, ", ".join(sorted(names))
            )
    logger.info("loaded %d tensors of %s", len(loaded), path)
    return own.keys() - loaded.keys()
