"""How AttendNet-A and -B were reconstructed from their published sizes, and can be again.

The channel numbers of the AttendNets (arXiv 2009.14385) stand in a figure that is not to be had.
What their text fixes, holds here: a convolutional stem, visual attention condensers early, PEPE
modules late, a mix in between, average pool and dense layer, every module with widths of its own.
What it leaves open comes from the AttoNet paper: stages of 3, 4, 6 and 3 modules, the first of each
with a 1x1 convolution on its shortcut (and so a PEPE module: a condenser keeps its channels), the
stem, 51 outputs. Many widths then give the published sizes. They are drawn at random, in multiples
of 4 alone, around the proportions of AttoNet-A and -B, and counted in closed form.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atto_det.nets.attonet import ATTONETS, CLASSES, INPUT_SIZE
from atto_det.nets.backbone import STAGES, BackboneSpec
from atto_det.nets.condenser import CondenserSpec
from atto_det.nets.pepe import PEPESpec

TOLERANCE = 0.005  # of the published sizes
STEP = 4  # widths are multiples of it
_AT_ONCE = 50_000

# P is a PEPE module, C a condenser; a word for each stage. From res4 on the mix.
PATTERNS = (
    "PCC PCCC PCCPPP PPP",
    "PCC PCCC PCCCPP PPP",
    "PCC PCCC PCPCPP PPP",
)


@dataclass(frozen=True)
class Target:
    """Published sizes (Table 1), and the AttoNet whose proportions the search starts from."""

    parameters: int
    macs: int
    like: str


TARGETS = {
    "attendnet_a": Target(1_386_000, 276_800_000, "attonet_a"),
    "attendnet_b": Target(782_000, 191_300_000, "attonet_b"),
}

# Shares that widths are drawn between, uniformly.
STEMS = (8, 12, 16)
STAGE_OF_ATTONET = (0.35, 0.9)  # a stage's channels, by those of the AttoNet's
PROJECT_OF_STAGE = (0.06, 0.2)
SPREAD = 4  # times project, as in AttoNet-A and -B
REPROJECT_OF_PROJECT = (0.6, 1.2)
DOWN_OF_STAGE = (0.1, 0.3)
EMBED_OF_DOWN = (0.5, 2.0)

Number = int | Tensor
Module = tuple[str, tuple[Number, ...]]
"""P with project, spread, reproject, expand; or C with down, embed, up."""


@dataclass(frozen=True)
class Match:
    """A network of the right size.

    Attributes:
        pattern: one of `PATTERNS`.
        spec: the network.
        parameters, macs: by AttoNet's rule of counting, at 224×224 with 51 outputs.
        error: the larger of the two differences from the published sizes, as a share of them.
    """

    pattern: str
    spec: BackboneSpec
    parameters: int
    macs: int
    error: float


def cost(
    stem: Number,
    stages: Sequence[Sequence[Module]],
    *,
    classes: int = CLASSES,
    size: int = INPUT_SIZE,
) -> tuple[Number, Number]:
    """Parameters and multiply-adds of a network, by AttoNet's rule of counting, in closed form.

    Parameters are convolution weights, one number for each convolution's output channel, the dense
    layer, and the condensers' scales. Widths may be numbers or tensors of the widths of many
    networks, int64 (N,); so are the results. (`atto_det.design.cost` counts one network, of
    modules of any kind, from its spec.)
    """
    total: list[Number] = [0, 0]

    def convolution(
        inputs: Number, outputs: Number, side: int, kernel: int = 1, groups: Number = 1
    ) -> None:
        weights = inputs // groups * outputs * kernel**2
        total[0] = total[0] + weights + outputs
        total[1] = total[1] + weights * side**2

    side = -(-size // 2)
    convolution(3, stem, side, 7)
    side = -(-side // 2)
    width = stem
    for number, stage in enumerate(stages):
        for index, (kind, widths) in enumerate(stage):
            if kind == "P":
                project, spread, reproject, expand = widths
                convolution(width, project, side)
                if index == 0 and number > 0:
                    side = -(-side // 2)
                convolution(project, spread, side, 3, project)
                convolution(spread, reproject, side)
                convolution(reproject, expand, side)
                if index == 0:
                    convolution(width, expand, side)
                width = expand
            else:
                down, embed, up = widths
                small = -(-side // CondenserSpec.pool)
                convolution(up, down, side)
                convolution(down, embed, small, CondenserSpec.kernel_size, CondenserSpec.groups)
                convolution(embed, down, small)
                convolution(down, up, side)
                total[0] = total[0] + 1
    dense = width * classes
    return total[0] + dense + classes, total[1] + dense


def search(
    target: Target, pattern: str, *, seed: int, candidates: int, tolerance: float = TOLERANCE
) -> list[Match]:
    """The networks of `pattern` among `candidates` random ones that have the published sizes.

    Returns:
        The nearest first; the same for the same arguments.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for start in range(0, candidates, _AT_ONCE):
        stem, stages = _draw(target.like, pattern, generator, min(_AT_ONCE, candidates - start))
        parameters, macs = cost(stem, stages)
        error = torch.maximum(
            (parameters.double() / target.parameters - 1).abs(),
            (macs.double() / target.macs - 1).abs(),
        )  # (N,)
        for index in (error <= tolerance).nonzero()[:, 0].tolist():
            sizes = int(parameters[index]), int(macs[index])
            spec = _spec(stem, stages, index)
            found.append(Match(pattern, spec, *sizes, float(error[index])))
    return sorted(found, key=lambda one: one.error)


def _draw(
    like: str, pattern: str, generator: torch.Generator, count: int
) -> tuple[Tensor, list[list[Module]]]:
    """Widths of `count` networks."""

    def uniform(bounds: tuple[float, float]) -> Tensor:
        low, high = bounds
        return low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)

    def width(value: Tensor) -> Tensor:
        return (value / STEP).round().clamp_min(1).long() * STEP

    stem = torch.tensor(STEMS)[torch.randint(len(STEMS), (count,), generator=generator)]
    stages = []
    for name, kinds in zip(STAGES, pattern.split(), strict=True):
        channels = width(getattr(ATTONETS[like], name)[0].expand * uniform(STAGE_OF_ATTONET))
        modules: list[Module] = []
        for kind in kinds:
            if kind == "P":
                project = width(channels * uniform(PROJECT_OF_STAGE))
                reproject = width(project * uniform(REPROJECT_OF_PROJECT))
                modules.append((kind, (project, SPREAD * project, reproject, channels)))
            else:
                down = width(channels * uniform(DOWN_OF_STAGE))
                modules.append((kind, (down, width(down * uniform(EMBED_OF_DOWN)), channels)))
        stages.append(modules)
    return stem, stages


def _spec(stem: Tensor, stages: list[list[Module]], index: int) -> BackboneSpec:
    """Network `index` of those drawn."""
    kinds = {"P": PEPESpec, "C": CondenserSpec}
    built: Mapping[str, Any] = {
        name: tuple(kinds[kind](*(int(w[index]) for w in widths)) for kind, widths in modules)
        for name, modules in zip(STAGES, stages, strict=True)
    }
    return BackboneSpec(stem=int(stem[index]), **built)
