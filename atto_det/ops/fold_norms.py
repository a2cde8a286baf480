"""Folds batch norms into the convolutions before them, in a network of any framework."""

import copy
import itertools
from collections import Counter

import torch.fx
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def is_norm(module: nn.Module | None) -> bool:
    """Whether `module` is a batch norm: torch's, or one frozen by torchvision or Detectron2.

    timm's norms that include an activation are not.
    """
    trainable = isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm)
    return (trainable and not hasattr(module, "act")) or type(
        module
    ).__name__ == "FrozenBatchNorm2d"


def is_plain(module: nn.Module) -> bool:
    """Whether `module` is a plain convolution: Detectron2's may include a norm and activation."""
    parts = (getattr(module, "norm", None), getattr(module, "activation", None))
    return isinstance(module, nn.Conv2d) and parts == (None, None)


def fold_norm(conv: nn.Conv2d, norm: nn.Module) -> None:
    """Fold batch norm `norm`, in its evaluation mode, into the convolution before it.

    `conv` is modified and can no longer be trained.
    """
    statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
    conv.requires_grad_(False)


def fold_norms(model: nn.Module) -> None:
    """Fold each batch norm of `model` whose convolution is used in only one place.

    Norms of several levels after a shared convolution (`norms` and `convs` of one module) become
    separate convolutions for each level. In timm's networks and torchvision's blocks, which have
    both side by side under various names, the traced graph shows which norm follows which
    convolution.
    """
    places = count_places(model)
    for module in list(model.modules()):
        if hasattr(module, "feature_info") or hasattr(module, "bn1"):
            _fold_by_graph(module)
        if {"convs", "norms"} <= module._modules.keys():
            _fold_levels(module)
        norm = getattr(module, "norm", None)
        if isinstance(module, nn.Conv2d) and is_norm(norm) and places[module] == 1:
            fold_norm(module, norm)
            module.norm = None
        if isinstance(module, nn.Sequential):
            children = list(module.named_children())
            for (_, conv), (name, norm) in itertools.pairwise(children):
                if is_plain(conv) and is_norm(norm) and places[conv] == 1:
                    fold_norm(conv, norm)
                    setattr(module, name, nn.Identity())


def folded(network: nn.Module) -> nn.Module:
    """A copy of `network` for inference, with its batch norms folded."""
    network = copy.deepcopy(network).eval().requires_grad_(False)
    fold_norms(network)
    return network


def count_places(model: nn.Module) -> Counter[nn.Module]:
    """The number of places in `model` at which each module is used."""
    return Counter(module for _, module in model.named_modules(remove_duplicate=False))


class _Tracer(torch.fx.Tracer):
    """Treats convolutions and norms as leaves, including those with padding or an activation."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """Whether the calls inside the module are not traced."""
        whole = isinstance(module, nn.Conv2d | nn.BatchNorm2d) or is_norm(module)
        return whole or super().is_leaf_module(module, name)


def _fold_by_graph(network: nn.Module) -> None:
    """Fold norms whose convolution a trace reveals; a norm's activation is kept."""
    try:
        graph = _Tracer().trace(network)
    except Exception:  # of any type, as with data-dependent control flow: no folding then
        return
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        if node.op != "call_module" or not node.args:
            continue
        before = node.args[0]
        if not isinstance(before, torch.fx.Node) or before.op != "call_module":
            continue
        norm, conv = (network.get_submodule(str(one.target)) for one in (node, before))
        alone = len(before.users) == calls[node.target] == calls[before.target] == 1
        # timm's norms with an activation are BatchNorm2d, but no `is_norm`.
        if alone and (isinstance(norm, nn.BatchNorm2d) or is_norm(norm)) and is_plain(conv):
            fold_norm(conv, norm)
            rest = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]
            network.set_submodule(str(node.target), nn.Sequential(*rest))


def _fold_levels(head: nn.Module) -> None:
    """Replace each level's norm by a folded copy of the shared 1x1 convolution, with the ReLU.
    Without norms, the shared convolution gets the ReLU.
    """
    for conv, norms in zip(head.convs, head.norms, strict=True):
        if all(map(is_norm, norms)):
            for level, norm in enumerate(norms):
                own = copy.deepcopy(conv.pointwise)
                fold_norm(own, norm)
                norms[level] = nn.Sequential(own, nn.ReLU(inplace=True))
            conv.pointwise = nn.Identity()
        else:
            conv.append(nn.ReLU(inplace=True))
    head.relu = nn.Identity()
