"""AttoNets in timm: `timm.list_models(module="attonet")`, after the name of this file."""

from typing import Any

from timm.models import generate_default_cfgs
from torch import nn

from atto_det.nets import ATTONETS
from atto_det.timm.network import create, default_cfg, register

__all__ = ["attonet_a", "attonet_b", "attonet_c", "attonet_d"]

default_cfgs = generate_default_cfgs(  # register_model looks for this name
    {name: default_cfg(paper_ids="arXiv:1903.07209") for name in ATTONETS}
)


@register
def attonet_a(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """AttoNet-A; arguments as for `TimmNetwork`."""
    return create("attonet_a", pretrained, **kwargs)


@register
def attonet_b(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """AttoNet-B; arguments as for `TimmNetwork`."""
    return create("attonet_b", pretrained, **kwargs)


@register
def attonet_c(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """AttoNet-C; arguments as for `TimmNetwork`."""
    return create("attonet_c", pretrained, **kwargs)


@register
def attonet_d(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """AttoNet-D; arguments as for `TimmNetwork`."""
    return create("attonet_d", pretrained, **kwargs)
