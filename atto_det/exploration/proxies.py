"""Zero-cost proxies: what ranks networks without a training, beside which a supernet must stand.

Published proxies often rank no better than multiply-adds do, so both are reported.
"""

import torch
from torch import Tensor, nn


def synflow(net: nn.Module, size: int) -> float:
    """Synaptic flow (arXiv 2006.05467; of a whole network: arXiv 2101.08134), as a logarithm.

    The sum over the weights, all made positive, of weight times gradient of the output to a picture
    of ones. Norms are at their start, where they change nothing.

    Args:
        net: a classifier with random weights; it is changed.
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
    """How differently ReLUs see pictures (arXiv 2006.04647, equation 2), with random weights.

    The logarithm of the determinant of the kernel that counts, for each two pictures, on how many
    ReLUs they agree.

    Args:
        net: a classifier with random weights.
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
