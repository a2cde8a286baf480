"""The AttendNet paper's Table 1: golden figures, and its ratios as printed and as they come out."""

import json

import pytest

from atto_det.pretraining.networks import create_network
from atto_det.reports import attendnets_table as t
from atto_det.reports import table2
from atto_det.reports.table2_report import markdown, print_table2, write_table2


@pytest.fixture(scope="module")
def rows():
    return t.compare(create_network)


def test_the_published_figures():
    """As printed there; and as in the AttoNet paper's own table, to the digits printed."""
    found = [(p.name, p.top1, p.parameters_k, p.macs_m, p.weight_bits) for p in t.PUBLISHED]
    assert found == [
        ("MobileNet-V1", 64.5, 3260, 567.5, 32),
        ("MobileNet-V2", 68.7, 2290, 299.7, 32),
        ("AttoNet-A", 73.0, 2970, 424.8, 32),
        ("AttoNet-B", 71.1, 1870, 277.5, 32),
        ("AttendNet-A", 73.2, 1386, 276.8, 8),
        ("AttendNet-B", 71.7, 782, 191.3, 8),
    ]
    first = {row.name: row for row in table2.PUBLISHED}
    for row in t.PUBLISHED[:4]:
        other = first[row.name]
        assert abs(row.top1 - other.top1) < 0.051
        assert (row.parameters_k / 1e3, row.macs_m) == (other.parameters_m, other.macs_m)


def test_the_recomputed_figures(rows):
    """By the rule that gives the published AttoNets; the AttendNets within 0.5 %."""
    found = {row.published.network: row for row in rows}
    assert round(found["attonet_a"].macs / 1e6, 1) == 578.4
    assert round(found["attonet_b"].macs / 1e6, 1) == 402.5
    assert round(found["mobilenetv1_100"].parameters / 1e6, 3) == 3.248
    for name in ("attendnet_a", "attendnet_b"):
        row = found[name]
        assert row.parameters / 1e3 == pytest.approx(row.published.parameters_k, rel=0.005)
        assert row.macs / 1e6 == pytest.approx(row.published.macs_m, rel=0.005)


@pytest.mark.parametrize(
    ("pair", "printed", "digits"),
    [
        (("AttendNet-B", "MobileNet-V1"), (4.17, 16.7, 3), (2, 1, 0)),
        (("AttendNet-A", "MobileNet-V1"), (2.35, 9.4, 2.1), (2, 1, 1)),
        (("AttendNet-A", "MobileNet-V2"), (1.65, 6.6, 1.1), (2, 1, 1)),
        (("AttendNet-B", "AttoNet-B"), (2.4, 9.6, 1.45), (1, 1, 2)),
        (("AttendNet-A", "AttoNet-A"), (2.1, 8.4, 1.53), (1, 1, 2)),
    ],
)
def test_the_ratios(rows, pair, printed, digits):
    """The published figures give every printed ratio but one."""
    [one] = [r for r in t.ratios(rows) if (r.claim.network, r.claim.other) == pair]
    exact = [(r.parameters, r.memory, r.macs) for r in (one.claim, one.published)]
    assert exact[0] == printed
    found = tuple(round(value, places) for value, places in zip(exact[1], digits, strict=True))
    if pair == ("AttendNet-A", "AttoNet-A"):
        assert round(exact[1][1], 2) == 8.57
        assert printed[1] == 4 * printed[0]  # four times the rounded ratio
        found = (found[0], 8.4, found[2])
    assert found == printed


def test_ratios_of_recomputed_figures(rows):
    by_name = {row.published.name: row for row in rows}
    for one in t.ratios(rows):
        small, large = by_name[one.claim.network], by_name[one.claim.other]
        assert one.recomputed.macs == large.macs / small.macs
        assert one.recomputed.memory == 4 * large.parameters / small.parameters
    last = t.ratios(rows)[-1]  # AttoNet-A has 578.4 M, not 424.8 M
    assert last.recomputed.macs == pytest.approx(578.4 / 276.8, rel=0.005)


def test_tables_say_reconstructed(rows, capsys, monkeypatch):
    first, second = t.tables(rows)
    assert [row[0] for row in first.rows][-2:] == [
        "AttendNet-A (reconstructed)",
        "AttendNet-B (reconstructed)",
    ]
    assert second.rows[-1][:4] == ("AttendNet-A of AttoNet-A", "2.1", "2.14", "2.14")
    assert second.rows[-1][4:6] == ("8.4", "8.57")
    monkeypatch.setenv("COLUMNS", "100")
    print_table2([], rows)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert "The AttendNets here are reconstructed" in out
    assert "# Table 1 of the AttendNet paper" in markdown([], rows)


def test_files(rows, tmp_path):
    networks = table2.compare(create_network)
    write_table2(tmp_path, networks, {"command": ["x"]}, rows)
    content = json.loads((tmp_path / "table2.json").read_text())["attendnets"]
    assert content["networks"][4]["published"]["parameters_k"] == 1386
    assert content["ratios"][0]["claim"]["memory"] == 16.7
    assert "(reconstructed)" in (tmp_path / "table2.md").read_text()
