"""Live tensors of toy networks, summed by hand: 4 bytes each."""

import pytest
import torch
from torch import nn

from atto_det.complexity import peak_memory


def peak(module: nn.Module, *inputs: torch.Tensor) -> int:
    return peak_memory([("part", module, inputs)])["part"]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_chain_lets_go_of_what_it_read(device):
    layers = [nn.Linear(10, 100, bias=False), nn.Linear(100, 20, bias=False)]
    net, x = nn.Sequential(*layers).to(device), torch.zeros(1, 10, device=device)
    # Weights, the input (its caller holds it), then 100 and 20 together.
    assert peak(net, x) == 4 * (1000 + 2000 + 10 + 100 + 20)


def test_in_place_takes_nothing_and_a_view_neither():
    x = torch.zeros(1, 10, device="meta")
    assert peak(nn.ReLU(inplace=True), x) == peak(nn.Flatten(), x) == 40
    assert peak(nn.ReLU(), x) == 80


class Branches(nn.Module):
    """Three copies, of which two are alive at once, or all of them."""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        self.keep = keep

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        kept = []
        for _ in range(3):
            y = x + 1
            if self.keep:
                kept.append(y)
        return kept


def test_what_is_kept_adds_up():
    x = torch.zeros(7, device="meta")
    assert peak(Branches(keep=True), x) == 28 * (1 + 3)
    assert peak(Branches(keep=False), x) == 28 * (1 + 2)  # the new one before the old one goes


def test_buffers_lists_and_types():
    norm = nn.BatchNorm1d(3).eval()  # 2·3 parameters, 2·3 buffers, one count of 8 bytes
    assert peak(norm, torch.zeros(5, 3)) == 4 * 12 + 8 + 4 * 15 * 2
    half = torch.zeros(5, dtype=torch.float16, device="meta")
    assert peak(Branches(keep=True), half) == 10 * 4


def test_of_parts_with_one_name_the_highest_counts():
    small, large = torch.zeros(1, device="meta"), torch.zeros(9, device="meta")
    parts = [("a", nn.ReLU(), (size,)) for size in (small, large, small)]
    assert peak_memory(parts) == {"a": 72}
    assert peak_memory([]) == {}
