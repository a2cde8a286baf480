"""The figures in the pages are those of the stored results."""

import json
import re
import statistics

import pages


def _table(page: str, heading: str, number: int = 0) -> dict[str, list[str]]:
    """A table after a heading, by default the first: cells by the first of their row."""
    text = (pages.REPOSITORY / page).read_text(encoding="utf-8").partition(f"## {heading}\n")[2]
    rows = re.findall(r"(?:^\|.*\n)+", text, re.M)[number].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {first: rest for first, *rest in cells}


def _stored(name: str) -> dict:
    return json.loads((pages.REPOSITORY / "results" / name).read_text())


def test_accuracy_and_costs_in_the_readme_are_the_stored_ones():
    runs = _stored("comparison_carparts.json")["runs"]
    first = {run["name"]: run for run in reversed(runs)}
    expected = []
    for name in ("r50_fpn", "r50_fpn_started_as_attonet", "atto_a_paper", "atto_a_lite"):
        expected.append(_row(first[name]["evaluation"], first[name]["costs"]))
    longer = _stored("longer_carparts.json")["runs"]["lite, 4,000 steps"]["evaluation"]
    expected.append(_row(longer, first["atto_a_lite"]["costs"]))
    attendnet = _stored("attendnet_carparts.json")["trainings"]["attendnet_b"]
    expected.append(_row(attendnet["evaluation"], attendnet["costs"]))
    expected.append(_row(first["atto_d_tiny"]["evaluation"], first["atto_d_tiny"]["costs"]))
    distilled = _stored("distilled_carparts.json")["runs"]
    recipe = _stored("recipe_carparts.json")["runs"]
    lite = _stored("distilled_longer_carparts.json")["runs"]
    lite_recipe = [run for key, run in lite.items() if "recipe" in key]
    lite_common = [run for key, run in lite.items() if "recipe" not in key]
    tiny_common = [run for key, run in distilled.items() if key.startswith("tiny")]
    tiny_recipe = [run for key, run in recipe.items() if key.startswith("tiny")]
    assert len(lite_common) == len(tiny_common) == 3
    for config, runs in (
        ("atto_a_lite", (lite_common, lite_recipe)),
        ("atto_d_tiny", (tiny_common, tiny_recipe)),
    ):
        costs = first[config]["costs"]
        for several in ([run["evaluation"] for run in some] for some in runs):
            mean = {key: statistics.mean(run[key] for run in several) for key in ("AP_d", "AP_m")}
            expected.append(_row(mean, costs))
    lite0 = _stored("lite0_carparts.json")
    run = lite0["runs"]["lite0, ImageNet, 1,000 steps"]
    expected.insert(-2, _row(run["evaluation"], lite0["costs"]))
    assert list(_table("README.md", "What it costs, and how accurate it is").values()) == expected


def test_trainings_and_files_of_the_longer_recipe_are_the_stored_ones():
    page, recipe = "docs/results.md", _stored("recipe_carparts.json")["runs"]
    distilled = _stored("distilled_carparts.json")["runs"]
    expected, files = [], []
    for name in ("lite", "tiny"):
        [first, *_] = [run for key, run in distilled.items() if key.startswith(name)]
        exported = longer = recipe[f"{name}, distilled, recipe, 4,000 steps"]
        others = [one for key, one in longer.items() if key.startswith("evaluation ")]
        if name == "lite":
            others.append(recipe["lite, distilled, recipe, 4,000 steps, seed 2"]["evaluation"])
            newer = _stored("distilled_longer_carparts.json")["runs"]
            exported = newer["lite, recipe, 4,000 steps"]
            others += [one for key, one in exported.items() if key.startswith("evaluation")]
        expected += [_coco(one) for one in (first["evaluation"], longer["evaluation"], *others)]
        exports = exported["exports"]
        columns = [[exported["evaluation"], exports["ONNX Runtime, single precision"]]]
        columns += [[one["evaluation"], one] for one in list(exports.values())[2:]]
        files.append(
            [
                (f"{ap['AP_d']:.1f}, {ap['AP_m']:.1f}", f"{file['bytes'] / 1e6:.1f}")
                for ap, file in columns
            ]
        )
    assert list(_table(page, "The recipe in a longer schedule").values()) == expected
    rows = [[*lite, *tiny] for lite, tiny in zip(*files, strict=True)]
    assert list(_table(page, "The recipe in a longer schedule", 1).values()) == rows


def test_what_a_distilled_backbone_is_worth_to_lite_is_stored():
    runs = [
        run["evaluation"]
        for name in ("distilled_longer_carparts.json", "distilled_carparts.json")
        for key, run in _stored(name)["runs"].items()
        if key.startswith("lite") and "1,000 steps" in key
    ]
    _, *rows = _table("docs/results.md", "A distilled backbone", 1).values()
    assert rows == [_coco(run) for run in runs]


def test_the_backbone_that_has_seen_imagenet_is_the_stored_one():
    stored = _stored("lite0_carparts.json")
    runs = [run["evaluation"] for run in stored["runs"].values()]
    expected = [[*_row(run, stored["costs"])[:2], *_coco(run)] for run in runs]
    assert list(_table("docs/results.md", "A backbone that has seen ImageNet").values()) == expected


def test_what_repeated_pictures_are_worth_is_stored():
    [repeated] = _stored("repeat_factor_carparts.json")["runs"].values()
    runs = _stored("distilled_carparts.json")["runs"]
    plain = [run["evaluation"] for name, run in runs.items() if name.startswith("tiny")]

    def means(evaluation: dict) -> list[str]:
        classes = evaluation["classes"].values()
        rare = [one["AP_m"] for one in classes if one["objects"] <= 20]
        others = [one["AP_m"] for one in classes if one["objects"] >= 29]
        assert (len(rare), len(others)) == (6, 12)
        values = (evaluation["AP_m"], statistics.mean(rare), statistics.mean(others))
        return [f"{value:.1f}" for value in values]

    columns = zip(*map(means, plain), strict=True)
    expected = [means(repeated["evaluation"]), [", ".join(column) for column in columns]]
    assert list(_table("docs/results.md", "Rare classes more often").values()) == expected


def test_what_a_start_from_a_detector_is_worth_is_stored():
    runs = _stored("fine_tuning_voc.json")["runs"].values()
    aps = [[run["evaluation"][name] for name in ("AP_d", "AP_m")] for run in runs]
    expected = [[f"{ap:.1f}" for ap in pair] for pair in aps]
    assert (
        list(_table("docs/results.md", "A start from a detector of the zoo").values()) == expected
    )


def test_what_views_are_worth_is_stored():
    for number, data in enumerate(("carparts", "voc")):
        stored = _stored(f"test_time_augmentation_{data}.json")
        expected = [_coco(run["evaluation"]) for run in stored["runs"].values()]
        found = _table("docs/results.md", "Test-time augmentation", number)
        assert list(found.values()) == expected


def _coco(evaluation: dict) -> list[str]:
    """AP_d, AP_m, and COCO's mask AP, AP by size and AR."""
    mask = evaluation["coco"]["mask"]
    names = ("AP", "AP_small", "AP_medium", "AP_large", "AR100")
    values = [evaluation["AP_d"], evaluation["AP_m"], *(mask[name] for name in names)]
    return [f"{value:.1f}" for value in values]


def _row(evaluation: dict, costs: list[dict]) -> list[str]:
    evaluation = evaluation.get("carparts_val", evaluation)
    parameters = sum(cost["parameters"] for cost in costs) / 1e6
    macs = sum(cost["macs"] for cost in costs) / 1e9
    aps = [f"{evaluation[name]:.1f}" for name in ("AP_d", "AP_m")]
    return [f"{parameters:.2f}", f"{macs:.1f}", *aps]


def test_sizes_of_the_networks_are_the_counted_ones():
    import torch

    from atto_det.complexity import count
    from atto_det.nets import ATTENDNETS, ATTONETS, create_classifier
    from atto_det.reports.table2 import parameters

    rows = {row.split("`")[1]: cells for row, cells in _table("docs/networks.md", "Sizes").items()}
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
    timed = _stored(name)["latencies"]
    return {(one["detector"], one["mode"]): 1000 * one["median_s"] for one in timed}


def test_times_in_the_readme_are_the_stored_ones():
    stored = _milliseconds("benchmark_cpu.json")
    modes = ("eager", "fast", "onnx", "onnx-int8", "openvino-int8")
    expected = [[f"{stored[name, mode]:,.0f}" for name in (R50, LITE, TINY)] for mode in modes]
    assert list(_table("README.md", "How fast it is").values()) == expected


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
    assert list(_table("docs/costs.md", "Latency").values()) == expected

    stored = _milliseconds("benchmark_attendnets_cpu.json")
    names = list(dict.fromkeys(name for name, _ in stored))
    modes = dict.fromkeys(mode for _, mode in stored)
    expected = [[f"{stored[name, mode]:,.0f}" for name in names] for mode in modes]
    assert list(_table("docs/costs.md", "Latency", 1).values()) == expected


def test_costs_beside_a_peer_are_the_stored_ones():
    stored = _stored("peers_cpu.json")
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
    assert list(_table("docs/costs.md", "Latency", 2).values()) == expected


def test_the_profile_in_costs_is_the_stored_one():
    stored = _stored("profile_cpu.json")
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
    assert list(_table("docs/costs.md", "Latency", 3).values()) == expected


def test_backbones_in_8_bits_are_the_stored_ones():
    times = _stored("backbones_8_bits_cpu.json")["times"]
    rows = list(_table("docs/export.md", "The cost in accuracy", 1).values())
    for row, first in zip(rows, range(0, len(times), 4), strict=True):
        ms = [one["median_ms"] for one in times[first : first + 4]]
        single, eight = (ms[0], ms[1]), (ms[2], ms[3])  # by runtime
        expected = []
        for a, b in zip(single, eight, strict=True):
            expected += [f"{a:.0f}, {b:.0f}", f"{a / b:.2f}"]
        assert row == expected


def test_the_memory_of_tiles_is_the_stored_one():
    runs = _stored("tiles_cpu.json")["runs"]
    sides, detections, mib = (
        [f"{run[key]:,.0f}" for run in (runs[0], runs[-1])]
        for key in ("side", "detections", "peak_above_start_mib")
    )
    text = " ".join((pages.REPOSITORY / "docs/export.md").read_text().split())
    assert f"{sides[0]}² to {sides[1]}², with {detections[0]} to {detections[1]} det" in text
    assert f"took {mib[0]} to {mib[1]} MiB" in text


def test_the_network_found_is_the_stored_one():
    folder = "exploration/found_"
    tops: dict[str, list[float]] = {}
    for one in _stored(f"{folder}alone.json")["networks"]:
        tops.setdefault(one["name"], []).append(one["top1"])
    rows = list(_table("docs/exploration.md", "What was run", 2).values())
    for row, found in zip((rows[0], rows[2]), (tops["found"], tops["attonet_c"]), strict=True):
        assert row[0] == f"{sum(found) / len(found):.1f}"
        assert row[1] == ", ".join(f"{top1:.1f}" for top1 in found)
    stored = _stored(f"{folder}latency.json")
    rows = list(_table("docs/exploration.md", "What was run", 3).values())
    for row, size in zip(rows, ("64", "224"), strict=False):
        times = [
            statistics.median(one[size]) for one in stored["classifiers"]["milliseconds"].values()
        ]
        order = [times[k] for k in (3, 0, 1, 2)]  # the file has the network found last
        assert row == [f"{value:.2f}" for value in order]
    latencies = stored["lite at 640x640"]["latencies"]
    for row, mode in zip(rows[2:], ("fast", "onnx", "onnx-int8", "openvino-int8"), strict=True):
        expected = [f"{1000 * one['median_s']:.0f}" for one in latencies if one["mode"] == mode]
        assert [row[0], row[1], row[3]] == expected


def test_the_network_found_in_a_detector_is_the_stored_one():
    stored = _stored("exploration/found_carparts.json")
    first = {run["name"]: run for run in reversed(_stored("comparison_carparts.json")["runs"])}
    attendnet = _stored("attendnet_carparts.json")["trainings"]["attendnet_b"]
    names = ("ONNX Runtime, 8 bits", "OpenVINO, 8 bits", "OpenVINO, bfloat16")
    files = [stored["exports"][name]["evaluation"] for name in names]
    own, *others = (
        _row(run["evaluation"], run["costs"])
        for run in (stored["training"], first["atto_a_lite"], attendnet)
    )
    exported = [["", "", f"{one['AP_d']:.1f}", f"{one['AP_m']:.1f}"] for one in files]
    table = _table("docs/exploration.md", "What was run", 4)
    assert list(table.values()) == [own, *exported, *others]


def test_the_search_for_a_detector_is_the_stored_one():
    stored = _stored("exploration/detectors.json")
    detectors = {one["name"]: one for one in stored["detectors"]}
    expected = []
    for name in stored["front"]:
        one, test = detectors[name], stored["test"][name]["carparts_val"]
        values = (one["milliseconds"], one["ap"], test["AP_d"], test["AP_m"])
        expected.append([f"{one['macs'] / 1e9:.2f}", *(f"{value:.1f}" for value in values)])
    text = (pages.REPOSITORY / "docs/exploration.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?:^\|.*\n)+", text.partition("### A detector\n")[2], re.M)[0]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()[2:]]
    assert [row[-5:] for row in cells] == expected
    again = stored["found, 1,000 steps on all 400 pictures"]["evaluation"]
    assert "AP_d of {AP_d:.1f} and an AP_m of {AP_m:.1f}".format(**again) in " ".join(text.split())


def test_what_rewriting_is_worth_is_stored():
    stored = _stored("profile_cpu.json")
    without, rewritten = (
        {one["name"]: 1000 * one["run_s"] for one in part["profiles"]}
        for part in (stored["before"], stored)
    )
    cells = [f"{without[name]:.0f}, {rewritten[name]:.0f}" for name in rewritten]
    rows = list(_table("docs/costs.md", "Latency", 4).values())
    assert [cell for row in rows for cell in row] == cells


def test_growth_in_costs_is_the_stored_one():
    expected = []
    for curve in _stored("scaling_cpu.json")["curves"]:
        first, last = curve["points"][0], curve["points"][-1]
        times = [sum(point["parts_s"].values()) for point in (first, last)]
        memory = [f"{point['peak_memory_bytes'] / 2**20:,.0f}" for point in (first, last)]
        time = f"{1000 * times[0]:,.0f} to {1000 * times[1]:,.0f} ms"
        if curve["quantity"] == "records":
            time = f"{times[0]:.2f} to {times[1]:.0f} s"
        exponent = f"{curve['exponent']:.2f}".replace("-", "−")
        expected.append([time, exponent, f"{' to '.join(memory)} MiB"])
    rows = _table("docs/costs.md", "Latency", 5).values()
    assert [cells[2:] for cells in rows] == expected


def test_the_time_of_an_evaluation_is_the_stored_one():
    stored = _stored("evaluation_speed_cpu.json")
    ours, columns, *theirs = (part["wall_s"] for part in stored["seconds"].values())
    [row] = [
        cells
        for first, [cells] in _table("docs/results.md", "Reading and scoring").items()
        if f"{stored['images']:,} pictures" in first
    ]
    boxes, masks = theirs
    assert f"{ours:.1f} + {columns:.1f} s" in row
    assert f"{boxes:.1f} + {masks:.1f} s" in row
    assert all(ap["ours"] == ap["pycocotools"] for ap in stored["AP"].values())


def test_the_exploration_is_the_stored_one():
    stored = _stored("exploration/exploration.json")
    expected = [
        [
            *(f"{one['u']:.2f}", f"{one['top1']:.1f}", f"{one['val']:.1f}"),
            *(f"{one['parameters'] / 1e6:.3f}", f"{one['macs'] / 1e6:.2f}"),
        ]
        for one in [stored["prototype"], *stored["finals"]]
    ]
    assert list(_table("docs/exploration.md", "What was run").values()) == expected
    text = " ".join((pages.REPOSITORY / "docs/exploration.md").read_text().split())
    assert ", ".join(f"{one['u']:.1f}" for one in stored["generators"]) + " for G_0" in text
    tau = {name: f"{value:.2f}" for name, value in stored["ranking"]["tau"].items()}
    assert f"{tau['supernet']} for the supernet, {tau['parameters']} for the number of" in text


GENERATORS = ("generator-1", "generator-2", "generator-3")


def test_the_engines_of_the_exploration_are_the_stored_ones():
    stored = _stored("exploration/exploration.json")
    engines = {"generator": [], "tpe": [], "random": []}
    for one in stored["samplers"]:
        assert one["is_over"]
        assert one["asked"] == 256
        engines[one["name"].partition("-")[0]].append(one)
    expected = []
    for searches in engines.values():
        found = [one for one in searches if one["final"] is not None]
        us = [f"{one['final']:.1f}" if one in found else "none" for one in searches]
        means = [statistics.mean(one[key] for one in found) for key in ("final", "val_u")]
        met = ", ".join(str(one["satisfying"]) for one in searches)
        expected.append([met, ", ".join(us), *(f"{mean:.1f}" for mean in means)])
    assert list(_table("docs/exploration.md", "What was run", 1).values()) == expected
    text = " ".join((pages.REPOSITORY / "docs/exploration.md").read_text().split())
    for name in ("generator", "tpe"):
        tops = [one["val_top1"] for one in engines[name]]
        assert f"{min(tops):.1f} to {max(tops):.1f} % by" in text
        assert f"{statistics.mean(tops):.1f})" in text
    generator, tpe, random = (float(row[2]) for row in expected)
    assert f"{generator - random:.1f} points of U below the generator's mean" in text
    assert f"{generator - tpe:.1f} points of U in the mean" in text
    others = stored["other_searches"]
    last = [own["generators"][-1]["u"] for own in (stored, *map(others.get, GENERATORS[1:]))]
    assert "U(G_8) is {:.1f}, {:.1f} and {:.1f}".format(*last) in text
