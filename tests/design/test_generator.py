"""Generators: drawn by seed, fitted to an elite, saved whole."""

import dataclasses

import numpy as np
import pytest

from atto_det.design import Generator, Requirements
from atto_det.design.requirements import accuracy, information_density, netscore
from atto_det.errors import UserError
from atto_det.nets.cost import ClassifierCost


def test_a_seed_is_a_network(generator):
    assert generator(7) == generator(7)
    assert len({str(generator(seed)) for seed in range(20)}) > 10


def test_requirements_hold_for_every_seed(generator):
    costs = [generator.cost(generator.point(seed)) for seed in range(40)]
    limit = int(np.median([cost.macs for cost in costs]))
    strict = dataclasses.replace(generator, requirements=Requirements(macs=limit))
    assert all(strict.cost(strict.point(seed)).macs <= limit for seed in range(40))
    impossible = dataclasses.replace(generator, requirements=Requirements(macs=1000))
    with pytest.raises(
        UserError, match=r"no network .* the smallest has .* misses requirements.macs = 1000 by"
    ):
        impossible.point(1)


def test_rare_networks_are_found(generator):
    """A limit that hardly any draw meets, and the smallest network does."""
    smallest = generator.cost(generator.smallest())
    assert all(
        generator.cost(generator.point(seed)).parameters > smallest.parameters for seed in range(30)
    )
    limit = int(1.02 * smallest.parameters)
    strict = dataclasses.replace(generator, requirements=Requirements(parameters=limit))
    assert smallest.parameters <= strict.cost(strict.point(4)).parameters <= limit
    assert strict.point(4) == strict.point(4)


def test_fitting_by_hand(generator):
    elite = [generator.point(seed) for seed in range(4)]
    for point, stem in zip(elite, (4, 8, 8, 8), strict=True):
        point["stem"] = stem
    before = generator.probabilities["stem"]
    after = generator.fitted(elite, rate=0.5, floor=0.1)
    wanted = 0.9 * (0.5 * before + 0.5 * np.array([0.25, 0.75])) + 0.05
    assert after.probabilities["stem"] == pytest.approx(wanted)
    assert after.number == 1
    with pytest.raises(UserError, match="no network satisfies"):
        generator.fitted([])


def test_fitting_finds_what_is_best(generator):
    """Toy U: the number of condensers. Five rounds of 40, the best 8 of each."""

    def count(point) -> int:
        return sum(value == "condenser" for value in point.values())

    means = []
    for _ in range(5):
        points = sorted((generator.point(seed) for seed in range(40)), key=count, reverse=True)
        means.append(np.mean([count(point) for point in points]))
        generator = generator.fitted(points[:8])
    assert means[-1] > means[0] + 1.5
    likeliest = {
        name: choices[int(np.argmax(generator.probabilities[name]))]
        for name, choices in generator.space.dimensions.items()
    }
    assert count(likeliest) == 4  # of four modules that open no stage


def test_a_file_is_the_generator(generator, tmp_path):
    fitted = generator.fitted([generator.point(1), generator.point(2)])
    fitted = dataclasses.replace(fitted, requirements=Requirements(top1=30.5, macs=10**8))
    fitted.save(tmp_path / "g1.yaml")
    again = Generator.load(tmp_path / "g1.yaml")
    assert again.number == 1
    assert again.requirements == fitted.requirements
    assert [again(seed) for seed in range(20)] == [fitted(seed) for seed in range(20)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("atto_det_generator: 1", "atto_det_generator: 2", "is not a generator"),
        ("classes: 5", "classes: five", "classes must be a whole number"),
        ("number: 0", "number: -1", "number must be a whole number"),
        ("stem: [0.", "stem: [7, 0.", "probabilities of stem must be 2 numbers"),
        ("kinds: [atto", "kinds: [magic", "space.kinds has 'magic'"),
        ("macs: null", "macs: -5", "requirements.macs is -5"),
        ("stem: [4, 8]", "stem: !!python/name:os.system", "could run code"),
    ],
)
def test_a_broken_file_is_named(generator, tmp_path, old, new, message):
    path = tmp_path / "g0.yaml"
    generator.save(path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as caught:
        Generator.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("round_", range(9))
def test_generators_that_were_found(repository, round_):
    """The first round had nothing to fit to, so G_1 is G_0."""
    found = Generator.load(repository / f"results/exploration/generator_{round_}.yaml")
    assert found.number == max(round_ - 1, 0)
    assert all(found.cost(found.point(seed)).parameters <= 1_500_000 for seed in range(4))


def test_performance_is_netscore():
    """AttoNet-A in Table 2 of arXiv 1903.07209: 73.00 %, 2.97 M, 424.8 M, NetScore 73.53."""
    assert netscore(73.0, ClassifierCost(2_970_000, 424_800_000)) == pytest.approx(73.53, abs=0.01)
    assert netscore(0, ClassifierCost(1, 1)) == -np.inf
    assert information_density(73.0, ClassifierCost(2_000_000, 1)) == 36.5
    assert accuracy(73.0, ClassifierCost(2_000_000, 1)) == 73.0


def test_excess_by_hand():
    wanted = Requirements(top1=50, parameters=1000, kilobytes=1, weight_bits=16)
    excess = wanted.excess(ClassifierCost(1500, 10), top1=40)
    assert excess == pytest.approx({"parameters": 0.5, "kilobytes": 2.0, "top1": 0.2})
    assert not wanted.holds(ClassifierCost(1500, 10))
    assert Requirements(top1=99, parameters=2000).holds(ClassifierCost(1500, 10))
