"""Exponents of power laws, and what a curve says of its parts."""

import pytest

from atto_det.complexity.scaling import Curve, Point, exponent


@pytest.mark.parametrize("power", [0, 0.5, 1, 2])
def test_the_exponent_of_a_power_law_is_its_power(power):
    values = [1, 3, 10, 100]
    assert exponent(values, [7 * value**power for value in values]) == pytest.approx(power)


def test_what_is_constant_counts_less_in_the_upper_half():
    values = [1, 10, 100, 1000, 10000]
    assert exponent(values, [50 + value for value in values]) == pytest.approx(0.9130, abs=1e-4)
    assert exponent([1, 10], [50 + 1, 50 + 10]) == pytest.approx(0.0705, abs=1e-3)


def test_without_two_values_or_with_zeros_there_is_none():
    assert exponent([5], [1]) is None
    assert exponent([1, 2], [0, 1]) is None


def test_a_curve_has_exponents_of_parts_whole_and_memory():
    points = [Point(n, {"linear": 2 * n, "square": n**2}, 3 * n) for n in (10, 1000, 100_000)]
    curve = Curve("records", "", tuple(points))
    assert curve.parts == ["linear", "square"]
    assert curve.exponent("linear") == pytest.approx(1)
    assert curve.exponent("square") == pytest.approx(2)
    assert 1.9 < curve.exponent() < 2
    assert curve.memory_exponent == pytest.approx(1)
    assert Curve("records", "", (*points, Point(10**6, {}))).memory_exponent is None
