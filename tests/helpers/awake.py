"""Networks whose layers all do something."""

from torch import nn


def awake(net: nn.Module) -> nn.Module:
    """Modules of Type A and condensers start as identity; now they do something."""
    for key, parameter in net.named_parameters():
        if key.endswith(("expand.norm.weight", "up.norm.weight")):
            nn.init.ones_(parameter)
    return net
