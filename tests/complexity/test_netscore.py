"""NetScore against the published column, and by its own definition."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atto_det.complexity.netscore import netscore
from atto_det.errors import UserError


@pytest.mark.parametrize(
    ("top1", "macs_m", "parameters_m", "published"),
    [  # arXiv 1903.07209v2, Table 2
        (64.52, 567.5, 3.26, 69.71),
        (68.68, 299.7, 2.29, 75.11),
        (65.00, 140.1, 1.32, 79.85),
        (73.00, 424.8, 2.97, 73.53),
        (71.10, 277.5, 1.87, 76.93),
        (69.60, 139.9, 1.06, 81.99),
        (66.30, 57.5, 0.32, 90.21),
    ],
)
def test_the_published_column(top1, macs_m, parameters_m, published):
    assert netscore(top1, parameters_m, macs_m / 1e3) == pytest.approx(published, abs=0.0101)


def test_by_hand():
    assert netscore(10, 1, 1) == pytest.approx(40)  # 20·log10(10²)
    assert netscore(100, 10, 10) == pytest.approx(60)  # 20·log10(10⁴ / √100)
    assert netscore(100, 1e-4, 1) == pytest.approx(120)


positive = st.floats(1e-3, 1e3)


@given(top1=st.floats(0.1, 100), parameters=positive, macs=positive)
def test_the_formula_and_what_a_doubling_costs(top1, parameters, macs):
    score = netscore(top1, parameters, macs)
    assert score == pytest.approx(20 * math.log10(top1**2 / math.sqrt(parameters * macs)))
    assert netscore(top1, 2 * parameters, macs) == pytest.approx(score - 3.0103, abs=1e-4)
    assert netscore(top1, parameters, 2 * macs) == pytest.approx(score - 3.0103, abs=1e-4)


@pytest.mark.parametrize("top1", [0, -1, 100.1, math.nan, math.inf])
def test_a_top1_out_of_range(top1):
    with pytest.raises(UserError, match=r"NetScore needs a top-1 in percent.* not "):
        netscore(top1, 1, 1)


@pytest.mark.parametrize("value", [0, -2, math.nan, math.inf])
def test_costs_out_of_range(value):
    with pytest.raises(UserError, match=r"parameters .millions. above 0"):
        netscore(50, value, 1)
    with pytest.raises(UserError, match=r"multiply-adds .G. above 0"):
        netscore(50, 1, value)
