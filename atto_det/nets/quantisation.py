"""Quantisation-aware training of weights that will be stored in 8 bits.

In the forward pass, each convolution and dense weight is rounded to 255 levels from -127 to 127,
per output channel and symmetric around zero; gradients pass straight through. Folding a batch norm
multiplies the weights of an output channel by a number, which scales such a grid without changing
the integers, whatever the number's sign. So the export changes nothing, and training need not
imitate the folding.

torch's own operation is used: torchao's quantisation-aware training is for dense layers, on a grid
from -128 to 127 that a negative scale does not preserve.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

LEVELS = 127


def scales(weight: Tensor) -> Tensor:
    """The step of the 8-bit grid of each output channel: (O,) for a weight (O, …)."""
    largest = weight.detach().flatten(1).abs().amax(dim=1)
    return largest.clamp_min(torch.finfo(weight.dtype).tiny * LEVELS) / LEVELS


def fake_quantise(weight: Tensor) -> Tensor:
    """`weight` (O, …) rounded to its 8-bit grid, as floats, with the gradient of the identity."""
    zeros = torch.zeros(len(weight), dtype=torch.int32, device=weight.device)
    return torch.fake_quantize_per_channel_affine(
        weight, scales(weight), zeros, axis=0, quant_min=-LEVELS, quant_max=LEVELS
    )


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """`weight` (O, …) as integers from -127 to 127, (O, …), and the step of each grid, (O,)."""
    steps = scales(weight)
    integers = fake_quantise(weight.detach()) / _along(steps, weight)
    return integers.round().to(torch.int8), steps


def dequantise(integers: Tensor, steps: Tensor) -> Tensor:
    """The rounded weight (O, …) from the result of `quantise`: the same as `fake_quantise`."""
    return integers.to(steps.dtype) * _along(steps, integers)


def _along(steps: Tensor, weight: Tensor) -> Tensor:
    return steps.view(-1, *[1] * (weight.ndim - 1))


def weight_names(network: nn.Module) -> list[str]:
    """Names of the parameters that are stored in 8 bits: weights of convolutions and dense layers.

    Biases and norms stay floats.
    """
    return [
        f"{name}.weight" if name else "weight"
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]


def quantised_call(network: nn.Module, images: Tensor) -> Tensor:
    """`network(images)` with weights rounded to 8-bit grids; its parameters are not changed."""
    rounded = {name: fake_quantise(network.get_parameter(name)) for name in weight_names(network)}
    return functional_call(network, rounded, (images,))
