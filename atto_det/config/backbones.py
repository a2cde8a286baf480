"""Which network a config's backbone is, whichever engine builds it."""

from collections.abc import Mapping
from typing import Any

ATTONET = "build_attonet_fpn_backbone"
STARTED_AS_ATTONET = "build_resnet_fpn_started_as_attonet_backbone"
RESNETS = ("build_resnet_fpn_backbone", STARTED_AS_ATTONET)
TIMM = "build_timm_fpn_backbone"
SEPARABLE = "build_separable_fpn_backbone"  # lightens the pyramid of another builder


def builder(cfg: Mapping[str, Any]) -> str:
    """The builder of the network and its pyramid, which `SEPARABLE` may lighten."""
    model = cfg["MODEL"]
    name = model["BACKBONE"]["NAME"]
    return model["SEPARABLE"]["BACKBONE"] if name == SEPARABLE else name


def network(cfg: Mapping[str, Any]) -> str:
    """The network's name: "attonet_a", "resnet50", timm's, or that of another builder."""
    model, built_by = cfg["MODEL"], builder(cfg)
    if "resnet" in built_by:  # Detectron2 has more builders with a ResNet than `RESNETS`
        return f"resnet{model['RESNETS']['DEPTH']}"
    if built_by == TIMM:
        return model["TIMM"]["NAME"]
    return model["ATTONET"]["NAME"] if "attonet" in built_by else built_by
