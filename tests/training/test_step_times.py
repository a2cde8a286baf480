"""Parts of a step are those of a clock."""

import torch
from torch import nn

from atto_det.training.step_times import StepTimes, describe_step


class Slow(nn.Module):
    """A network that takes two seconds."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self.clock = clock

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.clock[0] += 2
        return x


def test_parts_by_hand():
    """Two halves of a batch: forward 2 + 2, backward 3 + 3, the optimiser 0.5 s."""
    clock = [0.0]
    network = Slow(clock)
    times = StepTimes(network, lambda: clock[0])
    for _ in range(2):
        times.begin()
        clock[0] += 10  # data
        for _ in range(2):
            network(torch.zeros(1))
            clock[0] += 3
        times.backward_ends()
        clock[0] += 0.5
        found = times.end()
        assert found == {"forward_time": 4, "backward_time": 6, "optimizer_time": 0.5}
    times.begin()
    assert times.end() == {}


def test_in_words():
    row = {"data_time": 0.01, "forward_time": 0.2, "pictures_per_second": 7.66}
    assert describe_step(row) == "data 0.010, forward 0.200 s; 7.7 pictures a second"
