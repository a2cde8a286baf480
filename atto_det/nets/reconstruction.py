"""How AttendNet-A and -B were reconstructed from their published sizes, repeatably.

The channel numbers of the AttendNets (arXiv 2009.14385) are in a figure that is not available. The
reconstruction follows what their text specifies: a convolutional stem, visual attention condensers
early, PEPE modules late, a mix in between, average pool and dense layer, different widths in every
module. What it leaves open comes from the AttoNet paper: stages of 3, 4, 6 and 3 modules, the first
of each with a 1x1 convolution on its shortcut (and so a PEPE module, since a condenser keeps its
channels), the stem, and 51 outputs. Many widths then give the published sizes. They are drawn at
random, in multiples of 4, around the proportions of AttoNet-A and -B, and counted in closed form.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atto_det.nets.attonet import ATTONETS, CLASSES, INPUT_SIZE
from atto_det.nets.backbone import STAGES, BackboneSpec
from atto_det.nets.condenser import CondenserSpec
from atto_det.nets.cost import atto_module, condenser, count_network
from atto_det.nets.pepe import PEPESpec

TOLERANCE = 0.005  # share of the published sizes
STEP = 4  # widths are multiples of it
_AT_ONCE = 50_000

# P is a PEPE module, C a condenser; one word for each stage. The mix is in res4.
PATTERNS = (
    "PCC PCCC PCCPPP PPP",
    "PCC PCCC PCCCPP PPP",
    "PCC PCCC PCPCPP PPP",
)


@dataclass(frozen=True)
class Target:
    """Published sizes (Table 1), and the AttoNet from whose proportions the search starts."""

    parameters: int
    macs: int
    like: str


TARGETS = {
    "attendnet_a": Target(1_386_000, 276_800_000, "attonet_a"),
    "attendnet_b": Target(782_000, 191_300_000, "attonet_b"),
}

COUNTED = {"P": atto_module, "C": condenser}

# Bounds of uniformly drawn shares of widths.
STEMS = (8, 12, 16)
STAGE_OF_ATTONET = (0.35, 0.9)  # a stage's channels, relative to the AttoNet's
PROJECT_OF_STAGE = (0.06, 0.2)
SPREAD = 4  # multiple of project, as in AttoNet-A and -B
REPROJECT_OF_PROJECT = (0.6, 1.2)
DOWN_OF_STAGE = (0.1, 0.3)
EMBED_OF_DOWN = (0.5, 2.0)

Module = tuple[str, tuple[Tensor, ...]]
"""P with project, spread, reproject, expand; or C with down, embed, up: each (N,)."""


@dataclass(frozen=True)
class Match:
    """A network of the right size.

    Attributes:
        pattern: one of `PATTERNS`.
        spec: the network.
        parameters, macs: by AttoNet's rule of counting, at 224×224 with 51 outputs.
        error: the larger of the two relative differences from the published sizes.
    """

    pattern: str
    spec: BackboneSpec
    parameters: int
    macs: int
    error: float


def search(
    target: Target, pattern: str, *, seed: int, candidates: int, tolerance: float = TOLERANCE
) -> list[Match]:
    """Networks of `pattern` with the published sizes, among `candidates` random ones.

    Returns:
        The closest first; always the same for the same arguments.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for start in range(0, candidates, _AT_ONCE):
        stem, stages = _draw(target.like, pattern, generator, min(_AT_ONCE, candidates - start))
        counted = [[COUNTED[kind](*widths) for kind, widths in modules] for modules in stages]
        parameters, macs = count_network(stem, counted, classes=CLASSES, size=INPUT_SIZE)
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
    """The widths of `count` networks."""

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
    """Network `index` of those that were drawn."""
    kinds = {"P": PEPESpec, "C": CondenserSpec}
    built: Mapping[str, Any] = {
        name: tuple(kinds[kind](*(int(w[index]) for w in widths)) for kind, widths in modules)
        for name, modules in zip(STAGES, stages, strict=True)
    }
    return BackboneSpec(stem=int(stem[index]), **built)
