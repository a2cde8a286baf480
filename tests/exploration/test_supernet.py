"""Shared weights: which part a network takes, and that they learn."""

import numpy as np
import pytest
import torch

from atto_det.exploration.proxies import naswot, synflow
from atto_det.exploration.supernet import (
    Judges,
    Supernet,
    SupernetTraining,
    build,
    sandwich,
    score_part,
)


@pytest.fixture
def supernet(space) -> Supernet:
    torch.manual_seed(0)
    return Supernet(space, 3)


def colours(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise in which one of three colours is brighter."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    pixels = torch.randn(count, 3, 32, 32, generator=generator)
    pixels[torch.arange(count), labels] += 2
    return pixels, labels


def test_every_network_takes_its_part(supernet, generator):
    x = torch.randn(2, 3, 32, 32)
    for seed in range(6):
        point = generator.point(seed)
        net, tensors = supernet.part(point)
        assert {k: v.shape for k, v in tensors.items()} == {
            k: v.shape for k, v in net.named_parameters()
        }
        assert supernet(x, point).shape == (2, 3)


def test_leading_channels_by_hand(supernet, generator):
    """Inputs and multiples of a depthwise convolution are both the leading ones."""
    point = generator.point(0) | {
        "res2.0.kind": "atto",
        "res2.0.compress": 8,
        "res2.0.multiplier": 2,
        "res2.0.mix": 4,
    }
    _, tensors = supernet.part(point)
    whole = supernet.shared["res2/0/depthwise/conv/weight|atto"]  # 16 inputs, 4 outputs of each
    rows = [4 * channel + multiple for channel in range(8) for multiple in range(2)]
    key = next(k for k in tensors if k.endswith("res2.0.depthwise.conv.weight"))
    assert tensors[key].equal(whole[rows])
    mix = supernet.shared["res2/0/mix/conv/weight|atto"]
    key = next(k for k in tensors if k.endswith("res2.0.mix.conv.weight"))
    assert tensors[key].equal(mix[:4][:, rows])


def test_a_step_reaches_the_part_alone(supernet, generator):
    point = generator.point(3) | {"stem": 4}
    supernet(torch.randn(4, 3, 32, 32), point).square().sum().backward()
    stem = supernet.shared["backbone/stem/conv/conv/weight"].grad
    assert stem[:4].abs().sum() > 0
    assert stem[4:].abs().sum() == 0


def test_an_extracted_network_is_the_same_function(supernet, generator):
    point, x = generator.point(5), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(supernet.extract(point).train()(x), supernet(x, point))


def test_the_sandwich(space):
    points = list(sandwich(space, 2, np.random.default_rng(1)))
    assert [point["stem"] for point in points[:2]] == [8, 4]
    assert points[0]["res3.width"] == max(space.width["res3"])
    assert len(points) == 4
    assert points == list(sandwich(space, 2, np.random.default_rng(1)))
    assert points[2:] != list(sandwich(space, 2, np.random.default_rng(2)))[2:]


def test_the_loss_is_the_mean_over_the_sandwich(space):
    training = SupernetTraining(space, ["a", "b", "c"], between=1, label_smoothing=0.0, seed=3)
    images, labels = colours(6, 1)
    with torch.no_grad():
        found = training.batch_loss([images, labels])
        points = list(sandwich(space, 1, np.random.default_rng((3, 0))))
        wanted = [
            torch.nn.functional.cross_entropy(training.net(images, point), labels)
            for point in points
        ]
    torch.testing.assert_close(found, torch.stack(wanted).mean())


@pytest.mark.slow
def test_it_learns(space, generator):
    training = SupernetTraining(space, ["a", "b", "c"], between=1, seed=3)
    optimizer = torch.optim.SGD(training.parameters(), 0.05, momentum=0.9)
    losses = []
    for step in range(30):
        loss = training.batch_loss(list(colours(12, step)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    judges = Judges(colours(48, 101)[0], *colours(24, 102))
    scores = [score_part(training.net, generator.point(seed), judges) for seed in range(4)]
    assert np.mean(scores) > 45  # chance is 33
    again = [score_part(training.net, generator.point(seed), judges) for seed in range(4)]
    assert scores == again


def test_none_right_counts_as_half_a_picture(supernet, generator):
    pictures, _ = colours(8, 1)
    point = generator.point(1)
    likely = score_part(supernet, point, Judges(pictures, pictures, torch.full((8,), 3)))
    assert likely == 100 * 0.5 / 8


def test_a_supernet_of_every_kind_builds(space):
    net = Supernet(space, 2)
    kinds = {name.partition("|")[2] for name in net.shared if "|" in name}
    assert kinds == {"atto", "bottleneck", "condenser"}
    assert build(space.spec({n: c[-1] for n, c in space.dimensions.items()}), 2)


def test_synflow_by_hand():
    """Two layers: the sum over each layer of weight times gradient is the output, so twice it."""
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 2, 1, bias=False),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 2, bias=False),
    )
    torch.nn.init.constant_(net[0].weight, -0.5)
    torch.nn.init.constant_(net[3].weight, 0.25)
    assert synflow(net, 2) == pytest.approx(np.log(2 * 2 * 8 * 1.5 * 0.25))


def test_naswot_by_hand():
    """Two pictures of opposite signs agree on no ReLU: the kernel is 4 times the identity."""
    net = torch.nn.Sequential(torch.nn.Identity(), torch.nn.ReLU())
    images = torch.tensor([[1.0, -1, 1, -1], [-1.0, 1, -1, 1]])
    assert naswot(net, images) == pytest.approx(2 * np.log(4))
