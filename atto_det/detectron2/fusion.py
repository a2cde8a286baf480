"""Fuses convolutions and dense layers with the operations that follow them.

Batch norms are folded into the weights. On a CPU, a ReLU or the sum with a shortcut becomes part of
the same call of oneDNN: torch's own modules read and write the memory again for each operation, and
on one thread do not use oneDNN at all for 1x1 convolutions. The calls used here are those of
torch's compiler, but without compiling, so that a new input size costs nothing. In a graph (of the
compiler or an exporter), with gradients, and for other devices and types, the layers are torch's
own.
"""

import itertools

import torch
from detectron2.layers import Conv2d
from torch import Tensor, nn
from torch.nn import functional

from atto_det.ops.fold_norms import count_places, is_plain

_CALLS = ("_convolution_pointwise", "_convolution_pointwise_", "_linear_pointwise")
_AVAILABLE = torch.backends.mkldnn.is_available() and all(
    hasattr(torch.ops.mkldnn, name) for name in _CALLS
)


def fuse(model: nn.Module) -> None:
    """Replace convolutions and dense layers in `model` by `FusedConv` and `FusedLinear`.

    A ReLU that follows one of them becomes part of it, if it is used only there.
    """
    places = count_places(model)
    new: dict[nn.Module, nn.Module] = {}
    for module in list(model.modules()):
        activation = getattr(module, "activation", None)
        if isinstance(module, Conv2d) and module.norm is None and isinstance(activation, nn.ReLU):
            module.activation = None
            fused = _fused(module, relu=True)
            if fused is None:
                module.activation = activation
            else:
                new[module] = fused
        elif isinstance(module, nn.Sequential):
            children = [c for c in module.named_children() if not isinstance(c[1], nn.Identity)]
            for (_, layer), (name, relu) in itertools.pairwise(children):
                fused = _fused(layer, relu=True)
                if fused is not None and places[layer] == 1 and type(relu) is nn.ReLU:
                    new[layer] = fused
                    setattr(module, name, nn.Identity())
    for module in model.modules():
        fused = None if module in new else _fused(module, relu=False)
        if fused is not None:
            new[module] = fused
    replace(model, new)


class BuiltFrom:
    """Mixin before a module's class: makes a subclass that is built from a module of that class.

    The new module shares the attributes, tensors, submodules and hooks of the other one.
    """

    def __init__(self, module: nn.Module) -> None:
        nn.Module.__init__(self)
        vars(self).update(vars(module))


def _fused(layer: nn.Module, *, relu: bool) -> nn.Module | None:
    """The fused version of `layer`, with its weights; None if there is no fused version."""
    if type(layer) is nn.Linear:
        return FusedLinear(layer, relu=relu)
    return FusedConv(layer, relu=relu) if _has_onednn_call(layer) else None


def replace(model: nn.Module, new: dict[nn.Module, nn.Module]) -> None:
    """Replace modules of `model` by those in `new`, also in the lists that Detectron2 keeps
    in addition to its modules.
    """
    for module in list(model.modules()):
        for name, child in module._modules.items():
            module._modules[name] = new.get(child, child)
        for value in vars(module).values():
            if isinstance(value, list):
                value[:] = [
                    new.get(item, item) if isinstance(item, nn.Module) else item for item in value
                ]


def _has_onednn_call(layer: nn.Module) -> bool:
    """Whether `layer` is a plain zero-padded convolution of torch's or Detectron2's own class."""
    if type(layer) is not nn.Conv2d and not isinstance(layer, Conv2d):
        return False
    return is_plain(layer) and layer.padding_mode == "zeros" and isinstance(layer.padding, tuple)


def _fits(x: Tensor) -> bool:
    """Whether oneDNN can be called directly on `x`."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling() or torch.is_grad_enabled():
        return False
    return _AVAILABLE and x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() > 0


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, *, relu: bool) -> Tensor:
    """A dense layer on `x` (…, in) with `weight` (out, in): (…, out); with a ReLU if `relu`."""
    if _fits(x):
        post = "relu" if relu else "none"
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, post, [], "")
    y = functional.linear(x, weight, bias)
    return y.relu_() if relu else y


class FusedLinear(nn.Linear):
    """A dense layer and, if `relu`, a ReLU.

    Args:
        layer: the layer whose weights are used.
    """

    def __init__(self, layer: nn.Linear, *, relu: bool) -> None:
        bias = layer.bias is not None
        super().__init__(layer.in_features, layer.out_features, bias, device="meta")
        self.weight, self.bias, self.relu = layer.weight, layer.bias, relu
        self.train(layer.training)

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.Linear`."""
        return linear(x, self.weight, self.bias, relu=self.relu)


class FusedConv(nn.Conv2d):
    """A convolution and, if `relu`, a ReLU.

    Args:
        conv: the convolution whose weights are used.
    """

    def __init__(self, conv: nn.Conv2d, *, relu: bool) -> None:
        shape = conv.in_channels, conv.out_channels, conv.kernel_size
        spacing = conv.stride, conv.padding, conv.dilation, conv.groups
        super().__init__(*shape, *spacing, conv.bias is not None, device="meta")
        self.weight, self.bias, self.relu = conv.weight, conv.bias, relu
        self.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.Conv2d`."""
        if _fits(x):
            post = "relu" if self.relu else "none"
            call = torch.ops.mkldnn._convolution_pointwise
            return call(x, *self._arguments(), post, [], "")
        y = super().forward(x)
        return y.relu_() if self.relu else y

    def add_to(self, total: Tensor, x: Tensor, *, relu: bool = False) -> Tensor:
        """`total` + convolution of `x`, with a ReLU if `relu`, computed in place in `total`.

        Args:
            total: has the shape of the result.
        """
        if _fits(x) and total.is_contiguous(memory_format=torch.channels_last):
            post = ("add", 1.0, "relu" if relu else None, [], "")
            return torch.ops.mkldnn._convolution_pointwise_(total, x, *self._arguments(), *post)
        total += super().forward(x)
        return total.relu_() if relu else total

    def _arguments(self) -> tuple:
        return self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
