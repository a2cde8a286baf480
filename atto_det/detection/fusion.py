"""What stands behind convolutions and dense layers, made part of them.

Batch norms are folded into the weights. On a CPU a ReLU, or the sum with a shortcut, becomes part
of the same call of oneDNN: torch's modules pass over memory again for each, and on one thread do
not use oneDNN at all for 1x1 convolutions. The calls used here are those of torch's compiler,
without compiling, so that nothing happens at a new input size; in a graph (of the compiler, or of
an exporter), with gradients, and for other devices and types, the layers are torch's own.
"""

import copy
import itertools
from collections import Counter

import torch
from detectron2.layers import Conv2d
from torch import Tensor, nn
from torch.nn import functional

from atto_det.nets import fold_norm

from .heads import SeparableRPNHead

_CALLS = ("_convolution_pointwise", "_convolution_pointwise_", "_linear_pointwise")
_AVAILABLE = torch.backends.mkldnn.is_available() and all(
    hasattr(torch.ops.mkldnn, name) for name in _CALLS
)


def fold_norms(model: nn.Module) -> None:
    """Fold each batch norm that follows a convolution which is used in one place alone."""
    places = _places(model)
    for module in list(model.modules()):
        if isinstance(module, SeparableRPNHead):
            _fold_levels(module)
        if isinstance(module, Conv2d) and _is_norm(module.norm) and places[module] == 1:
            fold_norm(module, module.norm)
            module.norm = None
        if isinstance(module, nn.Sequential):
            children = list(module.named_children())
            for (_, conv), (name, norm) in itertools.pairwise(children):
                if _is_plain(conv) and _is_norm(norm) and places[conv] == 1:
                    fold_norm(conv, norm)
                    setattr(module, name, nn.Identity())


def fuse(model: nn.Module) -> None:
    """Let the convolutions and dense layers of a model on a CPU be `FusedConv` and `FusedLinear`.

    A ReLU behind one that is used in one place alone becomes part of it.
    """
    places = _places(model)
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


def _places(model: nn.Module) -> Counter[nn.Module]:
    """In how many places of `model` each module is."""
    return Counter(module for _, module in model.named_modules(remove_duplicate=False))


def _fuse_one(layer: nn.Module, *, relu: bool) -> bool:
    """Change the class of `layer` if it is one that can be fused; whether it was."""
    if type(layer) is nn.Linear:
        layer.__class__ = FusedLinear
    elif _is_plain(layer) and layer.padding_mode == "zeros" and isinstance(layer.padding, tuple):
        layer.__class__ = FusedConv
    else:
        return False
    layer.relu = relu
    return True


def _fold_levels(head: SeparableRPNHead) -> None:
    """The head's levels share a 1x1 convolution and have norms of their own: each gets a folded
    copy of that convolution, and the ReLU, in its norm's place. Without norms the shared one gets
    the ReLU."""
    for conv, norms in zip(head.convs, head.norms, strict=True):
        if all(map(_is_norm, norms)):
            for level, norm in enumerate(norms):
                own = copy.deepcopy(conv.pointwise)
                fold_norm(own, norm)
                norms[level] = nn.Sequential(own, nn.ReLU(inplace=True))
            conv.pointwise = nn.Identity()
        else:
            conv.append(nn.ReLU(inplace=True))
    head.relu = nn.Identity()


def _is_norm(module: nn.Module | None) -> bool:
    kinds = (nn.BatchNorm2d, nn.SyncBatchNorm)
    return isinstance(module, kinds) or type(module).__name__ == "FrozenBatchNorm2d"


def _is_plain(module: nn.Module) -> bool:
    """Whether `module` is a convolution and nothing behind it."""
    if isinstance(module, Conv2d):
        return module.norm is None and module.activation is None
    return type(module) is nn.Conv2d


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
