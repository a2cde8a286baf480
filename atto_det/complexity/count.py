"""Multiply-adds, activations and parameters of the parts of a network.

Convolutions, dense layers and matrix products count; norms (which fold into the convolution before
them), element-wise functions, pooling and upsampling count nothing. The counter is torch's own:
unlike a traced graph it needs no arithmetic (on the meta device) and drops no result that goes
unused. It counts a multiply-add as two operations, fvcore as one; these figures are fvcore's, and
so is the definition of an activation: an element written by one of those operations.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry

Part = tuple[str, nn.Module, tuple]
"""Name, module, and the arguments that one forward pass of it gets."""


@dataclass(frozen=True)
class Cost:
    """What one part costs.

    Attributes:
        name: of the part.
        macs: multiply-adds of one forward pass.
        parameters: trainable or not; one that parts share counts with the first of them.
        activations: elements that the counted operations of one forward pass write.
    """

    name: str
    macs: int
    parameters: int
    activations: int


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
        macs, activations = _forward(module, inputs)
        costs.append(Cost(name, macs, sum(p.numel() for p in new), activations))
    return costs


def merge(costs: Iterable[Cost], name: str | None = None) -> list[Cost]:
    """`costs` with those of one name added up, in order of first appearance.

    With `name`, all of them become one cost of that name (of zeros where there are none).
    """
    sums = {} if name is None else {name: (0, 0, 0)}
    for cost in costs:
        key = cost.name if name is None else name
        macs, parameters, activations = sums.get(key, (0, 0, 0))
        sums[key] = (
            macs + cost.macs,
            parameters + cost.parameters,
            activations + cost.activations,
        )
    return [Cost(key, *values) for key, values in sums.items()]


def _forward(module: nn.Module, inputs: tuple) -> tuple[int, int]:
    """Multiply-adds and activations of one forward pass."""
    macs = FlopCounterMode(display=False)
    activations = FlopCounterMode(display=False, custom_mapping=_WRITTEN)
    with torch.no_grad(), macs, activations:
        module(*inputs)
    return macs.get_total_flops() // 2, activations.get_total_flops()


def _elements(*args, out_shape: Any = None, **kwargs) -> int:
    """The size of an operation's output; of several outputs (attention) the first is the result."""
    while isinstance(out_shape, tuple | list) and out_shape and not isinstance(out_shape[0], int):
        out_shape = out_shape[0]
    return math.prod(out_shape)


_WRITTEN = dict.fromkeys(flop_registry, _elements)
