"""Accuracies in the pages are those of the stored results."""

import re
import statistics

import pages
from figures import accuracy_cells, coco_cells, read_result, read_table


def test_accuracy_and_costs_in_the_readme_are_the_stored_ones():
    runs = read_result("comparison_carparts.json")["runs"]
    first = {run["name"]: run for run in reversed(runs)}
    expected = []
    for name in ("r50_fpn", "r50_fpn_started_as_attonet", "atto_a_paper", "atto_a_lite"):
        expected.append(accuracy_cells(first[name]["evaluation"], first[name]["costs"]))
    longer = read_result("longer_carparts.json")["runs"]["lite, 4,000 steps"]["evaluation"]
    expected.append(accuracy_cells(longer, first["atto_a_lite"]["costs"]))
    attendnet = read_result("attendnet_carparts.json")["trainings"]["attendnet_b"]
    expected.append(accuracy_cells(attendnet["evaluation"], attendnet["costs"]))
    expected.append(
        accuracy_cells(first["atto_d_tiny"]["evaluation"], first["atto_d_tiny"]["costs"])
    )
    distilled = read_result("distilled_carparts.json")["runs"]
    recipe = read_result("recipe_carparts.json")["runs"]
    lite = read_result("distilled_longer_carparts.json")["runs"]
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
            expected.append(accuracy_cells(mean, costs))
    lite0 = read_result("lite0_carparts.json")
    run = lite0["runs"]["lite0, ImageNet, 1,000 steps"]
    expected.insert(-2, accuracy_cells(run["evaluation"], lite0["costs"]))
    assert (
        list(read_table("README.md", "What it costs, and how accurate it is").values()) == expected
    )


def test_trainings_and_files_of_the_longer_recipe_are_the_stored_ones():
    page, recipe = "docs/results.md", read_result("recipe_carparts.json")["runs"]
    distilled = read_result("distilled_carparts.json")["runs"]
    expected, files = [], []
    for name in ("lite", "tiny"):
        [first, *_] = [run for key, run in distilled.items() if key.startswith(name)]
        exported = longer = recipe[f"{name}, distilled, recipe, 4,000 steps"]
        others = [one for key, one in longer.items() if key.startswith("evaluation ")]
        if name == "lite":
            others.append(recipe["lite, distilled, recipe, 4,000 steps, seed 2"]["evaluation"])
            newer = read_result("distilled_longer_carparts.json")["runs"]
            exported = newer["lite, recipe, 4,000 steps"]
            others += [one for key, one in exported.items() if key.startswith("evaluation")]
        expected += [
            coco_cells(one) for one in (first["evaluation"], longer["evaluation"], *others)
        ]
        exports = exported["exports"]
        columns = [[exported["evaluation"], exports["ONNX Runtime, single precision"]]]
        columns += [[one["evaluation"], one] for one in list(exports.values())[2:]]
        files.append(
            [
                (f"{ap['AP_d']:.1f}, {ap['AP_m']:.1f}", f"{file['bytes'] / 1e6:.1f}")
                for ap, file in columns
            ]
        )
    assert list(read_table(page, "The recipe in a longer schedule").values()) == expected
    rows = [[*lite, *tiny] for lite, tiny in zip(*files, strict=True)]
    assert list(read_table(page, "The recipe in a longer schedule", 1).values()) == rows


def test_what_a_distilled_backbone_is_worth_to_lite_is_stored():
    runs = [
        run["evaluation"]
        for name in ("distilled_longer_carparts.json", "distilled_carparts.json")
        for key, run in read_result(name)["runs"].items()
        if key.startswith("lite") and "1,000 steps" in key
    ]
    _, *rows = read_table("docs/results.md", "A distilled backbone", 1).values()
    assert rows == [coco_cells(run) for run in runs]


def test_the_backbone_that_has_seen_imagenet_is_the_stored_one():
    stored = read_result("lite0_carparts.json")
    runs = [run["evaluation"] for run in stored["runs"].values()]
    expected = [[*accuracy_cells(run, stored["costs"])[:2], *coco_cells(run)] for run in runs]
    assert (
        list(read_table("docs/results.md", "A backbone that has seen ImageNet").values())
        == expected
    )


def test_what_repeated_pictures_are_worth_is_stored():
    [repeated] = read_result("repeat_factor_carparts.json")["runs"].values()
    runs = read_result("distilled_carparts.json")["runs"]
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
    assert list(read_table("docs/results.md", "Rare classes more often").values()) == expected


def test_what_a_start_from_a_detector_is_worth_is_stored():
    runs = read_result("fine_tuning_voc.json")["runs"].values()
    aps = [[run["evaluation"][name] for name in ("AP_d", "AP_m")] for run in runs]
    expected = [[f"{ap:.1f}" for ap in pair] for pair in aps]
    assert (
        list(read_table("docs/results.md", "A start from a detector of the zoo").values())
        == expected
    )


def test_what_views_are_worth_is_stored():
    for number, data in enumerate(("carparts", "voc")):
        stored = read_result(f"test_time_augmentation_{data}.json")
        expected = [coco_cells(run["evaluation"]) for run in stored["runs"].values()]
        found = read_table("docs/results.md", "Test-time augmentation", number)
        assert list(found.values()) == expected


def test_the_network_found_is_the_stored_one():
    folder = "exploration/found_"
    tops: dict[str, list[float]] = {}
    for one in read_result(f"{folder}alone.json")["networks"]:
        tops.setdefault(one["name"], []).append(one["top1"])
    rows = list(read_table("docs/exploration.md", "What was run", 2).values())
    for row, found in zip((rows[0], rows[2]), (tops["found"], tops["attonet_c"]), strict=True):
        assert row[0] == f"{sum(found) / len(found):.1f}"
        assert row[1] == ", ".join(f"{top1:.1f}" for top1 in found)
    stored = read_result(f"{folder}latency.json")
    rows = list(read_table("docs/exploration.md", "What was run", 3).values())
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
    stored = read_result("exploration/found_carparts.json")
    first = {run["name"]: run for run in reversed(read_result("comparison_carparts.json")["runs"])}
    attendnet = read_result("attendnet_carparts.json")["trainings"]["attendnet_b"]
    names = ("ONNX Runtime, 8 bits", "OpenVINO, 8 bits", "OpenVINO, bfloat16")
    files = [stored["exports"][name]["evaluation"] for name in names]
    own, *others = (
        accuracy_cells(run["evaluation"], run["costs"])
        for run in (stored["training"], first["atto_a_lite"], attendnet)
    )
    exported = [["", "", f"{one['AP_d']:.1f}", f"{one['AP_m']:.1f}"] for one in files]
    table = read_table("docs/exploration.md", "What was run", 4)
    assert list(table.values()) == [own, *exported, *others]


def test_the_search_for_a_detector_is_the_stored_one():
    stored = read_result("exploration/detectors.json")
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


def test_the_exploration_is_the_stored_one():
    stored = read_result("exploration/exploration.json")
    expected = [
        [
            *(f"{one['u']:.2f}", f"{one['top1']:.1f}", f"{one['val']:.1f}"),
            *(f"{one['parameters'] / 1e6:.3f}", f"{one['macs'] / 1e6:.2f}"),
        ]
        for one in [stored["prototype"], *stored["finals"]]
    ]
    assert list(read_table("docs/exploration.md", "What was run").values()) == expected
    text = " ".join((pages.REPOSITORY / "docs/exploration.md").read_text().split())
    assert ", ".join(f"{one['u']:.1f}" for one in stored["generators"]) + " for G_0" in text
    tau = {name: f"{value:.2f}" for name, value in stored["ranking"]["tau"].items()}
    assert f"{tau['supernet']} for the supernet, {tau['parameters']} for the number of" in text


GENERATORS = ("generator-1", "generator-2", "generator-3")


def test_the_engines_of_the_exploration_are_the_stored_ones():
    stored = read_result("exploration/exploration.json")
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
    assert list(read_table("docs/exploration.md", "What was run", 1).values()) == expected
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
