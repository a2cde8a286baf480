"""The paper's Table 2: golden figures, the sums behind each remark, tables, JSON and plot."""

import dataclasses
import json
import math
import re

import pytest
import torch
from torch import nn

from atto_det.complexity.count import count
from atto_det.errors import UserError
from atto_det.nets import get_spec
from atto_det.nets.registry import short_name
from atto_det.nets.spec_file import spec_to_text
from atto_det.pretraining.networks import create_network
from atto_det.reports.table2 import PUBLISHED, REMARKS, Data, Measured, compare, parameters
from atto_det.reports.table2_report import markdown, print_table2, record, tables, write_table2

TINY = Data("Tiny", 7500, 2500, ("cat", "dog"), 128)


@pytest.fixture(scope="module")
def rows():
    measured = [
        Measured("attonet_a", 31.4, TINY),
        Measured("attonet_d", 22.5, TINY, weight_bits=8),
        Measured("resnet50", 33.0),
    ]
    return {row.network: row for row in compare(create_network, measured)}


@pytest.fixture(scope="module")
def networks():
    with torch.device("meta"):
        return {row.network: create_network(row.network, 51) for row in PUBLISHED}


@pytest.mark.parametrize(
    ("network", "parameters_m", "macs_m"),
    [  # counted by hand-written sums over Table 1, independently of the modules
        ("attonet_a", 2.967, 578.4),
        ("attonet_b", 1.867, 402.5),
        ("attonet_c", 1.057, 222.8),
        ("attonet_d", 0.317, 100.1),
        ("mobilenetv1_100", 3.248, 567.8),
        ("mobilenetv2_100", 2.272, 299.6),
        ("shufflenet_v2_x1_0", 1.298, 143.9),
    ],
)
def test_recomputed(rows, network, parameters_m, macs_m):
    assert round(rows[network].parameters / 1e6, 3) == parameters_m
    assert round(rows[network].macs / 1e6, 1) == macs_m


def test_mobilenet_v1_by_hand(rows):
    """Its own paper's Table 1 (arXiv 1704.04861): 3×3 depthwise and 1×1, thirteen times."""
    blocks = [(32, 64, 112), (64, 128, 56), (128, 128, 56), (128, 256, 28), (256, 256, 28)]
    blocks += [(256, 512, 14), *[(512, 512, 14)] * 5, (512, 1024, 7), (1024, 1024, 7)]
    macs = 27 * 32 * 112**2 + sum((9 * a + a * b) * s * s for a, b, s in blocks) + 1024 * 51
    weights = 27 * 32 + 32 + sum(9 * a + a + a * b + b for a, b, _ in blocks) + 1025 * 51
    assert (rows["mobilenetv1_100"].macs, rows["mobilenetv1_100"].parameters) == (macs, weights)


@pytest.mark.parametrize("paper", PUBLISHED, ids=lambda paper: paper.network)
def test_published_parameters_follow_from_the_numbers_per_norm_channel(networks, paper):
    network = networks[paper.network]
    fitting = [k for k in (1, 2, 4) if round(parameters(network, k) / 1e6, 2) == paper.parameters_m]
    # 0.32 M of AttoNet-D is 0.317 or 0.323; its family says which.
    assert fitting == ([1, 2] if paper.network == "attonet_d" else [paper.per_norm_channel])


def test_two_per_norm_channel_are_all_that_is_trained(networks):
    for name in ("mobilenetv1_100", "mobilenetv2_100", "shufflenet_v2_x1_0"):
        trained = sum(p.numel() for p in networks[name].parameters())
        assert parameters(networks[name], 2) == trained


def test_the_sums_behind_the_remarks(rows, networks):
    remarks = " ".join(REMARKS)
    ratios = [rows[p.network].macs / 1e6 / p.macs_m for p in PUBLISHED if "Atto" in p.name]
    assert f"{min(ratios):.2f} (A) to {max(ratios):.2f} (D)" in remarks
    assert ratios == sorted(ratios)

    for name, per_channel in (
        ("mobilenetv1_100", 2),
        ("mobilenetv2_100", 2),
        ("shufflenet_v2_x1_0", 4),
    ):
        assert f"({parameters(networks[name], per_channel) / 1e6:.3f} M)" in remarks

    v1 = rows["mobilenetv1_100"]
    assert f"{100 * (1 - v1.published.macs_m * 1e6 / v1.macs):.2f} % lower" in remarks

    # MobileNet-V2: residual sums by resolution, the mean over 7×7 (an operation each), biases.
    sums = 24 * 56**2 + 2 * 32 * 28**2 + (3 * 64 + 2 * 96) * 14**2 + 2 * 160 * 7**2
    v2 = rows["mobilenetv2_100"].macs + (sums + 1280 * 7**2 + 51) / 2
    assert round(v2 / 1e6, 1) == rows["mobilenetv2_100"].published.macs_m
    assert f"({v2 / 1e6:.2f} M)" in remarks

    # ShuffleNet-V2: 34 channels fewer in the first 1×1 (56²), the 3×3 (28²) and into the next 1×1;
    # 3×3 max pooling of 24 channels, 2x - 1 of the picture, the mean over 7×7, biases.
    fewer = (58 - 24) * (24 * 56**2 + (9 + 58) * 28**2)
    others = 9 * 24 * 56**2 + 2 * 3 * 224**2 + 1024 * 7**2 + 51
    shuffle = rows["shufflenet_v2_x1_0"].macs - fewer + others / 2
    assert round(shuffle / 1e6, 1) == rows["shufflenet_v2_x1_0"].published.macs_m
    assert f"({shuffle / 1e6:.2f} M)" in remarks
    weights = parameters(networks["shufflenet_v2_x1_0"], 4)
    weights -= (58 - 24) * (24 + 9 + 58) + 4 * 2 * (58 - 24)
    assert round(weights / 1e6, 2) == 1.32  # the variant's too


def test_parameters_by_hand():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),  # 108 + 4
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 2, 1, bias=True),  # 8 + 2: its own bias is the one number
        nn.PReLU(),  # 1
        nn.Linear(2, 5),  # 15
    )
    assert [parameters(net, k) for k in (0, 1, 4)] == [132, 138, 156]


def test_rows_are_the_papers_then_the_others(rows):
    assert list(rows) == [*(paper.network for paper in PUBLISHED), "resnet50"]
    assert rows["resnet50"].name == "resnet50"
    assert rows["resnet50"].published is None


def test_measured(rows):
    a = rows["attonet_a"]
    expected = 20 * math.log10(31.4**2 / math.sqrt(a.parameters / 1e6 * a.macs / 1e9))
    assert a.netscore(31.4) == pytest.approx(expected)
    # The cost at 128 is that of the very network at 128; ResNet-50 was given without data.
    with torch.device("meta"):
        network = create_network("attonet_a", 51).eval()
        at_128 = count([("", network, (torch.empty(1, 3, 128, 128),))])[0].macs
    assert a.macs_measured == at_128
    assert 0.3 < at_128 / a.macs < 0.35  # (128 / 224)² = 0.327
    assert rows["resnet50"].macs_measured is None
    assert rows["attonet_b"].measured is None


def test_weight_memory(rows):
    assert rows["attonet_d"].megabytes(8) == rows["attonet_d"].parameters / 1e6
    assert rows["attonet_d"].megabytes(32) == 4 * rows["attonet_d"].parameters / 1e6


def test_other_data_stand_in_another_table():
    others = [
        TINY,
        Data("Tiny", 7500, 2500, ("cat", "dog"), 64),
        Data("Tiny", 7500, 2500, ("cat", "fox"), 128),
        Data("Tiny", 7500, 2400, ("cat", "dog"), 128),
        None,
        TINY,
    ]
    names = ["attonet_a", "attonet_b", "attonet_c", "attonet_d", "mobilenetv2_100", "resnet50"]
    measured = [Measured(n, 30 + i, d) for i, (n, d) in enumerate(zip(names, others, strict=True))]
    grids = [g for g in tables(compare(create_network, measured)) if "Measured" in g.title]
    assert len(grids) == len({grid.title for grid in grids}) == 5
    found = {row[0]: grid for grid in grids for row in grid.rows}
    assert found["AttoNet-A"] is found["resnet50"]
    assert "128×128: 2 classes, cat to dog; 7,500 pictures to train" in found["AttoNet-A"].title
    assert "not stated" in found["MobileNet-V2"].title
    assert any("at 64" in cell for cell in found["AttoNet-B"].header)


@pytest.mark.parametrize("top1", [-0.1, 100.5, math.nan, math.inf])
def test_a_top1_out_of_range(top1):
    with pytest.raises(UserError, match=r"the top-1 of attonet_a is .* a percentage"):
        Measured("attonet_a", top1)


def test_a_network_twice_or_unknown():
    twice = [Measured("attonet_a", 31, TINY), Measured("attonet_a", 32)]
    with pytest.raises(UserError, match="attonet_a has two measured top-1, 31 and 32: give one"):
        compare(create_network, twice)
    with pytest.raises(UserError, match="unknown network 'attonet_x'"):
        compare(create_network, [Measured("attonet_x", 31)])


def test_trainings_of_several_seeds_are_one_row():
    three = [
        Measured("attonet_a", top1, TINY, runs=((seed, top1),))
        for seed, top1 in ((1, 30.0), (2, 31.0), (3, 35.0))
    ]
    rows = compare(create_network, three)
    [row] = [row for row in rows if row.measured]
    assert row.measured == Measured("attonet_a", 32.0, TINY, runs=((1, 30.0), (2, 31.0), (3, 35.0)))
    assert tables(rows)[1].rows[0][1] == "32.00 ± 2.65 (3)"  # √((4 + 1 + 9) / 2)
    [found] = [entry["measured"] for entry in record(rows) if entry["measured"]]
    assert found["runs"][2] == {"seed": 3, "top1": 35.0}
    others = [
        three[0],  # a seed twice
        dataclasses.replace(three[1], runs=()),
        dataclasses.replace(three[1], weight_bits=8),
        dataclasses.replace(three[1], data=dataclasses.replace(TINY, val=7)),
    ]
    for other in others:
        with pytest.raises(UserError, match="or checkpoints that differ in their seeds alone"):
            compare(create_network, [three[0], other])


def test_a_network_of_a_file_has_a_short_name():
    text = spec_to_text(get_spec("attonet_d"))
    row = compare(create_network, [Measured(text, 20.0)])[-1]
    assert (row.network, row.name) == (text, short_name(text))


def test_a_top1_of_zero_has_no_netscore():
    grids = tables(compare(create_network, [Measured("attonet_a", 0, TINY)]))
    assert grids[1].rows[0][:3] == ("AttoNet-A", "0.00", "–")


def test_the_published_table(rows):
    grid = tables(list(rows.values()))[0]
    found = {row[0]: row for row in grid.rows}
    expected = ("AttoNet-A", "73.00", "424.8", "578.4", "2.97", "2.967", "73.53", "73.52", "72.19")
    assert found["AttoNet-A"] == expected
    assert len(found) == 7


def test_the_terminal_table_fits_100_columns(rows, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    print_table2(list(rows.values()))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert "…" not in out  # nothing cut
    for remark in REMARKS:
        assert remark in re.sub(r"\s+", " ", out)
    assert "AttoNet-D (8 bit)" in out


def test_files(rows, tmp_path):
    files = write_table2(tmp_path, list(rows.values()), {"command": ["table2.py"]})
    assert [path.name for path in files] == ["table2.md", "table2.json", "table2.png"]
    assert files[0].read_text() == markdown(list(rows.values()))
    content = json.loads(files[1].read_text())
    assert content["command"] == ["table2.py"]
    assert content["networks"] == json.loads(json.dumps(record(list(rows.values()))))
    a = next(entry for entry in content["networks"] if entry["network"] == "attonet_a")
    assert a["published"]["macs_m"] == 424.8
    assert a["recomputed"]["macs_224"] == 578441416
    assert a["measured"]["data"]["root"] == "Tiny"
    assert files[2].read_bytes().startswith(b"\x89PNG")


def test_markdown_rows_have_as_many_cells_as_their_header(rows):
    blocks = re.findall(r"(?:^\|.*\n)+", markdown(list(rows.values())), flags=re.MULTILINE)
    assert len(blocks) == 4
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_plot_names_hide_no_other_name(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    from atto_det.reports.table2_plot import plot_table2

    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda f, *a, **k: (drawn.append(f), save(f, *a, **k)))
    near = [
        Measured("attonet_b", 36.1, TINY),
        Measured("mobilenetv2_100", 36.4, TINY),
        Measured("mobilenetv1_100", 35.9, TINY),
        Measured("resnet50", 36.2, TINY),
    ]
    plot_table2(compare(create_network, near), tmp_path / "plot.png")
    published, measured = drawn[0].axes
    assert published.get_xscale() == "log"
    for axes, names in ((published, 7), (measured, 4)):
        texts = [text for text in axes.texts if text.get_text()]
        assert len(texts) == names
        boxes = [text.get_window_extent() for text in texts]
        assert not any(a.overlaps(b) for index, a in enumerate(boxes) for b in boxes[index + 1 :])
    arrows = [text for text in published.texts if not text.get_text()]
    assert len(arrows) == 4  # the AttoNets alone
