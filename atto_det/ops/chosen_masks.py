"""Masks for only the predicted class of each region, from the last layers of a Mask R-CNN head."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Pointwise = Callable[[Tensor, Tensor, Tensor], Tensor]


def convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 1x1 convolution of (N, C, H, W) with `weight` (out, C), and ReLU."""
    return functional.conv2d(x, weight[:, :, None, None], bias).relu()


def chosen_masks(
    x: Tensor,
    chosen: Tensor,
    size: tuple[int, int],
    upsample: nn.ConvTranspose2d,
    last: nn.Conv2d,
    pointwise: Pointwise = convolve,
) -> Tensor:
    """Features (N, C, H, W) of `size` and classes (N,) to probabilities (N, 1, 2 * H, 2 * W).

    The result is the same as the layers', for only the class of each region, and the positions are
    rearranged last: an output pixel of the transposed convolution, 2x2 with stride 2, depends on
    one input pixel, so that a 1x1 convolution gives the four outputs for each input pixel.

    Args:
        upsample: transposed convolution, with a ReLU after it.
        last: 1x1 convolution to a score for each class.
        pointwise: computes the 1x1 convolution and the ReLU, from (N, C, H, W) to
            (N, 4 * C, H, W).
    """
    (height, width), count = size, chosen.shape[0]
    weight = upsample.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (2 * 2 * C, C)
    corners = pointwise(x, weight, upsample.bias.repeat(4)).permute(0, 2, 3, 1)
    corners = corners.reshape(count, height * width * 4, upsample.out_channels)
    own, bias = last.weight[chosen, :, 0], last.bias[chosen, None, None]  # (N, C, 1), (N, 1, 1)
    logits = torch.matmul(corners, own) + bias  # (N, H * W * 4, 1)
    logits = logits.view(count, height, width, 2, 2).permute(0, 1, 3, 2, 4)
    return logits.reshape(count, 1, 2 * height, 2 * width).sigmoid()
