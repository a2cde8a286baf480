"""Detectron2's keys that describe ResNets and that no other network reads."""

import logging
from collections.abc import Mapping
from typing import Any

from atto_det.errors import UserError, shown

logger = logging.getLogger(__name__)
# MODEL.RESNETS with Detectron2's defaults, without OUT_FEATURES, which other networks read too.
DEFAULTS: dict[str, Any] = {
    "DEPTH": 50,
    "NUM_GROUPS": 1,
    "NORM": "FrozenBN",
    "WIDTH_PER_GROUP": 64,
    "STRIDE_IN_1X1": True,
    "RES5_DILATION": 1,
    "RES2_OUT_CHANNELS": 256,
    "STEM_OUT_CHANNELS": 64,
    "DEFORM_ON_PER_STAGE": [False, False, False, False],
    "DEFORM_MODULATED": False,
    "DEFORM_NUM_GROUPS": 1,
}


def say_what_resnets_alone_have(builder: str, given: Mapping[str, Any]) -> None:
    """Log the keys of MODEL.RESNETS that were changed although they have no effect.

    Args:
        builder: MODEL.BACKBONE.NAME.
        given: all or some of MODEL.RESNETS.
    """
    changed = [
        f"{key} {value if isinstance(value, str) and len(value) < 60 else shown(value, 60)}"
        for key, value in given.items()
        if key in DEFAULTS and value != DEFAULTS[key]
    ]
    if changed:
        logger.warning(
            "%s is not a ResNet: it ignores %s of MODEL.RESNETS", builder, ", ".join(changed)
        )


def check_norm_starts_at_zero(norm: str) -> None:
    """Refuse norms that are not trained, for a ResNet some of whose norms start at zero.

    Args:
        norm: MODEL.RESNETS.NORM.

    Raises:
        UserError: such a norm.
    """
    if norm in ("", "FrozenBN"):
        raise UserError(
            f"MODEL.RESNETS.NORM is {norm!r}: starting at zero needs norms that are trained, such "
            "as BN"
        )
