"""`atto-det explore` for a detector, on the mini VOC."""

import json
import re

import pytest
import yaml

pytest.importorskip("detectron2", reason="Detectron2 is not installed")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
pytest.importorskip("optuna", reason="Optuna is not installed")

from atto_det.cli.explore import main
from atto_det.detectron2 import load_config
from atto_det.detectron2.complexity import detector_cost
from atto_det.detectron2.model import build_model
from atto_det.exploration.detector_settings import (
    SAMPLERS,
    DetectorRequirements,
    read_detector_settings,
)
from atto_det.exploration.detectors import DetectorExploration
from atto_det.reports.detector_search import front

SPACE = {"MODEL.FPN.OUT_CHANNELS": [16, 24], "INPUT.MIN_SIZE_TEST": [64, 96]}
CONFIG = {
    "seed": 5,
    "options": {"SOLVER.MAX_ITER": 2, "DATASETS.HOLD_OUT": 3, "MODEL.DEVICE": "cpu"},
    "requirements": {"macs": 25_000_000},  # nothing with a shorter side of 96 pixels
    "search": {"sampler": "random", "trials": 2},
    "space": SPACE,
}


@pytest.fixture
def explore(data_root, repository, tmp_path, short_turns):
    """A function that runs the command on a config with changes."""

    def run(*flags: str, **changes) -> int:
        content = {"detector": str(repository / "tests/tiny_mini_voc.yaml")} | CONFIG | changes
        content = {key: value for key, value in content.items() if value is not None}
        path = tmp_path / "search.yaml"
        path.write_text(yaml.safe_dump(content))
        return main(["--config", str(path), "--output", str(tmp_path / "out"), *flags])

    return run


@pytest.mark.slow
def test_from_keys_to_a_detector(explore, tmp_path, capsys):
    # No time: a call does one step of a training, and the next continues with it.
    assert explore("--hours", "1e-9", "--seed", "4") == 0
    assert "time is up" in capsys.readouterr().out
    assert explore("--seed", "4") == 0
    out = tmp_path / "out/random-4"
    content = json.loads((out / "detectors.json").read_text())
    # The seed draws one detector of each size; the larger one is counted, but not trained.
    larger, trained = sorted(content["detectors"], key=lambda one: -one["macs"])
    assert larger["macs"] > 25e6
    assert (larger["satisfies"], larger["ap"], larger["milliseconds"]) == (False, None, None)
    assert not (tmp_path / "out/detectors" / larger["name"]).exists()
    folder = tmp_path / "out/detectors" / trained["name"]
    [evaluation] = folder.glob("evaluation/*_held_out_0000002.json")
    assert trained["ap"] == json.loads(evaluation.read_text())["AP_m"]
    cfg = load_config(folder / "config.yaml", [])
    assert cfg.SEED == 5
    # The mini VOC's pictures have 96×128 pixels, and INPUT.MIN_SIZE_TEST is 64.
    costs = detector_cost(build_model(cfg), 64, 85, proposals=10, detections=5)
    assert trained["macs"] == sum(cost.macs for cost in costs)
    assert trained["milliseconds"] > 0
    # The test set is used for those on the front alone.
    assert list(content["test"]) == content["front"] == [content["found"]] == [trained["name"]]
    found = load_config(out / "found.yaml", [])
    assert str(found.MODEL.FPN.OUT_CHANNELS) == trained["point"]["MODEL.FPN.OUT_CHANNELS"]
    assert found.OUTPUT_DIR == "output/found"
    page = (out / "detectors.html").read_text()
    assert not re.findall(r"(?:src|href)=[\"']?(?!data:)", page)  # nothing from elsewhere
    assert trained["name"] in page
    assert (out / "detectors.png").stat().st_size > 10_000
    # Another search reads what is trained, beside which its test is stored by now.
    before = (folder / "model_final.pth").stat().st_mtime_ns
    assert explore("--seed", "5") == 0
    assert (folder / "model_final.pth").stat().st_mtime_ns == before
    others = json.loads((tmp_path / "out/random-5/detectors.json").read_text())["detectors"]
    assert trained["ap"] in [one["ap"] for one in others if one["name"] == trained["name"]]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_detector_is_asked_for_twice(explore, monkeypatch, tmp_path, sampler):
    judged = []
    monkeypatch.setattr(
        DetectorExploration, "_train", lambda self, point: judged.append(point) or 1
    )
    for rest in ("time_together", "look_at_test"):
        monkeypatch.setattr(DetectorExploration, rest, lambda self: None)
    search = {"sampler": sampler, "trials": 24, "startup": 2}
    assert explore(search=search, requirements={}) == 0
    sizes = sorted(tuple(point[key] for key in SPACE) for point in judged)
    assert sizes == [("16", "64"), ("16", "96"), ("24", "64"), ("24", "96")]
    content = json.loads((tmp_path / f"out/{sampler}-1/detectors.json").read_text())
    assert len(content["detectors"]) == 4


def test_the_front():
    def one(name, ap, milliseconds, satisfies=True):
        return {"name": name, "ap": ap, "milliseconds": milliseconds, "satisfies": satisfies}

    detectors = [
        one("slow", 50.0, 30.0),
        one("beaten", 40.0, 20.0),
        one("quick", 40.0, 10.0),
        one("forbidden", 90.0, 1.0, satisfies=False),
        one("untrained", None, None),
    ]
    assert [each["name"] for each in front(detectors)] == ["quick", "slow"]


def test_requirements_as_shares():
    wanted = DetectorRequirements(ap=40, macs=100)
    assert wanted.excess({"ap": 30.0, "macs": 150}) == {"ap": 0.25, "macs": 0.5}
    assert wanted.excess({"macs": 100, "parameters": 7}) == {"macs": 0.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"requirements": {"macs": 10}}, "no detector of the space meets the requirements"),
        (
            {"requirements": {"milliseconds": 0.001}},
            "milliseconds, and at most 0.001 are asked for",
        ),
        ({"options": {"MODEL.DEVICE": "cpu"}}, "DATASETS.HOLD_OUT is 0"),
        ({"space": {"MODEL.COLOUR": [1, 2]}}, "COLOUR"),
        ({"space": {"MODEL.FPN.OUT_CHANNELS": [16, -1]}}, "OUT_CHANNELS"),
        ({"space": {"MODEL.FPN.OUT_CHANNELS": [16, 16]}}, "a list of different values"),
        ({"space": {"MODEL.FPN.OUT_CHANNELS": [16]}}, "space has only one detector"),
        ({"space": {"SOLVER.MAX_ITER": [1, 2]}}, "both in options and in space"),
        ({"search": {"sampler": "generator"}}, "choose one of random, tpe, nsga2"),
        ({"requirements": {"colour": 1}}, "colour"),
        ({"requirements": {"macs": "few"}}, "requirements.macs must be a number above 0"),
        ({"options": None}, "lacks options"),
        ({"seed": "one"}, "seed is 'one'"),
        ({"colour": 1}, "unknown key 'colour'"),
    ],
)
def test_mistakes_are_one_sentence(explore, capsys, changes, message):
    assert explore(**changes) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_settings_that_come_with_the_package():
    settings = read_detector_settings("explore/carparts_detector.yaml")
    assert settings.detector == "carparts/atto_a_lite.yaml"
    assert settings.requirements.macs == 6e9
