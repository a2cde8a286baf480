"""The moving average of weights: by hand, in place and out of it, and gone on with."""

from contextlib import suppress

import pytest
import torch
from torch import nn

from atto_det.training.averaging import WeightAverage


class Net(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value]))
        self.register_buffer("mean", torch.tensor([10 * value]))
        self.register_buffer("count", torch.tensor(int(value)))

    def set(self, value: float) -> None:
        with torch.no_grad():
            self.weight.fill_(value)
            self.mean.fill_(10 * value)
            self.count.fill_(int(value))

    def values(self) -> list[float]:
        return [self.weight.item(), self.mean.item(), self.count.item()]


def averaged(average: WeightAverage) -> list[float]:
    with average.in_place():
        return average.network.values()


def test_by_hand():
    net = Net(5.0)
    average = WeightAverage(net, 0.25)
    net.set(1.0)
    average.update()  # the first one forgets the weights of the start
    assert averaged(average) == [1, 10, 1]
    net.set(2.0)
    average.update()  # decay (1 + 1) / (10 + 1)
    expected = 2 / 11 * 1 + 9 / 11 * 2
    assert averaged(average) == pytest.approx([expected, 10 * expected, 2])
    net.set(4.0)
    average.update()  # (1 + 2) / (10 + 2) is the decay that was asked for
    expected = 0.25 * expected + 0.75 * 4
    assert averaged(average) == pytest.approx([expected, 10 * expected, 4])
    assert average.count == 3
    assert net.values() == [4, 40, 4]


def test_an_error_within_leaves_the_network_s_own_weights():
    net = Net(1.0)
    average = WeightAverage(net, 0.9, count=5)
    net.set(3.0)
    with suppress(KeyError), average.in_place():
        assert net.values() == [1, 10, 1]
        raise KeyError
    assert net.values() == [3, 30, 3]


def test_the_optimizer_goes_on_with_the_network_s_own_weights():
    def train(looks: bool) -> torch.Tensor:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        average = WeightAverage(net, 0.9)
        for _ in range(5):
            optimizer.zero_grad()
            net(torch.randn(4, 3)).square().sum().backward()
            optimizer.step()
            average.update()
            if looks:
                with average.in_place():
                    net.eval()(torch.ones(2, 3))
                net.train()
        return torch.cat([t.detach().flatten().float() for t in net.state_dict().values()])

    assert torch.equal(train(False), train(True))


def test_an_average_that_is_gone_on_with_is_that_of_one_go():
    values = [1.0, 4.0, -2.0, 8.0, 3.0]
    net = Net(0.0)
    whole = WeightAverage(net, 0.6)
    for value in values[:3]:
        net.set(value)
        whole.update()
    with whole.in_place():
        again = Net(0.0)
        again.load_state_dict(net.state_dict())
    resumed = WeightAverage(again, 0.6, whole.count)
    for value in values[3:]:
        for own, average in ((net, whole), (again, resumed)):
            own.set(value)
            average.update()
    assert averaged(whole) == averaged(resumed)
