"""The building blocks of the networks: a convolution with its norm, and the AttoNet module.

Shapes in comments: B batch, C channels, H and W height and width.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atto_det.errors import UserError

NORMS = ("BN", "FrozenBN", "SyncBN")
SHORTER = 0.4  # initial length of filters, relative to PyTorch's
START_LENGTH = SHORTER / 3**0.5  # mean, whatever the filter's size; PyTorch's filters have 1 / √3


def check_count(what: str, value: object) -> None:
    """Refuse what is no number of channels, groups or pixels.

    Raises:
        UserError: `value` is not an int of at least 1; `what` names it.
    """
    if type(value) is not int or value < 1:
        raise UserError(f"{what} is {value!r}: it must be a whole number of at least 1")


def make_norm(norm: str, channels: int) -> nn.Module:
    """A norm over `channels` of a (B, C, H, W) tensor: batch norm, frozen, or synchronised.

    Raises:
        UserError: `norm` is not in `NORMS`.
    """
    if norm == "BN":
        return nn.BatchNorm2d(channels)
    if norm == "SyncBN":
        return nn.SyncBatchNorm(channels)
    if norm == "FrozenBN":
        from torchvision.ops import FrozenBatchNorm2d  # torchvision takes a second to import

        return FrozenBatchNorm2d(channels)
    raise UserError(f"unknown norm {norm!r}: choose one of {', '.join(NORMS)}")


def shorten_filters(conv: nn.Conv2d) -> None:
    """Shorten filters with PyTorch's initialisation to `SHORTER` of their length.

    Only for convolutions that are followed by a norm. On CarParts, with 1,000 steps from random
    weights, 0.4 was better than 1; 0.25 and 0.15 were no better than 0.4
    (results/start_carparts.json).
    """
    with torch.no_grad():
        conv.weight.mul_(SHORTER)


def start_as_attonet(net: nn.Module, last_norms: Iterable[nn.Module]) -> None:
    """Initialise a ResNet like an AttoNet: short filters, and zero in `last_norms`.

    Args:
        last_norms: of the bottlenecks with an identity shortcut.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
            shorten_filters(module)
    for last in last_norms:
        nn.init.zeros_(last.weight)


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
    norm: str = "BN",
    relu: bool = True,
) -> nn.Sequential:
    """Convolution without bias, norm, and (unless `relu` is False) ReLU.

    Filters start short, with `START_LENGTH` whatever their size (`shorten_filters`). The norm
    cancels their length, and a step changes the direction of short filters more: in few steps from
    random weights, detectors learn much more than with He's initialisation, whose filters are up to
    20 times longer here.

    Padding is half the kernel, so that the output has ceil(H / stride) by ceil(W / stride) pixels.
    """
    layers = OrderedDict(
        conv=nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        ),
        norm=make_norm(norm, out_channels),
    )
    shorten_filters(layers["conv"])
    if relu:
        layers["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)


def separable_conv(
    in_channels: int, out_channels: int, *, norm: str = "BN", relu: bool = True
) -> nn.Sequential:
    """Depthwise 3x3 and 1x1 convolution, norm, and (unless `relu` is False) ReLU.

    (B, in_channels, H, W) to (B, out_channels, H, W). With `norm` "" there is no norm, and the 1x1
    convolution has a bias.

    The initialisation preserves the variance, with a depthwise convolution whose outputs are three
    times larger than usual and a 1x1 convolution that compensates for it. A step of gradient
    descent changes a layer's output in proportion to the squared norm of its inputs: the 1x1
    convolution, which has nine times fewer inputs than a full 3x3 convolution, then learns as fast.

    Raises:
        UserError: `norm` is neither "" nor one of `NORMS`.
    """
    depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
    pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=not norm)
    nn.init.normal_(depthwise.weight, std=1.0)
    nn.init.normal_(pointwise.weight, std=((2.0 if relu else 1.0) / in_channels) ** 0.5 / 3)
    layers = OrderedDict(depthwise=depthwise, pointwise=pointwise)
    if norm:
        layers["norm"] = make_norm(norm, out_channels)
    else:
        nn.init.zeros_(pointwise.bias)
    if relu:
        layers["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)


@dataclass(frozen=True)
class AttoModuleSpec:
    """One AttoNet module: a row of Table 1 of arXiv 1903.07209.

    Attributes:
        compress: output channels of the first 1x1 convolution.
        multiplier: output channels per input channel of the 3x3 depthwise convolution.
        mix: output channels of the 1x1 convolution after it.
        expand: output channels of the last 1x1 convolution, and so of the module.
    """

    compress: int
    multiplier: int
    mix: int
    expand: int

    @property
    def out_channels(self) -> int:
        """Channels of the module's output."""
        return self.expand

    def build(self, in_channels: int, *, opens: bool, stride: int, norm: str) -> "AttoModule":
        """The module; of Type B if it opens a stage."""
        return AttoModule(in_channels, self, type_b=opens, stride=stride, norm=norm)


class AttoModule(nn.Module):
    """Four convolutions and a shortcut around them, with a ReLU after their sum.

    Type A has an identity shortcut. It starts as the identity, with zero in its last norm (arXiv
    1706.02677, section 5.1): without that, a detector hardly learns from random weights. Type B has
    a 1x1 convolution on the shortcut, since it opens a stage: it changes the number of channels
    and, from `res3` on, the stride (on the 3x3 convolution and on the shortcut).
    """

    def __init__(
        self, in_channels: int, spec: AttoModuleSpec, *, type_b: bool, stride: int, norm: str
    ) -> None:
        super().__init__()
        wide = spec.compress * spec.multiplier
        self.compress = conv_norm(in_channels, spec.compress, norm=norm)
        self.depthwise = conv_norm(
            spec.compress, wide, 3, stride=stride, groups=spec.compress, norm=norm
        )
        self.mix = conv_norm(wide, spec.mix, norm=norm)
        self.expand = conv_norm(spec.mix, spec.expand, norm=norm, relu=False)
        self.shortcut = (
            conv_norm(in_channels, spec.expand, stride=stride, norm=norm, relu=False)
            if type_b
            else nn.Identity()
        )
        self.drop_path = nn.Identity()
        self.relu = nn.ReLU(inplace=True)
        if not type_b:
            nn.init.zeros_(self.expand.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.compress(x)  # (B, compress, H, W)
        y = self.depthwise(y)  # (B, compress * multiplier, H / stride, W / stride)
        y = self.mix(y)  # (B, mix, H / stride, W / stride)
        y = self.expand(y)  # (B, expand, H / stride, W / stride)
        return self.relu(self.drop_path(y) + self.shortcut(x))


def reset_lengths(net: nn.Module) -> None:
    """Scale filters before batch norms to about their initial length; the output stays the same.

    Training makes them longer, in pretrained AttoNets up to 15 times. That changes no output, since
    the norm cancels the length, but a step of gradient descent changes the direction of a filter in
    inverse proportion to its squared length: a detector's steps hardly change such a network
    (results/transfer_carparts.json). The factors are powers of two, which are exact.

    Filters before frozen norms are not changed.
    """
    for block in net.modules():
        norm = getattr(block, "norm", None)
        if not isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm):
            continue
        weight, variance = block.conv.weight.data, norm.running_var
        length = weight.double().flatten(1).norm(dim=1)  # (C,)
        factor = torch.where(length > 0, (START_LENGTH / length).log2().round().exp2(), 1.0)
        weight.copy_(weight * factor[:, None, None, None])
        norm.running_mean.copy_(norm.running_mean * factor)
        # In evaluation, eps has more weight than before; the norm's own weight compensates for it.
        grown = (variance + norm.eps / factor**2) / (variance + norm.eps)
        norm.weight.data.copy_(norm.weight * grown.sqrt())
        variance.copy_(variance * factor**2)


def freeze(module: nn.Module) -> None:
    """Freeze `module`: no gradients, and each batch norm becomes a frozen one."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d | nn.SyncBatchNorm):
                frozen = make_norm("FrozenBN", child.num_features)
                frozen.load_state_dict(child.state_dict())
                frozen.eps = child.eps
                setattr(parent, name, frozen)


def is_untrained_frozen_norm(module: nn.Module) -> bool:
    """Whether `module` is a frozen batch norm for which no weights were ever loaded."""
    return (
        type(module).__name__ == "FrozenBatchNorm2d"
        and not torch.count_nonzero(module.running_mean)
        and bool((module.running_var == 1).all())
    )
