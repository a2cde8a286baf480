"""Which network a config's backbone is, whichever engine builds it."""

from collections.abc import Mapping
from typing import Any

RESNETS = ("build_resnet_fpn_backbone", "build_resnet_fpn_started_as_attonet_backbone")
TIMM = "build_timm_fpn_backbone"
SEPARABLE = "build_separable_fpn_backbone"  # lightens the pyramid of another builder


def builder(cfg: Mapping[str, Any]) -> str:
    """The builder of the network and its pyramid, which `SEPARABLE` may lighten."""
    model = cfg["MODEL"]
    name = model["BACKBONE"]["NAME"]
    return model["SEPARABLE"]["BACKBONE"] if name == SEPARABLE else name


def network(cfg: Mapping[str, Any]) -> str:
    """The network's name: "attonet_a", "resnet50", or timm's."""
    model, built_by = cfg["MODEL"], builder(cfg)
    if built_by in RESNETS:
        return f"resnet{model['RESNETS']['DEPTH']}"
    return model["TIMM" if built_by == TIMM else "ATTONET"]["NAME"]
