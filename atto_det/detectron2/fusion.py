"""What stands behind convolutions and dense layers, made part of them.

Batch norms are folded into the weights. On a CPU a ReLU, or the sum with a shortcut, becomes part
of the same call of oneDNN: torch's modules pass over memory again for each, and on one thread do
not use oneDNN at all for 1x1 convolutions. The calls used here are those of torch's compiler,
without compiling, so that nothing happens at a new input size; in a graph (of the compiler, or of
an exporter), with gradients, and for other devices and types, the layers are torch's own.
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
    """Let the convolutions and dense layers of a model on a CPU be `FusedConv` and `FusedLinear`.

    A ReLU behind one that is used in one place alone becomes part of it.
    """
    places = count_places(model)
    for module in list(model.modules()):
        if isinstance(module, Conv2d) and module.norm is None:
            if isinstance(module.activation, nn.ReLU):
                module.activation = None
                _fuse_one(module, relu=True)
        elif isinstance(module, nn.Sequential):
            children = [c for c in module.named_children() if not isinstance(c[1], nn.Identity)]
            for (_, layer), (name, relu) in itertools.pairwise(children):
                fits = places[layer] == 1 and type(relu) is nn.ReLU
                if fits and _fuse_one(layer, relu=True):
                    setattr(module, name, nn.Identity())
    for module in list(model.modules()):
        _fuse_one(module, relu=False)


def _fuse_one(layer: nn.Module, *, relu: bool) -> bool:
    """Change the class of `layer` if it is one that can be fused; whether it was."""
    if type(layer) is nn.Linear:
        layer.__class__ = FusedLinear
    elif _has_onednn_call(layer):
        layer.__class__ = FusedConv
    else:
        return False
    layer.relu = relu
    return True


def _has_onednn_call(layer: nn.Module) -> bool:
    """Whether `layer` is a convolution alone, of torch's or Detectron2's own class, zero-padded."""
    if type(layer) is not nn.Conv2d and not isinstance(layer, Conv2d):
        return False
    return is_plain(layer) and layer.padding_mode == "zeros" and isinstance(layer.padding, tuple)


def _fits(x: Tensor) -> bool:
    """Whether `x` goes to oneDNN directly."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling() or torch.is_grad_enabled():
        return False
    return _AVAILABLE and x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() > 0


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, *, relu: bool) -> Tensor:
    """A dense layer of `x` (…, in) by `weight` (out, in): (…, out); then, if `relu`, a ReLU."""
    if _fits(x):
        post = "relu" if relu else "none"
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, post, [], "")
    y = functional.linear(x, weight, bias)
    return y.relu_() if relu else y


class FusedLinear(nn.Linear):
    """A dense layer and, if `relu`, a ReLU."""

    relu: bool

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.Linear`."""
        return linear(x, self.weight, self.bias, relu=self.relu)


class FusedConv(nn.Conv2d):
    """A convolution and, if `relu`, a ReLU."""

    relu: bool

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.Conv2d`."""
        if _fits(x):
            post = "relu" if self.relu else "none"
            call = torch.ops.mkldnn._convolution_pointwise
            return call(x, *self._arguments(), post, [], "")
        y = super().forward(x)
        return y.relu_() if self.relu else y

    def add_to(self, total: Tensor, x: Tensor, *, relu: bool = False) -> Tensor:
        """`total` + convolution of `x`, then, if `relu`, a ReLU of the sum: all in `total`'s place.

        Args:
            total: of the result's shape.
        """
        if _fits(x) and total.is_contiguous(memory_format=torch.channels_last):
            post = ("add", 1.0, "relu" if relu else None, [], "")
            return torch.ops.mkldnn._convolution_pointwise_(total, x, *self._arguments(), *post)
        total += super().forward(x)
        return total.relu_() if relu else total

    def _arguments(self) -> tuple:
        return self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
