"""Table 2 of the AttoNet paper (arXiv 1903.07209v2): its figures, and the real costs.

The published figures are data here; parameters and multiply-adds are counted again on the networks,
at 224×224 with a 51-way head. The networks come from a function that gets their name and classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from atto_det.complexity.count import count
from atto_det.complexity.netscore import netscore
from atto_det.errors import UserError
from atto_det.nets.attonet import CLASSES, INPUT_SIZE
from atto_det.nets.registry import short_name

NOT_STATED = "data that were not stated (--top1)"

Create = Callable[[str, int], nn.Module]
"""A function that makes a network of a name and a number of classes."""


@dataclass(frozen=True)
class Published:
    """One row of Table 2.

    Attributes:
        name: as printed there.
        network: name in `atto_det.pretraining.networks`.
        top1: percent, on ImageNet-50.
        macs_m: millions of multiply-adds.
        parameters_m: millions.
        netscore: as printed there.
        per_norm_channel: numbers per batch-norm channel for which `parameters` gives that figure.
    """

    name: str
    network: str
    top1: float
    macs_m: float
    parameters_m: float
    netscore: float
    per_norm_channel: int


PUBLISHED = (
    Published("MobileNet-V1", "mobilenetv1_100", 64.52, 567.5, 3.26, 69.71, 2),
    Published("MobileNet-V2", "mobilenetv2_100", 68.68, 299.7, 2.29, 75.11, 2),
    Published("ShuffleNet-V2", "shufflenet_v2_x1_0", 65.00, 140.1, 1.32, 79.85, 4),
    Published("AttoNet-A", "attonet_a", 73.00, 424.8, 2.97, 73.53, 1),
    Published("AttoNet-B", "attonet_b", 71.10, 277.5, 1.87, 76.93, 1),
    Published("AttoNet-C", "attonet_c", 69.60, 139.9, 1.06, 81.99, 1),
    Published("AttoNet-D", "attonet_d", 66.30, 57.5, 0.32, 90.21, 1),
)

# Why published and recomputed figures differ; tests/reports/test_table2.py checks the sums.
REMARKS = (
    f"Recomputed at {INPUT_SIZE}×{INPUT_SIZE} with {CLASSES} outputs: Table 1 of the paper prints "
    "the dense layers as 952x51 and so on, 50 classes and one that it does not explain.",
    "Recomputed parameters follow the rule that gives the published AttoNets for every network: "
    "convolution weights, one number per convolution channel (batch norm folded into a bias), "
    "dense layer.",
    "NetScore = 20·log10(top-1² / √(parameters in M · MACs in G)), by the formula from the "
    "published figures, otherwise (measured top-1 too) with recomputed costs at "
    f"{INPUT_SIZE}×{INPUT_SIZE}.",
    "AttoNets: the published MACs cannot be derived from the published architecture (Table 1), "
    "which needs 1.36 (A) to 1.74 (D) times as many.",
    "MobileNet-V1: published parameters count two numbers per norm channel (3.259 M); why the "
    "published MACs are 0.05 % lower is not known.",
    "MobileNet-V2: published parameters count two numbers per norm channel (2.289 M); published "
    "MACs fit half of all operations, with residual sums, pooling and biases (299.70 M).",
    "ShuffleNet-V2: published parameters fit four numbers per norm channel, running statistics too "
    "(1.322 M); published MACs fit half of all operations, with pooling and input scaling, of a "
    "variant whose first unit's first 1×1 has 24 channels where the original has 58 (140.11 M).",
)


@dataclass(frozen=True)
class Data:
    """The data that a top-1 was measured on; only figures with equal `Data` share a table.

    Attributes:
        root: name of the folder.
        train, val: numbers of pictures.
        class_names: the classes.
        input_size: side of the pictures in pixels.
    """

    root: str
    train: int
    val: int
    class_names: tuple[str, ...]
    input_size: int

    def __str__(self) -> str:
        first, last = self.class_names[0], self.class_names[-1]
        return (
            f"{self.root} at {self.input_size}×{self.input_size}: {len(self.class_names)} classes, "
            f"{first} to {last}; {self.train:,} pictures to train, {self.val:,} measured"
        )


@dataclass(frozen=True)
class Measured:
    """One measurement, or the mean of several that differ in their seeds.

    Attributes:
        network: name as `Create` takes it.
        top1: percent, 0 to 100.
        data: what it was measured on; None where it was given without.
        weight_bits: 8 where the weights lay on an 8-bit grid.
        runs: seed and top-1 of each training, where the seeds are known.

    Raises:
        UserError: the top-1 is out of range.
    """

    network: str
    top1: float
    data: Data | None = None
    weight_bits: int | None = None
    runs: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.top1 <= 100:
            raise UserError(
                f"the top-1 of {self.network} is {self.top1}: it is a percentage, from 0 to 100"
            )

    def __str__(self) -> str:
        if len(self.runs) < 2:
            return f"{self.top1:.2f}"
        spread = stdev(top1 for _, top1 in self.runs)
        return f"{self.top1:.2f} ± {spread:.2f} ({len(self.runs)})"

    def with_another(self, other: "Measured") -> "Measured":
        """The mean of the trainings of both, which differ in their seeds alone.

        Raises:
            UserError: they differ otherwise, or a seed is not known or there twice.
        """
        runs = self.runs + other.runs
        seeds = {seed for seed, _ in runs}
        alike = (self.data, self.weight_bits) == (other.data, other.weight_bits)
        if not (alike and self.runs and other.runs and len(seeds) == len(runs)):
            raise UserError(
                f"{short_name(self.network)} has two measured top-1, {self.top1:g} and "
                f"{other.top1:g}: give one, or checkpoints that differ in their seeds alone"
            )
        top1 = mean(value for _, value in runs)
        return Measured(self.network, top1, self.data, self.weight_bits, runs)


@dataclass(frozen=True)
class Row:
    """One network: published, recomputed and measured.

    Attributes:
        network: name as `Create` takes it.
        published: its row of the paper, if it has one.
        parameters: recomputed by the paper's rule, with a head for `CLASSES`.
        macs: recomputed at `INPUT_SIZE`, with the same head.
        measured: its measurement, if any.
        macs_measured: multiply-adds at the input size of `measured`, if that is known.
    """

    network: str
    published: Published | None
    parameters: int
    macs: int
    measured: Measured | None = None
    macs_measured: int | None = None

    @property
    def name(self) -> str:
        """The name as printed in the paper; else the network's, shortened if it is a spec."""
        return self.published.name if self.published else short_name(self.network)

    def megabytes(self, bits: int) -> float:
        """Weight memory in 10⁶ bytes: every parameter has `bits`, as arXiv 2009.14385 counts."""
        return self.parameters * bits / 8e6

    def netscore(self, top1: float) -> float | None:
        """NetScore with recomputed costs; None for a `top1` of 0."""
        return netscore(top1, self.parameters / 1e6, self.macs / 1e9) if top1 else None


def parameters(network: nn.Module, per_norm_channel: int = 1) -> int:
    """Parameters by the rule of the paper's Table 2.

    All except those of batch norms and the biases of convolutions, which are replaced by
    `per_norm_channel` for each output channel of each convolution: 1 is a batch norm folded into a
    bias, 2 its weight and bias, 4 its running mean and variance as well.
    """
    total = 0
    for module in network.modules():
        if isinstance(module, _ConvNd):
            total += module.weight.numel() + per_norm_channel * module.out_channels
        elif not isinstance(module, _BatchNorm):
            total += sum(p.numel() for p in module.parameters(recurse=False))
    return total


def compare(create: Create, measured: Sequence[Measured] = ()) -> list[Row]:
    """The paper's seven rows, in its order, then other networks that were measured.

    Of a network that was trained from several seeds the mean stands there.

    Raises:
        UserError: a network measured twice otherwise, or one that `create` does not know.
    """
    found: dict[str, Measured] = {}
    for one in measured:
        before = found.get(one.network)
        found[one.network] = before.with_another(one) if before else one
    published = {row.network: row for row in PUBLISHED}
    networks = {}
    with torch.device("meta"):
        for name in reversed(dict.fromkeys([*published, *found])):  # unknown ones fail first
            networks[name] = create(name, CLASSES).eval()
    rows = []
    for name, network in reversed(networks.items()):
        one = found.get(name)
        size = one.data.input_size if one and one.data else None
        rows.append(
            Row(
                name,
                published.get(name),
                parameters(network),
                macs(network, INPUT_SIZE),
                one,
                size and macs(network, size),
            )
        )
    return rows


def by_data(rows: Sequence[Row]) -> dict[Data | None, list[Row]]:
    """The measured rows, by the data they were measured on."""
    groups: dict[Data | None, list[Row]] = {}
    for row in rows:
        if row.measured:
            groups.setdefault(row.measured.data, []).append(row)
    return groups


def macs(network: nn.Module, size: int) -> int:
    """Multiply-adds for one picture of `size`×`size`; nothing is computed."""
    image = torch.empty(1, 3, size, size, device="meta")
    return count([("network", network, (image,))])[0].macs
