"""Multiply-adds and parameters of the parts of a network.

Convolutions, dense layers and matrix products count; norms (which fold into the convolution before
them), activations, pooling and upsampling count nothing. The counter is torch's own: unlike a
traced graph it needs no arithmetic (on the meta device) and drops no result that goes unused. It
counts a multiply-add as two operations, fvcore as one; these figures are fvcore's.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

Part = tuple[str, nn.Module, tuple]
"""Name, module, and the arguments that one forward pass of it gets."""


@dataclass(frozen=True)
class Cost:
    """What one part costs.

    Attributes:
        name: of the part.
        macs: multiply-adds of one forward pass.
        parameters: trainable or not; one that parts share counts with the first of them.
    """

    name: str
    macs: int
    parameters: int


def count(parts: Iterable[Part]) -> list[Cost]:
    """The cost of each part, in order.

    Everything that a forward pass computes counts, wanted later or not. Modules run in the mode
    (training, evaluation) that they are in, and on the device that they and their inputs lie on;
    on the meta device nothing is computed.
    """
    seen: set[nn.Parameter] = set()
    costs = []
    for name, module, inputs in parts:
        new = set(module.parameters()) - seen
        seen |= new
        costs.append(Cost(name, _macs(module, inputs), sum(p.numel() for p in new)))
    return costs


def _macs(module: nn.Module, inputs: tuple) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops() // 2
