"""Multiply-adds, activations and parameters of the parts of a network.

Convolutions, dense layers and matrix products count; norms (which are folded into the convolution
before them), element-wise functions, pooling and upsampling count as zero. The counter is torch's
own: unlike a traced graph it needs no arithmetic (on the meta device) and does not drop unused
results. It counts a multiply-add as two operations, fvcore as one; the figures here are fvcore's,
and so is the definition of an activation: an element written by one of those operations.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

Part = tuple[str, nn.Module, tuple]
"""Name, module, and the arguments of one forward pass of the module."""


@dataclass(frozen=True)
class Cost:
    """The cost of one part.

    Attributes:
        name: of the part.
        macs: multiply-adds of one forward pass.
        parameters: trainable or not; those shared by several parts count for the first of them.
        activations: elements that the counted operations of one forward pass write.
    """

    name: str
    macs: int
    parameters: int
    activations: int


def count(parts: Iterable[Part]) -> list[Cost]:
    """The cost of each part, in order.

    Everything that a forward pass computes is counted, whether it is used or not. Modules run in
    their current mode (training, evaluation), on the device of their tensors and inputs; on the
    meta device nothing is computed.
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
    """`costs` with those of the same name added up, in order of first appearance.

    With `name`, all of them become one cost of that name (zero if there are none).
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
    with torch.no_grad(), WithoutNorms(), macs, activations:
        module(*inputs)
    return macs.get_total_flops() // 2, activations.get_total_flops()


class WithoutNorms(TorchFunctionMode):
    """Leaves out norms on the meta device, where each takes torch milliseconds for its shape."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func in (F.batch_norm, F.group_norm) and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


def _elements(*args, out_shape: Any = None, **kwargs) -> int:
    """The size of an operation's output; if there are several (attention), the first counts."""
    while isinstance(out_shape, tuple | list) and out_shape and not isinstance(out_shape[0], int):
        out_shape = out_shape[0]
    return math.prod(out_shape)


_WRITTEN = dict.fromkeys(flop_registry, _elements)
