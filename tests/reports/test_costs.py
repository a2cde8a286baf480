"""Tables, Markdown, JSON record and plot of two invented detectors."""

import numpy as np
import pytest
from PIL import Image

from atto_det.complexity import Cost
from atto_det.errors import UserError
from atto_det.reports.costs import Analysis, record, tables
from atto_det.reports.costs_plot import plot_costs
from atto_det.reports.grid import Grid, markdown_grids, print_grids

OURS = Analysis(
    "ours",
    "a file",
    {
        "32x64": [
            Cost("stem", 10**9, 10**6, 10**6),
            Cost("fpn", 2 * 10**9, 10**6, 2 * 10**6),
            Cost("mask_head", 10**9, 2 * 10**6, 10**6),
        ]
    },
    {"32x64": {"stem": 2**20, "fpn": 3 * 2**20, "mask_head": 2**20}},
)
THEIRS = Analysis(
    "theirs",
    "the zoo",
    {"32x64": [Cost("odd|part", 10**9, 10**6, 10**6), Cost("rpn", 5 * 10**9, 10**6, 10**6)]},
    {"32x64": {"odd|part": 2**20, "rpn": 2**21}},
    note="a note",
)


def test_tables():
    summary, parameters, macs, activations, memory = tables([OURS, THEIRS])
    assert summary.title == "At 32x64"
    assert summary.rows == (
        ("ours", "4.00", "1.00×", "4.0", "1.00×", "4.0", "1.00×"),
        ("theirs", "2.00", "0.50×", "6.0", "1.50×", "2.0", "0.50×"),
    )
    assert macs.title == "By part: MACs (G) at 32x64"
    assert macs.header == ("part", "ours", "theirs")
    assert macs.rows == (
        ("stem", "1.00", ""),
        ("odd|part", "", "1.00"),  # an unknown part stands between the stages and the heads
        ("FPN", "2.00", ""),
        ("RPN", "", "5.00"),
        ("mask head", "1.00", ""),
        ("total", "4.00", "6.00"),
    )
    assert parameters.rows[-1] == ("total", "4.00", "2.00")
    assert activations.rows[0] == ("stem", "1.0", "")
    assert memory.rows[-1] == ("highest", "3.0", "2.0")


def test_the_terminal_shows_every_name_whole(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    long = Analysis("atto_maskrcnn_lite_voc", "", OURS.costs)
    print_grids(tables([long, THEIRS]))
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert printed.count("atto_maskrcnn_lite_voc") == 4
    assert "peak memory" not in printed


def test_markdown():
    lines = markdown_grids("Title", tables([OURS, THEIRS]), ["First.", "Second."]).splitlines()
    assert lines[:5] == ["# Title", "", "First.", "", "Second."]
    assert "| theirs | 2.00 | 0.50× | 6.0 | 1.50× | 2.0 | 0.50× |" in lines
    assert "| odd\\|part |  | 1.00 |" in lines
    rows = [line for line in lines if line.startswith("|")]
    assert {row.replace("\\|", "").count("|") for row in rows} == {4, 8}


def test_record():
    ours, theirs = record([OURS, THEIRS])
    figures = theirs["inputs"]["32x64"]
    assert figures["total"] == {
        "macs": 6 * 10**9,
        "parameters": 2 * 10**6,
        "activations": 2 * 10**6,
    }
    assert figures["ratio"] == {"macs": 1.5, "parameters": 0.5, "activations": 0.5}
    assert figures["parts"][1]["name"] == "rpn"
    assert figures["peak_memory_bytes"]["rpn"] == 2**21
    assert theirs["note"] == "a note"
    assert ours["source"] == "a file"


def test_a_first_detector_of_zeros_has_no_ratio():
    nothing = Analysis("nothing", "", {"32x64": [Cost("stem", 0, 0, 0)]})
    assert record([nothing, OURS])[1]["inputs"]["32x64"]["ratio"]["macs"] is None
    assert tables([nothing, OURS])[0].rows[1][2] == "–"


@pytest.mark.parametrize("analyses", [[OURS], [OURS, THEIRS]])
def test_plot_has_a_bar_of_each_colour(tmp_path, analyses):
    plot_costs(analyses, tmp_path / "plot.png")
    pixels = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB")).reshape(-1, 3)
    seen = {tuple(pixel) for pixel in np.unique(pixels, axis=0)}
    assert (0x2A, 0x9D, 0x8F) in seen  # FPN
    assert ((0xE9, 0xC4, 0x6A) in seen) == (THEIRS in analyses)  # RPN


def test_plot_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"plot\.png was not written"):
        plot_costs([OURS], tmp_path / "file/plot.png")


@pytest.mark.parametrize(("width", "parts"), [(40, 6), (80, 3), (200, 1)])
def test_figures_stay_whole_on_any_terminal(width, parts, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    figures = tuple(f"{index},123.45" for index in range(12))
    header = ("part", *(f"detector_{index:02} (G)" for index in range(12)))  # 11 wide, 14 padded
    print_grids([Grid("costs", header, (("stem", *figures),))])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    rows = [line.split() for line in lines if "stem" in line]
    assert len(rows) == parts
    assert all(row[0] == "stem" for row in rows)
    assert tuple(figure for row in rows for figure in row[1:]) == figures
    assert sum("costs" in line for line in lines) == 1
