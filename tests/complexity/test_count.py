"""Costs of toy networks, summed by hand, and against fvcore."""

import pytest
import torch
from torch import nn

from atto_det import create_classifier
from atto_det.complexity import Cost, count, merge


def cost(module: nn.Module, *inputs: torch.Tensor) -> Cost:
    return count([("part", module, inputs)])[0]


@pytest.mark.parametrize(
    ("module", "shape", "macs", "parameters", "activations"),
    [
        # 4×4 outputs of 5 channels, each 3·3·2 products; 5·(18 + 1) parameters
        (nn.Conv2d(2, 5, 3, padding=1), (1, 2, 4, 4), 16 * 5 * 18, 95, 16 * 5),
        # stride 2 on 5×7: 3×4 outputs
        (
            nn.Conv2d(2, 5, 3, stride=2, padding=1, bias=False),
            (1, 2, 5, 7),
            12 * 5 * 18,
            90,
            12 * 5,
        ),
        # depthwise with multiplier 4: each of 12 outputs sees one channel
        (
            nn.Conv2d(3, 12, 3, padding=1, groups=3, bias=False),
            (1, 3, 4, 4),
            16 * 12 * 9,
            108,
            16 * 12,
        ),
        # transposed: each of 3×3 inputs of 2 channels goes to 2·2 places of 5 channels
        (nn.ConvTranspose2d(2, 5, 2, stride=2), (1, 2, 3, 3), 9 * 2 * 4 * 5, 45, 36 * 5),
        (nn.Linear(6, 10), (4, 6), 4 * 6 * 10, 70, 4 * 10),
        (nn.Linear(6, 10, bias=False), (2, 3, 6), 6 * 6 * 10, 60, 6 * 10),
        # a batch of two
        (nn.Conv2d(1, 1, 1, bias=False), (2, 1, 3, 3), 18, 1, 18),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_layers_by_hand(module, shape, macs, parameters, activations, device):
    found = cost(module.to(device), torch.empty(shape, device=device))
    assert found == Cost("part", macs, parameters, activations)
    module.to_empty(device="cpu")


@pytest.mark.parametrize(
    "module",
    [
        nn.BatchNorm2d(4),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Upsample(scale_factor=2),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Softmax(dim=1),
    ],
    ids=lambda module: type(module).__name__,
)
def test_what_counts_nothing(module):
    found = cost(module, torch.zeros(2, 4, 8, 8))
    assert (found.macs, found.activations) == (0, 0)


class Products(nn.Module):
    """Matrix products without parameters."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x @ x, torch.bmm(x, x), torch.einsum("bij,bjk->bik", x, x)


def test_matrix_products():
    assert cost(Products(), torch.zeros(2, 3, 3)) == Cost("part", 3 * 2 * 27, 0, 3 * 2 * 9)


class Unused(nn.Module):
    """Computes what nobody asks for, takes a list and returns a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(2, 3), nn.Linear(2, 5)

    def forward(self, xs: list[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
        for x in xs:
            self.unused(x)
        return {"out": [self.used(x) for x in xs]}


def test_everything_that_runs_counts():
    assert cost(Unused(), [torch.zeros(1, 2)] * 2) == Cost(
        "part", 2 * (6 + 10), 9 + 15, 2 * (3 + 5)
    )


def test_a_shared_parameter_counts_once_and_its_work_each_time():
    shared, own = nn.Linear(2, 3), nn.Linear(3, 1)
    x = torch.zeros(1, 2)
    parts = [("first", shared, (x,)), ("second", nn.Sequential(shared, own), (x,))]
    assert count(parts) == [Cost("first", 6, 9, 3), Cost("second", 9, 4, 4)]


def test_frozen_parameters_count():
    assert cost(nn.Linear(2, 3).requires_grad_(False), torch.zeros(1, 2)).parameters == 9


def test_no_parts():
    assert count([]) == []
    assert merge([]) == []
    assert merge([], "total") == [Cost("total", 0, 0, 0)]


def test_merge():
    costs = [Cost("a", 1, 10, 100), Cost("b", 2, 20, 200), Cost("a", 4, 40, 400)]
    assert merge(costs) == [Cost("a", 5, 50, 500), Cost("b", 2, 20, 200)]
    assert merge(costs, "total") == [Cost("total", 7, 70, 700)]


@pytest.mark.parametrize(
    ("name", "macs"),
    [("attonet_a", 578.4), ("attonet_b", 402.5), ("attonet_c", 222.8), ("attonet_d", 100.1)],
)
def test_attonets(name, macs):
    net = create_classifier(name, 51).eval().to("meta")
    assert round(cost(net, torch.empty(1, 3, 224, 224, device="meta")).macs / 1e6, 1) == macs


def test_the_figures_are_those_of_fvcore():
    fvcore = pytest.importorskip("fvcore.nn", reason="fvcore is not installed")
    net = nn.Sequential(
        nn.Conv2d(3, 8, 7, stride=2, padding=3),
        nn.Conv2d(8, 16, 3, groups=8, bias=False),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 4, 2, stride=2, groups=2),
        nn.Flatten(),
        nn.LazyLinear(10),
    ).eval()
    x = torch.zeros(2, 3, 33, 47)
    net(x)
    analysis = fvcore.FlopCountAnalysis(net, x).unsupported_ops_warnings(False)
    assert cost(net, x).macs == analysis.total()
    written = fvcore.ActivationCountAnalysis(net, x).unsupported_ops_warnings(False)
    assert cost(net, x).activations == written.total()
