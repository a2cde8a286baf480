"""Exact parameters and multiply-adds of a classifier from its widths, in closed form.

By AttoNet's rule of counting: convolution weights, one number for each output channel of a
convolution (its folded norm, or bias), the dense layer, and condensers' scales. The result equals
that of counting the built network (`atto_det.complexity`), but takes only microseconds.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from torch import Tensor

from atto_det.nets.backbone import STAGES, BackboneSpec, ModuleSpec
from atto_det.nets.blocks import AttoModuleSpec
from atto_det.nets.bottleneck import BottleneckSpec
from atto_det.nets.condenser import CondenserSpec
from atto_det.nets.pepe import PEPESpec
from atto_det.nets.squeeze import SqueezeExcitationSpec

Number: TypeAlias = int | Tensor
"""A width, or the widths int64 (N,) of one layer in each of N networks."""


class ClassifierCost(NamedTuple):
    """Parameters, and multiply-adds for one picture."""

    parameters: int
    macs: int

    def bytes_at(self, bits: int) -> int:
        """Memory of the parameters at so many bits each."""
        return self.parameters * bits // 8


class Layer(NamedTuple):
    """A square convolution: its widths, the side of its output, kernel and groups."""

    inputs: Number
    outputs: Number
    side: int
    kernel: int = 1
    groups: Number = 1


class CountedModule(NamedTuple):
    """What counting needs to know of a module of a stage.

    Attributes:
        layers: a function from the number of input channels and the sides of input and output to
            the module's convolutions, without that of its shortcut.
        out_channels: of its output.
        others: number of parameters that belong to no convolution.
    """

    layers: Callable[[Number, int, int], list[Layer]]
    out_channels: Number
    others: int = 0


def classifier_cost(spec: BackboneSpec, *, classes: int, size: int) -> ClassifierCost:
    """The cost of a classifier.

    Args:
        spec: the network.
        classes: outputs of the dense layer.
        size: height and width of a picture.
    """
    stages = [[_of_spec(module) for module in getattr(spec, stage)] for stage in STAGES]
    return ClassifierCost(*count_network(spec.stem, stages, classes=classes, size=size))


def count_network(
    stem: Number, stages: Sequence[Sequence[CountedModule]], *, classes: int, size: int
) -> tuple[Number, Number]:
    """Parameters and multiply-adds of one network, or of N networks if widths are arrays.

    Args:
        stem: channels of the stem.
        stages: modules of res2 to res5.
        classes: outputs of the dense layer.
        size: height and width of a picture.
    """
    side = _half(size)
    layers = [Layer(3, stem, side, 7)]
    side, width, others = _half(side), stem, 0
    for number, modules in enumerate(stages):
        for index, module in enumerate(modules):
            before = side
            if index == 0 and number > 0:
                side = _half(side)
            layers += module.layers(width, before, side)
            if index == 0:
                layers.append(Layer(width, module.out_channels, side))  # the shortcut
            others += module.others
            width = module.out_channels
    weights = [one.inputs // one.groups * one.outputs * one.kernel**2 for one in layers]
    dense = width * classes
    return (
        sum(weights) + sum(one.outputs for one in layers) + others + dense + classes,
        sum(w * one.side**2 for w, one in zip(weights, layers, strict=True)) + dense,
    )


def atto_module(compress: Number, wide: Number, mix: Number, expand: Number) -> CountedModule:
    """An AttoNet module given by the widths of its four layers; PEPE modules have the same ones."""

    def layers(width: Number, before: int, after: int) -> list[Layer]:
        return [
            Layer(width, compress, before),
            Layer(compress, wide, after, 3, compress),
            Layer(wide, mix, after),
            Layer(mix, expand, after),
        ]

    return CountedModule(layers, expand)


def condenser(
    down: Number,
    embed: Number,
    up: Number,
    *,
    groups: int = CondenserSpec.groups,
    kernel_size: int = CondenserSpec.kernel_size,
    pool: int = CondenserSpec.pool,
) -> CountedModule:
    """A condenser given by the fields of its spec."""

    def layers(width: Number, before: int, after: int) -> list[Layer]:
        small = -(-before // pool)
        return [
            Layer(width, down, before),
            Layer(down, embed, small, kernel_size, groups),
            Layer(embed, down, small),
            Layer(down, up, before),
        ]

    return CountedModule(layers, up, others=1)  # the scale


def _bottleneck(compress: int, expand: int) -> CountedModule:
    def layers(width: Number, before: int, after: int) -> list[Layer]:
        return [
            Layer(width, compress, before),
            Layer(compress, compress, after, 3),
            Layer(compress, expand, after),
        ]

    return CountedModule(layers, expand)


def _squeeze_excitation(squeeze: int, expand: int) -> CountedModule:
    def layers(width: Number, before: int, after: int) -> list[Layer]:
        return [Layer(width, squeeze, 1), Layer(squeeze, expand, 1)]

    return CountedModule(layers, expand)


def _of_spec(module: ModuleSpec) -> CountedModule:
    if isinstance(module, AttoModuleSpec | PEPESpec):
        wide = module.compress * module.multiplier
        return atto_module(module.compress, wide, module.mix, module.expand)
    if isinstance(module, BottleneckSpec):
        return _bottleneck(module.compress, module.expand)
    if isinstance(module, CondenserSpec):
        shape = {"groups": module.groups, "kernel_size": module.kernel_size, "pool": module.pool}
        return condenser(module.down, module.embed, module.up, **shape)
    if isinstance(module, SqueezeExcitationSpec):
        return _squeeze_excitation(module.squeeze, module.expand)
    raise TypeError(f"no cost is known of a {type(module).__name__}")


def _half(side: int) -> int:
    return -(-side // 2)
