"""Comparisons of invented runs: what is refused, the tables, the front, the plot."""

import copy
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atto_det.errors import UserError
from atto_det.reports import comparison
from atto_det.reports.comparison_plot import pareto_front
from atto_det.reports.comparison_report import remarks, tables, write_comparison

WORK = {"input": "64x96", "proposals": 30, "detections": 12}
CONFIG = {
    "DATASETS": {"TEST": ["photos_val"]},
    "INPUT": {"MIN_SIZE_TEST": 64},
    "MODEL": {"WEIGHTS": ""},
    "SOLVER": {"MAX_ITER": 40},
    "TEST": {},
}
PROTOCOL = {"split": "photos_val", "images": 7, "threshold": 0.5, "style": "area"}


def run(name: str, ap_d: float, ap_m: float, macs: int, *, seed: int = 1, **config) -> dict:
    protocol = PROTOCOL | {"images_without_detections": round(ap_d)}
    return {
        "name": name,
        "seed": seed,
        "evaluation": {"AP_d": ap_d, "AP_m": ap_m, "protocol": protocol},
        "run": {"command": ["train", "--config-file", f"{name}.yaml"], "seed": seed},
        "config": yaml.safe_dump(CONFIG | config),
        "costs": [
            {"name": part, "macs": macs // 2, "parameters": 10**6, "activations": 1}
            for part in ("bottom_up", "fpn")
        ],
    }


def latency(**seconds: dict[str, float]) -> dict:
    ones = [
        {"detector": name, "mode": mode, "batch": 1, "median_s": value} | WORK
        for name, modes in seconds.items()
        for mode, value in modes.items()
    ]
    remarks = ["On A CPU, 2 threads of 4 cores.", "More."]
    return {"remarks": remarks, "date": "2026-01-02T03:04:05", "latencies": ones}


@pytest.fixture
def content(tmp_path) -> dict:
    runs = [
        run("big", 30, 24, 40 * 10**9),
        run("lite", 20, 16, 4 * 10**9),
        run("lite", 22, 19, 4 * 10**9, seed=2),
        run("lite", 21, 17.5, 4 * 10**9, seed=3),
        run("wide", 24.5, 20, 6 * 10**9),
        run("plain", 21, 14, 8 * 10**9),
        run("same", 21.5, 20.5, 4 * 10**9),
    ]
    result = comparison.build(runs, ["lite", "wide", "plain", "same"], WORK)
    times = {"big": {"eager": 2.0, "fast": 1.0}, "lite": {"eager": 0.5, "fast": 0.2}}
    path = tmp_path / "latency.json"
    path.write_text(json.dumps(latency(**times, wide={"eager": 0.6})))
    comparison.add_latency(result, path)
    return result


def test_models_are_those_of_one_config(content):
    big, lite, *_ = comparison.models(content)
    assert (big.seeds, big.ap_m, big.spread("ap_m")) == ((1,), (24,), None)
    assert (lite.seeds, lite.ap_d, lite.mean("ap_d"), lite.spread("ap_m")) == (
        *((1, 2, 3), (20, 22, 21), 21, 3),
    )
    assert (lite.parameters, lite.macs) == (2 * 10**6, 4 * 10**9)
    assert lite.seconds == {"eager": 0.5, "fast": 0.2}


def test_tables(content):
    compared, ablation = tables(content)
    assert compared.title == "Beside big"
    assert [name.replace("\n", " ") for name in compared.header] == [
        *("model", "AP_d", "AP_m", "params (M)", "times fewer", "MACs (G)", "times fewer"),
        *("eager (ms)", "times faster", "fast (ms)", "times faster", "big eager by fast"),
    ]
    big = ("big", "30.0", "24.0", "2.00", "1.00×", "40.0", "1.00×", "2,000", "1.00×", "1,000")
    lite = ("lite (3 seeds)", "21.0", "17.5", "2.00", "1.00×", "4.0", "10.00×", "500", "4.00×")
    assert compared.rows == ((*big, "1.00×", "2.00×"), (*lite, "200", "5.00×", "10.00×"))
    assert ablation.rows == (
        ("lite (3 seeds)", "21.0", "± 2.0", "17.5", "± 3.0", "2.00", "4.0", "500", "200"),
        ("wide", "+3.5", "yes", "+2.5", "no", "+0.00", "+2.0", "+100", "–"),
        ("plain", "+0.0", "no", "-3.5", "yes", "+0.00", "+4.0", "–", "–"),
        ("same", "+0.5", "no", "+3.0", "no", "+0.00", "+0.0", "–", "–"),
    )


def test_remarks(content):
    text = "\n".join(remarks(content))
    assert "photos_val (7 pictures, IoU 0.5, area)" in text
    assert (
        "lite, AP_d and AP_m by seed: seed 1: 20.0, 16.0; seed 2: 22.0, 19.0; seed 3: 21.0, 17.5."
        in text
    )
    assert "3.0 points of AP_m" in text
    assert "less accurate (AP_m): plain; within noise (AP_m): wide, same." in text
    assert "more accurate" not in text
    assert "Latency, medians, 2026-01-02: On A CPU, 2 threads of 4 cores.\n" in text
    assert "Not timed: plain, same." in text


@pytest.mark.parametrize("seeds", [1, 2])
def test_with_few_seeds_nothing_is_beyond_noise(seeds):
    runs = [run("lite", 20, 16, 10, seed=1 + seed) for seed in range(seeds)]
    runs.append(run("wide", 60, 50, 10))
    content = comparison.build(runs, ["lite", "wide"], WORK)
    assert tables(content)[1].rows[1][:5] == ("wide", "+40.0", "–", "+34.0", "–")
    assert f"lite has {seeds} of the 3 seeds that it takes" in "\n".join(remarks(content))


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (run("lite", 1, 1, 4), "lite with seed 1 was given twice"),
        (run("lite", 1, 1, 8, seed=2), "two models have the name lite"),
        (
            run("wide", 1, 1, 4, SOLVER={"MAX_ITER": 50}),
            r"lite has SOLVER\.MAX_ITER 40, wide has 50: only runs that agree",
        ),
        (run("wide", 1, 1, 4, MODEL={"WEIGHTS": "a.pth"}), r"lite has MODEL\.WEIGHTS , wide has a"),
        (run("wide", 1, 1, 4, INPUT={}), r"INPUT\.MIN_SIZE_TEST 64, wide has None"),
    ],
)
def test_what_cannot_be_compared(second, expected):
    with pytest.raises(UserError, match=expected):
        comparison.build([run("lite", 1, 1, 4), second], [], WORK)


def test_another_protocol_cannot_be_compared():
    other = run("wide", 1, 1, 4)
    other["evaluation"]["protocol"]["threshold"] = 0.75
    with pytest.raises(UserError, match=r"lite has protocol\.threshold 0\.5, wide has 0\.75"):
        comparison.build([run("lite", 1, 1, 4), other], [], WORK)


def test_trainings_of_unlike_schedules():
    def reached(name, ap_m, coco, **config):
        one = run(name, ap_m + 2, ap_m, 4 * 10**9, **config) | {"config_name": "lite"}
        one["evaluation"]["coco"] = {"mask": coco}
        return one

    short = {"AP": 20.0, "AP_small": None, "AP_medium": 12.0, "AP_large": 30.0, "AR100": 25.0}
    runs = [
        reached("lite", 40, {"AP": 18.04, "AP50": 40.0}),
        reached("lite_2", 50, short, seed=2, SOLVER={"MAX_ITER": 4000}, SEED=2),
        reached("lite_3", 51, short, seed=3, SOLVER={"MAX_ITER": 4000}, SEED=3),
        reached("wide", 52, short, INPUT={"MIN_SIZE_TEST": 96}),
    ]
    content = comparison.build(copy.deepcopy(runs), [], WORK, unlike=True)
    content["latency"] = latency(lite={"fast": 0.25})
    [grid] = tables(content)
    assert [name.replace("\n", "") for name in grid.header] == [
        *("training", "steps", "AP_d", "AP_m", "AP@[.5:.95]", "medium", "large", "AR100"),
        *("params(M)", "MACs(G)", "fast(ms)"),
    ]
    cost = ("2.00", "4.0", "250")
    assert grid.rows == (
        ("lite", "40", "42.0", "40.0", "18.0", "–", "–", "–", *cost),
        ("lite_2 (2 seeds)", "4,000", "52.5", "50.5", "20.0", "12.0", "30.0", "25.0", *cost),
        ("wide", "40", "54.0", "52.0", "20.0", "12.0", "30.0", "25.0", *cost),
    )
    text = "\n".join(remarks(content))
    assert "lite_2 differs from lite in SOLVER.MAX_ITER 4000." in text
    assert "wide differs from lite in INPUT.MIN_SIZE_TEST 96." in text
    runs[1]["evaluation"]["protocol"]["split"] = "other_val"
    with pytest.raises(UserError, match=r"lite has protocol\.split photos_val, lite_2 has other"):
        comparison.build(runs, [], WORK, unlike=True)


def test_latencies_of_other_work_do_not_count(content, tmp_path):
    path = tmp_path / "other.json"
    for change in ({"input": "800x1088"}, {"proposals": 31}, {"batch": 2}, {"detector": "lite2"}):
        other = latency(lite={"fast": 1.0})
        other["latencies"][0] |= change
        path.write_text(json.dumps(other))
        with pytest.raises(UserError, match="times none of big, lite, wide, plain, same at 64x96"):
            comparison.add_latency(copy.deepcopy(content), path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"latencies": [{}]}', '{"latencies": 3}'])
def test_other_files_are_a_sentence(content, tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"x\.json is not "):
        comparison.load(path)
    with pytest.raises(UserError, match=r"x\.json is not "):
        comparison.add_latency(content, path)


def folder(path: Path, one: dict, step: int = 40) -> Path:
    """What a training leaves."""
    (path / "evaluation").mkdir(parents=True)
    (path / "run.json").write_text(json.dumps(one["run"]))
    (path / "config.yaml").write_text(one["config"])
    evaluation = path / "evaluation" / f"photos_val_{step:07d}.json"
    evaluation.write_text(json.dumps(one["evaluation"]))
    return path


def test_reading_a_run(tmp_path):
    one = run("lite", 3, 4, 6, seed=5)
    asked = []

    def cost_of(text, where):
        asked.append((text, where))
        return one["costs"]

    path = folder(tmp_path / "out", one)
    assert comparison.read_run(path, cost_of) == one
    assert asked == [(one["config"], f"the config in {path}")]
    assert comparison.read_run(path, cost_of, by_folder=True) == one | {
        "name": "out",
        "config_name": "lite",
    }


def test_runs_that_cannot_be_read(tmp_path):
    def read(path):
        return comparison.read_run(path, lambda text, where: [])

    one = run("lite", 3, 4, 6)
    with pytest.raises(UserError, match=r"run\.json cannot be read: No such file"):
        read(tmp_path)
    with pytest.raises(UserError, match="no evaluation at its end, step 40, on photos_val"):
        read(folder(tmp_path / "unfinished", one, step=20))
    boxes = one | {"evaluation": one["evaluation"] | {"AP_m": None}}
    with pytest.raises(
        UserError, match=r"photos_val_0000040\.json has no AP_m .* leave .*boxes out"
    ):
        read(folder(tmp_path / "boxes", boxes))
    for key, value in (("command", ["train"]), ("command", ["--config-file"]), ("seed", None)):
        path = folder(tmp_path / f"{key}{len(list(tmp_path.iterdir()))}", one)
        record = {k: v for k, v in (one["run"] | {key: value}).items() if v is not None}
        (path / "run.json").write_text(json.dumps(record))
        with pytest.raises(UserError, match="is not a run of a --config-file with a seed"):
            read(path)
    path = folder(tmp_path / "damaged", one)
    for text in ("a: [", "just text"):
        (path / "config.yaml").write_text(text)
        with pytest.raises(UserError, match=r"damaged"):
            read(path)


def test_the_json_holds_everything(content, tmp_path):
    comparison.save(tmp_path / "c.json", content)
    again = comparison.load(tmp_path / "c.json")
    assert tables(again) == tables(content)
    assert remarks(again) == remarks(content)


def test_files(content, tmp_path):
    files = write_comparison(content, tmp_path / "docs/pareto.png")
    assert [path.name for path in files] == ["pareto.png", "pareto.md"]
    with Image.open(files[0]) as picture:
        assert picture.width > picture.height
        assert len(picture.convert("RGB").resize((200, 80)).getcolors(16000)) > 20
    text = files[1].read_text()
    assert text.startswith("# Accuracy and cost on photos_val\n")
    assert "| lite (3 seeds) | 21.0 |" in text
    content["latency"] = None  # the second panel says so
    write_comparison(content, tmp_path / "pareto.svg")
    assert "big eager" not in (tmp_path / "pareto.md").read_text()


def test_front_by_hand():
    points = [(4, 9), (1, 5), (2, 4), (2, 7), (3, 7), (4, 9), (9, 9)]
    assert pareto_front(points) == [1, 3, 0, 5]
    assert pareto_front([]) == []


number = st.integers(0, 6)


@given(st.lists(st.tuples(number, number), max_size=12))
def test_the_front_is_what_nothing_beats(points):
    def beaten(point):
        return any(x <= point[0] and y >= point[1] and (x, y) != point for x, y in points)

    expected = {index for index, point in enumerate(points) if not beaten(point)}
    front = pareto_front(points)
    assert set(front) == expected
    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)
