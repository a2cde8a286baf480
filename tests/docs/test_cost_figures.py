"""Sizes and times in the pages are those of the stored results."""

import pages
from figures import read_result, read_table


def test_sizes_of_the_networks_are_the_counted_ones():
    import torch

    from atto_det.complexity import count
    from atto_det.nets import ATTENDNETS, ATTONETS, create_classifier
    from atto_det.reports.table2 import parameters

    rows = {
        row.split("`")[1]: cells for row, cells in read_table("docs/networks.md", "Sizes").items()
    }
    expected = {}
    for name in (*ATTONETS, *ATTENDNETS):
        with torch.device("meta"):
            network, picture = create_classifier(name, 51).eval(), torch.empty(1, 3, 224, 224)
        [cost] = count([("", network, (picture,))])
        expected[name] = [f"{parameters(network) / 1e3:,.0f}", f"{cost.macs / 1e6:.1f}"]
    assert {name: cells[1::2] for name, cells in rows.items()} == expected


R50, LITE, TINY = "r50-fpn", "atto_maskrcnn_lite_voc", "atto_maskrcnn_tiny_voc"


def _milliseconds(name: str) -> dict[tuple[str, str], float]:
    """The medians of a benchmark, by detector and mode."""
    timed = read_result(name)["latencies"]
    return {(one["detector"], one["mode"]): 1000 * one["median_s"] for one in timed}


def test_times_in_the_readme_are_the_stored_ones():
    stored = _milliseconds("benchmark_cpu.json")
    modes = ("eager", "fast", "onnx", "onnx-int8", "openvino-int8")
    expected = [[f"{stored[name, mode]:,.0f}" for name in (R50, LITE, TINY)] for mode in modes]
    assert list(read_table("README.md", "How fast it is").values()) == expected


def test_times_in_costs_are_the_stored_ones():
    stored = _milliseconds("benchmark_cpu.json")
    expected = []
    for mode in dict.fromkeys(mode for _, mode in stored):
        slow, lite, tiny = (stored[name, mode] for name in (R50, LITE, TINY))
        cells = [
            f"{slow:,.0f}",
            f"{lite:,.0f} ({slow / lite:.1f})",
            f"{tiny:,.0f} ({slow / tiny:.0f})",
        ]
        expected.append(cells)
    assert list(read_table("docs/costs.md", "Latency").values()) == expected

    stored = _milliseconds("benchmark_attendnets_cpu.json")
    names = list(dict.fromkeys(name for name, _ in stored))
    modes = dict.fromkeys(mode for _, mode in stored)
    expected = [[f"{stored[name, mode]:,.0f}" for name in names] for mode in modes]
    assert list(read_table("docs/costs.md", "Latency", 1).values()) == expected


def test_costs_beside_a_peer_are_the_stored_ones():
    stored = read_result("peers_cpu.json")
    names = (TINY, "yolo26n-seg", LITE)
    macs = [stored["multiply_adds"]["macs"][f"{name} 640x640 onnx"] / 1e9 for name in names]
    text = (pages.REPOSITORY / "docs/costs.md").read_text(encoding="utf-8")
    assert "with {:.1f} instead of {:.1f} billion multiply-adds".format(*macs) in text
    assert f"with {macs[2]:.1f} billion" in text
    parts = {
        (one["detector"], one["input"], one["mode"]): one["parts_s"] for one in stored["latencies"]
    }
    ours = ((LITE, "640x640"), (TINY, "640x640"), (TINY, "320x320"))
    expected = []
    for mode in ("onnx", "onnx-int8", "openvino", "openvino-bf16", "openvino-int8"):
        both = [[1000 * second for second in parts[*one, mode].values()] for one in ours]
        cells = [f"{network:.0f} + {masks:.0f}" for network, masks, _ in both]
        # The peer's 8-bit file is a file of its own.
        name = "yolo26n-seg-int8" if mode.endswith("int8") else "yolo26n-seg"
        peer = parts[name, "640x640", mode.removesuffix("-int8")]["network"]
        expected.append([*cells, f"{1000 * peer:.0f}"])
    assert list(read_table("docs/costs.md", "Latency", 2).values()) == expected


def test_the_profile_in_costs_is_the_stored_one():
    stored = read_result("profile_cpu.json")
    profiles = {one["name"]: one["kinds"] for one in stored["profiles"]}
    plain = [one for one in stored["limits"] if one["name"].startswith("3x3")]
    columns = []
    for name in (f"{LITE} 640x640", f"{TINY} 320x320"):
        for mode in ("onnx", "onnx-int8", "openvino-int8"):
            kinds = {kind: dict(one) for kind, one in profiles[f"{name} {mode}"].items()}
            pointwise = kinds.pop("1x1 convolution")
            parts = [pointwise["seconds"]]
            parts.append(kinds.pop("dense and matrix products")["seconds"])
            others = ("3x3 convolution, depthwise", "7x7 convolution")
            parts.append(sum(kinds.pop(kind)["seconds"] for kind in others))
            parts.append(kinds.pop("ROIAlign")["seconds"])
            parts.append(sum(one["seconds"] for one in kinds.values()))
            [own] = [one for one in plain if one["name"].endswith(f", {mode}")]
            rates = [1e12 * one["seconds"] / one["macs"] for one in (pointwise, own)]
            columns.append([*(1000 * part for part in parts), *rates])
    expected = [[f"{value:.1f}" for value in row] for row in zip(*columns, strict=True)]
    assert list(read_table("docs/costs.md", "Latency", 3).values()) == expected


def test_backbones_in_8_bits_are_the_stored_ones():
    times = read_result("backbones_8_bits_cpu.json")["times"]
    rows = list(read_table("docs/export.md", "The cost in accuracy", 1).values())
    for row, first in zip(rows, range(0, len(times), 4), strict=True):
        ms = [one["median_ms"] for one in times[first : first + 4]]
        single, eight = (ms[0], ms[1]), (ms[2], ms[3])  # by runtime
        expected = []
        for a, b in zip(single, eight, strict=True):
            expected += [f"{a:.0f}, {b:.0f}", f"{a / b:.2f}"]
        assert row == expected


def test_the_memory_of_tiles_is_the_stored_one():
    runs = read_result("tiles_cpu.json")["runs"]
    sides, detections, mib = (
        [f"{run[key]:,.0f}" for run in (runs[0], runs[-1])]
        for key in ("side", "detections", "peak_above_start_mib")
    )
    text = " ".join((pages.REPOSITORY / "docs/export.md").read_text().split())
    assert f"{sides[0]}² to {sides[1]}², with {detections[0]} to {detections[1]} det" in text
    assert f"took {mib[0]} to {mib[1]} MiB" in text


def test_what_rewriting_is_worth_is_stored():
    stored = read_result("profile_cpu.json")
    without, rewritten = (
        {one["name"]: 1000 * one["run_s"] for one in part["profiles"]}
        for part in (stored["before"], stored)
    )
    cells = [f"{without[name]:.0f}, {rewritten[name]:.0f}" for name in rewritten]
    rows = list(read_table("docs/costs.md", "Latency", 4).values())
    assert [cell for row in rows for cell in row] == cells


def test_growth_in_costs_is_the_stored_one():
    expected = []
    for curve in read_result("scaling_cpu.json")["curves"]:
        first, last = curve["points"][0], curve["points"][-1]
        times = [sum(point["parts_s"].values()) for point in (first, last)]
        memory = [f"{point['peak_memory_bytes'] / 2**20:,.0f}" for point in (first, last)]
        time = f"{1000 * times[0]:,.0f} to {1000 * times[1]:,.0f} ms"
        if curve["quantity"] == "records":
            time = f"{times[0]:.2f} to {times[1]:.0f} s"
        exponent = f"{curve['exponent']:.2f}".replace("-", "−")
        expected.append([time, exponent, f"{' to '.join(memory)} MiB"])
    rows = read_table("docs/costs.md", "Latency", 5).values()
    assert [cells[2:] for cells in rows] == expected


def test_the_time_of_an_evaluation_is_the_stored_one():
    stored = read_result("evaluation_speed_cpu.json")
    ours, columns, *theirs = (part["wall_s"] for part in stored["seconds"].values())
    [row] = [
        cells
        for first, [cells] in read_table("docs/results.md", "Reading and scoring").items()
        if f"{stored['images']:,} pictures" in first
    ]
    boxes, masks = theirs
    assert f"{ours:.1f} + {columns:.1f} s" in row
    assert f"{boxes:.1f} + {masks:.1f} s" in row
    assert all(ap["ours"] == ap["pycocotools"] for ap in stored["AP"].values())
