"""Exact parameters and multiply-adds of a classifier from its spec, in closed form.

By AttoNet's rule of counting: convolution weights, one number for each convolution's output channel
(its folded norm, or bias), the dense layer, condensers' scales. Equal to counting the built network
(`atto_det.complexity`), in microseconds.
"""

from typing import NamedTuple

from atto_det.nets.backbone import STAGES, BackboneSpec, ModuleSpec
from atto_det.nets.blocks import AttoModuleSpec
from atto_det.nets.bottleneck import BottleneckSpec
from atto_det.nets.condenser import CondenserSpec
from atto_det.nets.pepe import PEPESpec


class ClassifierCost(NamedTuple):
    """Parameters, and multiply-adds for one picture."""

    parameters: int
    macs: int

    def bytes_at(self, bits: int) -> int:
        """Memory of the parameters at so many bits each."""
        return self.parameters * bits // 8


class _Layer(NamedTuple):
    """A square convolution: its widths, the side of its output, kernel and groups."""

    inputs: int
    outputs: int
    side: int
    kernel: int = 1
    groups: int = 1


def classifier_cost(spec: BackboneSpec, *, classes: int, size: int) -> ClassifierCost:
    """What a classifier costs.

    Args:
        spec: the network.
        classes: outputs of the dense layer.
        size: height and width of a picture.
    """
    side = _half(size)
    layers = [_Layer(3, spec.stem, side, 7)]
    side, width, scales = _half(side), spec.stem, 0
    for stage in STAGES:
        for index, module in enumerate(getattr(spec, stage)):
            before = side
            if index == 0 and stage != "res2":
                side = _half(side)
            layers += _layers(module, width, before, side)
            if index == 0:
                layers.append(_Layer(width, module.out_channels, side))  # the shortcut
            scales += isinstance(module, CondenserSpec)
            width = module.out_channels
    weights = [one.inputs // one.groups * one.outputs * one.kernel**2 for one in layers]
    dense = width * classes
    return ClassifierCost(
        sum(weights) + sum(one.outputs for one in layers) + scales + dense + classes,
        sum(w * one.side**2 for w, one in zip(weights, layers, strict=True)) + dense,
    )


def _layers(module: ModuleSpec, width: int, before: int, after: int) -> list[_Layer]:
    """The convolutions of a module but its shortcut, from a side `before` to a side `after`."""
    if isinstance(module, AttoModuleSpec | PEPESpec):
        wide = module.compress * module.multiplier
        return [
            _Layer(width, module.compress, before),
            _Layer(module.compress, wide, after, 3, module.compress),
            _Layer(wide, module.mix, after),
            _Layer(module.mix, module.out_channels, after),
        ]
    if isinstance(module, BottleneckSpec):
        return [
            _Layer(width, module.compress, before),
            _Layer(module.compress, module.compress, after, 3),
            _Layer(module.compress, module.expand, after),
        ]
    if isinstance(module, CondenserSpec):
        small = -(-before // module.pool)
        return [
            _Layer(width, module.down, before),
            _Layer(module.down, module.embed, small, module.kernel_size, module.groups),
            _Layer(module.embed, module.down, small),
            _Layer(module.down, module.up, before),
        ]
    raise TypeError(f"no cost is known of a {type(module).__name__}")


def _half(side: int) -> int:
    return -(-side // 2)
