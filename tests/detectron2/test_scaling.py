"""Curves change the one quantity that they name, and measure real work."""

import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from atto_det.complexity.benchmarking import BenchmarkCase
from atto_det.config import CONFIGS
from atto_det.detectron2 import benchmark, scaling
from atto_det.errors import UserError
from atto_det.export.benchmark import contestant

CASE = BenchmarkCase(str(CONFIGS / "atto_maskrcnn_tiny_voc.yaml"), "fast", 64, 64, 30, 5)


@pytest.mark.parametrize(
    ("axis", "changes"),
    [
        ("pixels", [{"height": 64, "width": 64}, {"height": 96, "width": 96}]),
        ("batch", [{"batch": 1}, {"batch": 2}]),
        ("classes", [{"classes": 1, "proposals": 1000}, {"classes": 3, "proposals": 1000}]),
        (
            "detections",
            [{"detections": 1, "proposals": 1000}, {"detections": 7, "proposals": 1000}],
        ),
    ],
)
def test_one_quantity_changes(axis, changes, monkeypatch, short_turns):
    cases, run = [], benchmark.run
    monkeypatch.setattr(benchmark, "run", lambda c, **more: cases.extend(c) or run(c, **more))
    values = [64**2, 96**2] if axis == "pixels" else [next(iter(c.values())) for c in changes]
    said = []
    curve = scaling.curve(axis, CASE, repeats=1, memory=False, values=values, say=said.append)
    assert [point.value for point in curve.points] == values
    assert all(point.seconds["mask head"] > 0 for point in curve.points)
    assert [line for line in said if line.startswith(axis)] == [f"{axis}: {v:,}" for v in values]
    assert curve.work.startswith("atto_maskrcnn_tiny_voc fast, ")
    for case, change in zip(cases, changes, strict=True):
        assert {key: getattr(case, key) for key in change} == change
        others = {"height", "width", "batch", "classes", "detections", "proposals"} - set(change)
        assert all(getattr(case, key) == getattr(CASE, key) for key in others)


def test_threads_are_as_before_after_their_curve(short_turns):
    before = torch.get_num_threads()
    scaling.curve("threads", CASE, repeats=1, memory=False, values=[before + 1, 1], say=list)
    assert torch.get_num_threads() == before


def test_one_class_of_the_shipped_model_gives_all_detections(short_turns):
    case = BenchmarkCase(CASE.detector, "fast", 64, 64)
    [point] = scaling.curve("classes", case, repeats=1, memory=False, values=[1], say=list).points
    assert point.seconds["mask head"] > 0


def test_a_reason_to_leave_a_case_out_is_said():
    said = []
    case = BenchmarkCase(CASE.detector, "onnx", 64, 64, 30, 5)
    others = {"onnx": contestant}
    with pytest.raises(UserError, match="none of the modes works here"):
        scaling.curve("batch", case, memory=False, values=[2], others=others, say=said.append)
    assert any("is timed for one picture" in line for line in said)


def test_data_sets_are_read_started_with_and_scored():
    curve = scaling.curve("records", CASE, values=[4, 8], say=lambda text: None)
    for point in curve.points:
        assert set(point.seconds) >= {"reading", "start of training, with reading", "evaluation"}
        assert point.memory > 0


def test_half_of_the_generated_detections_are_objects():
    truth, found = scaling._scored(50)
    metrics = scaling.evaluate(
        truth,
        found,
        [f"class {k}" for k in range(scaling.CLASSES)],
        split="generated",
        score_floor=0.0,
        detections_per_image=scaling.FOUND,
        objects_left_out=0,
        code_version="",
    )
    assert 20 < metrics["AP_m"] < 95
