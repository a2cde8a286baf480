"""The report on an exploration: tables and front by hand, a page that stands alone."""

import re

import pytest

from atto_det.reports.exploration import grids
from atto_det.reports.exploration_html import front, page
from atto_det.reports.exploration_plot import plot_exploration


def network(number: int, macs: float, top1: float | None, satisfies: bool = True, **others) -> dict:
    return {
        "number": number,
        "network": f"spec-<{number}>",
        "u": None if top1 is None else top1 + 20,
        "top1": top1,
        "parameters": 1_500_000,
        "macs": macs * 1e6,
        "satisfies": satisfies,
        "traits": {"stem": 4 + number, "modules": 16},
        **others,
    }


def searched(name, satisfying, curve, final, val=(None, None), is_over=True) -> dict:
    found = {"name": name, "asked": 5, "satisfying": satisfying, "curve": curve, "final": final}
    return found | {"val_u": val[0], "val_top1": val[1], "is_over": is_over}


@pytest.fixture
def content() -> dict:
    atto = {"kind": "atto", "compress": 8, "multiplier": 2, "mix": 4, "expand": 24}
    spec = {"stem": 8, "res2": [atto], "res3": [atto, atto], "res4": [atto], "res5": [atto]}
    networks = [
        network(0, 20, 40.0),
        network(1, 30, 39.0),
        network(2, 30, 50.0),
        network(3, 10, 60.0, False),
        network(4, 90, None, False),
    ]
    return {
        "title": "Exploration of <colours>",
        "remarks": ["Requirements 1_r: none."],
        "prototype": network(9, 50, 45.0, val=44.0),
        "generators": [
            {"number": 0, "u": 60.5, "satisfying": 5, "seeds": 8},
            {"number": 1, "u": 63.25, "satisfying": 8, "seeds": 8},
        ],
        "settings": {"alone": {"epochs": 4}},
        "networks": networks,
        "candidates": [network(2, 30, 30.0, supernet=25.0, epochs=1)],
        "finals": [network(2, 30, 52.5, val=51.5)],
        "ranking": {"epochs": 4, "networks": [{}] * 20, "tau": {"macs": -0.2, "supernet": 0.55}},
        "samplers": [
            searched("random-1", 3, [(1, 60), (5, 70)], 72.5, (68.5, 41.0)),
            searched("random-2", 4, [(1, 61)], 70.0, (69.5, 42.0)),
            searched("random-3", 0, [], None),
            searched("random-4", 4, [(1, 99)], 99.0, is_over=False),
            searched("tpe-1", 0, [], None),
            searched("nsga2-1", 0, [], None),
            searched("nsga2-2", 0, [], None),
        ],
        "importance": {"res2.width": 0.7, "stem": 0.1},
        "winner": {"network": "spec-<2>", "spec": spec},
    }


def test_the_front_by_hand(content):
    """Number 3 misses the requirements, number 1 is no better than a smaller one."""
    assert [one["number"] for one in front(content["networks"])] == [0, 2]
    assert front([]) == []


def test_tables_by_hand(content):
    finals, candidates, ranking, generators, samplers, found = grids(content)
    assert finals.rows[0][:4] == ("prototype (nearest)", "65.00", "45.0", "44.0")
    assert finals.rows[1] == ("spec-<2>", "72.50", "52.5", "51.5", "1.500", "30.00", "yes")
    assert candidates.rows == (("spec-<2>", "25.0", "30.0", "1 of 4"),)
    assert "20 networks of G_0" in ranking.title
    assert "0 ± 0.16" in ranking.title  # the root of 2·45 / (9·20·19)
    assert generators.rows[0] == ("G_0", "60.50", "5 of 8")
    assert ranking.rows == (("supernet's top-1", "+0.55"), ("multiply-adds", "-0.20"))
    assert samplers.rows[0] == ("random-1", "5", "3", "70.00", "72.50", "68.50", "41.00")
    assert samplers.rows[4] == ("tpe-1", "5", "0", "", "", "", "")
    mean = ("65.50 (61.00 to 70.00)", "71.25 (70.00 to 72.50)")
    on_val = ("69.00 (68.50 to 69.50)", "41.50 (41.00 to 42.00)")
    assert samplers.rows[7:] == (
        ("random, mean of 2 of 3", "", "", *mean, *on_val),
        ("nsga2, mean of 0 of 2", "", "", "", "", "", ""),
    )
    assert [row[0] for row in found.rows] == [
        *("stem", "res2.1", "res3.1", "res3.2", "res4.1", "res5.1")
    ]
    assert found.rows[1] == ("res2.1", "atto", "compress 8, multiplier 2, mix 4, expand 24")
    assert found.rows[2][1] == "atto, stride 2"


def test_the_page_stands_alone(content, tmp_path):
    text = page(content, grids(content))
    assert not re.findall(r"(?:src|href)=|url\(", text)
    assert "prefers-color-scheme: dark" in text
    assert "<colours>" not in text
    assert "&lt;colours&gt;" in text
    assert text.count('class="final"') == 1
    assert text.count('class="dot"') >= 3
    assert text.count('class="thread"') + text.count('class="elite"') == 4
    plot_exploration(content, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_nothing_found(content):
    """A search of which nothing met the requirements is shown, too."""
    nothing = {"generators": [], "samplers": [], "importance": {}, "winner": None, "finals": []}
    ranking = content["ranking"] | {"tau": {}}
    one = [network(0, 20, 40.0, False)]
    bare = content | nothing | {"ranking": ranking, "networks": one, "candidates": []}
    text = page(bare, grids(bare))
    assert "Trained alone to the end" in text
