"""Training with less memory: activations are recomputed instead of kept.

Gradient checkpointing (arXiv 1604.06174) with `torch.utils.checkpoint`: only the input of a part of
a network is kept, and the backward pass recomputes from it what the gradients need.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(module: nn.Module, x: Tensor) -> Any:
    """`module(x)`, with only `x` kept for the backward pass.

    Outputs, gradients, random draws and the running statistics of batch norms are the same as
    without recomputation: a batch updates the statistics once, not twice.
    """
    contexts = partial(_contexts, module)
    return checkpoint(module, x, use_reentrant=False, context_fn=contexts)


def recomputing(network: nn.Module) -> list[nn.Module]:
    """The parts of a network that have the attribute `recomputes`, which switches this on."""
    return [module for module in network.modules() if hasattr(module, "recomputes")]


def _contexts(module: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """The contexts of the forward pass and of its recomputation."""
    return nullcontext(), _UnmovedStatistics(module)


class _UnmovedStatistics:
    """A context in which batch norms normalise by their batch without updating their statistics.

    The statistics are still passed on, since recomputation must save the same tensors.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __enter__(self) -> None:
        self.before = [
            (norm, norm.momentum, norm.num_batches_tracked)
            for norm in self.module.modules()
            if isinstance(norm, _BatchNorm)
        ]
        for norm, *_ in self.before:
            norm.momentum, norm.num_batches_tracked = 0.0, None

    def __exit__(self, *_: object) -> None:
        for norm, momentum, count in self.before:
            norm.momentum, norm.num_batches_tracked = momentum, count
