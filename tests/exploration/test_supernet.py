"""Shared weights: which part a network takes, and that they learn."""

import numpy as np
import pytest
import torch
from PIL import Image

from atto_det.errors import UserError
from atto_det.exploration.pictures import Pictures, augmented, read_pictures
from atto_det.exploration.supernet import Supernet, build, score_part, train_supernet


@pytest.fixture
def supernet(space) -> Supernet:
    torch.manual_seed(0)
    return Supernet(space, 3)


def colours(count: int, seed: int) -> Pictures:
    """Noise in which one of three colours is brighter."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    pixels = torch.randint(0, 120, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    pixels[torch.arange(count), labels] += 120
    return Pictures(pixels, labels, ("red", "green", "blue"))


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


SETTINGS = {"batch": 6, "between": 1, "learning_rate": 0.05, "seed": 3}


def test_it_goes_on_exactly(space, tmp_path):
    train = colours(24, 1)

    def run(folder, *stops) -> Supernet:
        torch.manual_seed(0)
        net = Supernet(space, 3)
        seen = []
        for stop in (*stops, None):
            done = train_supernet(
                net,
                train,
                steps=4,
                checkpoint=tmp_path / folder,
                report=lambda step, loss, seconds: seen.append(step),
                is_over=lambda stop=stop: stop is not None and len(seen) >= stop,
                **SETTINGS,
            )
            assert done == (stop is None)
        assert seen == [1, 2, 3, 4]
        return net

    whole, parted = run("a.pth"), run("b.pth", 1, 2)
    assert all(v.equal(parted.state_dict()[k]) for k, v in whole.state_dict().items())
    with pytest.raises(UserError, match="is of another training"):
        train_supernet(
            whole, train, steps=4, checkpoint=tmp_path / "a.pth", **SETTINGS | {"seed": 4}
        )


@pytest.mark.slow
def test_it_learns(supernet, generator, tmp_path):
    train, judges, losses = colours(48, 1), colours(24, 2), []
    train_supernet(
        supernet,
        train,
        steps=30,
        checkpoint=tmp_path / "a.pth",
        report=lambda step, loss, seconds: losses.append(loss),
        **SETTINGS | {"batch": 12},
    )
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    scores = [score_part(supernet, generator.point(seed), train, judges) for seed in range(4)]
    assert np.mean(scores) > 45  # chance is 33
    again = [score_part(supernet, generator.point(seed), train, judges) for seed in range(4)]
    assert scores == again


def test_pictures_are_parted_by_seed(tmp_path):
    for name, count in (("cat", 5), ("dog", 8)):
        folder = tmp_path / "train" / name
        folder.mkdir(parents=True)
        for k in range(count):
            Image.new("RGB", (20, 30), (30 * k, 0, 0)).save(folder / f"{k}.png")
    train, judges = read_pictures(tmp_path, 16, judged=0.25, seed=1)
    assert train.pixels.shape == (10, 3, 16, 16)
    assert judges.labels.tolist() == [0, 1, 1]
    reds = sorted(x[0, 0, 0].item() for part in (train, judges) for x in part.pixels)
    assert reds == sorted([30 * k for k in range(5)] + [30 * k for k in range(8)])
    other = read_pictures(tmp_path, 16, judged=0.25, seed=2)[1]
    assert not other.pixels.equal(judges.pixels)
    moved = augmented(train.pixels, torch.Generator().manual_seed(1))
    assert moved.shape == train.pixels.shape
    assert moved.equal(train.pixels)  # of one colour each


@pytest.mark.parametrize(("counts", "message"), [((3,), "has one class"), ((3, 1), "one picture")])
def test_too_little_data_is_named(tmp_path, counts, message):
    for k, count in enumerate(counts):
        folder = tmp_path / "train" / f"class{k}"
        folder.mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (8, 8)).save(folder / f"{index}.png")
    with pytest.raises(UserError, match=message):
        read_pictures(tmp_path, 8, judged=0.2, seed=1)


def test_a_supernet_of_every_kind_builds(space):
    net = Supernet(space, 2)
    kinds = {name.partition("|")[2] for name in net.shared if "|" in name}
    assert kinds == {"atto", "bottleneck", "condenser"}
    assert build(space.spec({n: c[-1] for n, c in space.dimensions.items()}), 2)
