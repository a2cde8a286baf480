"""AttendNets in timm: `timm.list_models(module="attendnet")`, after the name of this file."""

from typing import Any

from timm.models import generate_default_cfgs
from torch import nn

from atto_det.nets import ATTENDNETS
from atto_det.timm.network import create, default_cfg, register

__all__ = ["attendnet_a", "attendnet_b"]

default_cfgs = generate_default_cfgs(  # register_model looks for this name
    {name: default_cfg(paper_ids="arXiv:2009.14385") for name in ATTENDNETS}
)


@register
def attendnet_a(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """AttendNet-A, reconstructed; arguments as for `TimmNetwork`."""
    return create("attendnet_a", pretrained, **kwargs)


@register
def attendnet_b(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """AttendNet-B, reconstructed; arguments as for `TimmNetwork`."""
    return create("attendnet_b", pretrained, **kwargs)
