"""Zero-cost proxies: rankings of networks without training, as a baseline for the supernet's.

Published proxies often rank no better than the number of multiply-adds, so both are reported.
"""

import copy

import torch
from torch import Tensor, nn

from atto_det.exploration.supernet import build
from atto_det.nets.backbone import BackboneSpec


def proxies(spec: BackboneSpec, classes: int, images: Tensor, *, seed: int) -> dict[str, float]:
    """The training-free scores of a network by name.

    Args:
        images: (B, 3, S, S), normalised.
        seed: of the random weights.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        net = build(spec, classes)
    for module in net.modules():  # those that start at 0 would hide their whole residual module
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    return {
        "naswot": naswot(copy.deepcopy(net), images),
        "synflow": synflow(net, images.shape[-1]),
    }


def synflow(net: nn.Module, size: int) -> float:
    """The logarithm of synaptic flow (arXiv 2006.05467; over a whole network: arXiv 2101.08134).

    With all weights made positive and a picture of ones as input: the sum, over the weights, of
    weight times gradient of the output. Untrained norms with a scale of 1 change nothing.

    Args:
        net: a classifier with random weights; it is modified.
        size: side of the picture in pixels.
    """
    net = net.double().eval()
    for parameter in net.parameters():
        parameter.data.abs_()
    net(torch.ones(1, 3, size, size, dtype=torch.float64)).sum().backward()
    parameters = [p for p in net.parameters() if p.grad is not None]
    return float(torch.stack([(p.detach() * p.grad).sum() for p in parameters]).sum().log())


@torch.no_grad()
def naswot(net: nn.Module, images: Tensor) -> float:
    """How differently the ReLUs respond to different pictures (arXiv 2006.04647, equation 2).

    The logarithm of the determinant of a kernel which holds, for each pair of pictures, the number
    of ReLUs on which they agree.

    Args:
        net: a classifier with random weights; its norms' statistics are modified.
        images: (B, 3, S, S), normalised.
    """
    kernel = torch.zeros(len(images), len(images), dtype=torch.float64)

    def count(module: nn.Module, inputs: object, output: Tensor) -> None:
        on = (output > 0).flatten(1).double()
        kernel.add_(on @ on.T + (1 - on) @ (1 - on).T)

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, nn.ReLU)]
    net.train()(images)
    for hook in hooks:
        hook.remove()
    return float(torch.linalg.slogdet(kernel).logabsdet)
