"""PyTorch's operators timed one by one, with their multiply-adds, by `torch.profiler`."""

import math
import os
import time
from collections.abc import Callable
from typing import Any

import torch

from atto_det.complexity.profile import PRODUCTS, NodeTime, convolution, kind_of

MATRIX_PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")


class ProfiledCall:
    """A call of operators on the CPU, of whose runs the shortest counts.

    A node is an operator that Python calls, together with those that it calls itself.

    Attributes:
        seconds: of the shortest run.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call, self.seconds = call, math.inf
        os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # otherwise it reports each start and end

    def __call__(self) -> None:
        """Run once."""
        cpu = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=cpu, record_shapes=True, with_flops=True) as record:
            begin = time.perf_counter()
            self._call()
            seconds = time.perf_counter() - begin
        if seconds < self.seconds:
            self.seconds, self._record = seconds, record

    def nodes(self) -> list[NodeTime]:
        """The operators in the order of their calls, named with the shapes of their inputs."""
        return [_node(event) for event in self._record.events() if event.cpu_parent is None]


def _node(event: Any) -> NodeTime:
    operator = event.name.rpartition("::")[2]
    kind, macs = _multiplied(operator, event) or (kind_of(operator.rstrip("_")), 0)
    shapes = ["x".join(map(str, shape)) for shape in event.input_shapes if shape]
    return NodeTime(" ".join([operator, *shapes]), operator, kind, event.cpu_time_total / 1e6, macs)


def _multiplied(operator: str, event: Any) -> tuple[str, int] | None:
    """Kind and multiply-adds; torch's profiler does not count transposed convolutions and oneDNN's
    fused operators.
    """
    shapes, values = event.input_shapes, event.concrete_inputs
    match operator:
        case "conv2d":
            return convolution(shapes[1], shapes[0][1]), event.flops // 2
        case "conv_transpose2d":
            x, weights = shapes[:2]
            return convolution(weights), math.prod(x) * math.prod(weights[1:])
        case "_convolution_pointwise":
            x, weights = shapes[:2]
            sides = zip(x[2:], weights[2:], *values[3:6], strict=True)
            places = (
                (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
                for side, kernel, padding, stride, dilation in sides
            )
            return convolution(weights, x[1]), x[0] * math.prod(places) * math.prod(weights)
        case "_convolution_pointwise_":  # which adds to its first input
            total, x, weights = shapes[:3]
            return convolution(weights, x[1]), math.prod(total) * math.prod(weights[1:])
        case "_linear_pointwise":
            return PRODUCTS, math.prod(shapes[0]) * shapes[1][0]
    flops = _product_flops(event)
    return (PRODUCTS, flops // 2) if flops else None


def _product_flops(event: Any) -> int:
    own = event.flops if event.name in MATRIX_PRODUCTS else 0
    return own + sum(map(_product_flops, event.cpu_children))
