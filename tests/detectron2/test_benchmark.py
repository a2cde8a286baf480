"""Contestants do the work that is stated, whatever the weights."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is not installed")


from atto_det.complexity.regions import spread_boxes
from atto_det.detectron2 import benchmark
from atto_det.detectron2.benchmark import BenchmarkCase
from atto_det.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TINY = str(CONFIGS / "atto_maskrcnn_tiny_voc.yaml")
PARTS = ["preprocessing", "bottom_up", "fpn", "rpn", "box pooling", "box head"]
PARTS += ["post-processing", "mask pooling", "mask head", "mask pasting"]


def case(detector: str = TINY, mode: str = "eager", **changes) -> BenchmarkCase:
    work = {"height": 64, "width": 96, "proposals": 30, "detections": 12} | changes
    return BenchmarkCase(detector, mode, **work)


@pytest.mark.parametrize("mode", ["eager", "fast"])
@pytest.mark.parametrize("batch", [1, 2])
def test_counts_parts_and_size_are_as_stated(mode, batch):
    detector = benchmark._detector(case(mode=mode, batch=batch), None)
    seen = {}
    heads = detector.model.roi_heads
    for name in ("box_head", "mask_head"):
        getattr(heads, name).register_forward_pre_hook(
            lambda module, args, name=name: seen.update({name: len(args[0])})
        )
    marks = []
    found = detector.run(marks.append)
    assert seen == {"box_head": 30 * batch, "mask_head": 12 * batch}
    assert marks == PARTS
    assert [one["instances"].pred_masks.shape for one in found] == [(12, 64, 96)] * batch


def test_a_detector_without_fpn_runs_its_parts_in_the_same_order():
    detector = benchmark._detector(case("r50-c4", proposals=8, detections=4), None)
    for _ in range(2):
        marks = []
        detector.run(marks.append)
        assert marks == ["preprocessing", "backbone", *PARTS[3:]]


def test_the_model_s_own_limits_count_where_none_is_given():
    detector = benchmark._detector(case(proposals=None, detections=None), None)
    assert detector.limits == (100, 100)


@pytest.mark.parametrize(("proposals", "detections"), [(100, 100), (1000, 100), (300, 300)])
def test_detections_cover_all_sizes(proposals, detections):
    work = {"proposals": proposals, "detections": detections, "height": 96, "width": 128}
    [found] = benchmark._detector(case(**work), None).run(lambda name: None)
    areas = found["instances"].pred_boxes.area() / 96**2
    assert len(areas) == detections
    assert areas.min() < 0.01
    assert areas.max() > 0.4


def test_boxes_lie_within_the_picture():
    boxes = spread_boxes(1000, 200, 300)
    assert torch.equal(boxes, spread_boxes(1000, 200, 300))
    assert torch.equal(boxes[:100], spread_boxes(100, 200, 300))
    assert boxes.min() >= 0
    assert (boxes[:, 2:] <= torch.tensor([300, 200])).all()
    sides = boxes[:, 2:] - boxes[:, :2]
    assert sides.min() > 1
    sizes = sides.prod(dim=1).sqrt() / 200
    assert sizes.min() < 0.05
    assert 0.16 < sizes.median() < 0.21  # 1/5 before what lies outside is cut off


def test_run_times_all(short_turns):
    cases = [case(), case(mode="fast")]
    slow, fast = benchmark.run(cases, repeats=2, threads=1, memory=False)
    assert (slow.mode, fast.mode) == ("eager", "fast")
    assert (slow.proposals, slow.detections, slow.size) == (30, 12, "64x96")
    assert list(slow.timing.parts) == [*PARTS, "other"]
    for one in (slow, fast):
        assert sum(one.timing.laps[0].values()) == pytest.approx(one.timing.seconds[0])
        assert one.memory is None


@pytest.mark.slow
def test_peak_memory_grows_with_the_picture():
    cases = [case(height=size, width=size) for size in (64, 640)]
    small, large = benchmark.run(cases, repeats=1, say=[].append)
    assert 5 < small.memory / 2**20 < large.memory / 2**20 < 1000


def test_a_mode_that_does_not_work_is_one_line(short_turns, monkeypatch):
    def fail(function, **options):
        def run(*args):
            raise RuntimeError("no compiler\nmore of it")

        return run

    monkeypatch.setattr(torch, "compile", fail)
    lines = []
    cases = [case(mode="compile"), case()]
    [kept] = benchmark.run(cases, repeats=1, memory=False, say=lines.append)
    assert kept.mode == "eager"
    expected = "atto_maskrcnn_tiny_voc 64x96 compile: torch.compile fails (no compiler)"
    assert f"left out {expected}" in lines
    with pytest.raises(UserError, match="none of the modes works here"):
        benchmark.run(cases[:1], repeats=1, say=lines.append)


@pytest.mark.slow
def test_compiled():
    [found] = benchmark.run([case(mode="compile")], repeats=1, memory=False)
    assert list(found.timing.parts) == [*PARTS, "other"]


def test_mistakes_are_sentences(tmp_path):
    with pytest.raises(UserError, match="neither a YAML file nor a baseline: r50-fpn, r50-c4"):
        benchmark.make(case("r101"))
    with pytest.raises(UserError, match="lower --detections or raise --proposals"):
        benchmark.make(case(proposals=3, detections=50))
    path = tmp_path / "other.yaml"
    path.write_text("MODEL: {META_ARCHITECTURE: ProposalNetwork, DEVICE: cpu}\n")
    with pytest.raises(UserError, match="is not a Faster or Mask R-CNN"):
        benchmark.make(case(str(path)))


def test_sizes_of_their_own():
    assert benchmark.parse_detector("a@b.yaml@32x64", "8x9") == ("a@b.yaml", 32, 64)
    assert benchmark.parse_detector("r50-fpn", "8x9") == ("r50-fpn", 8, 9)
    with pytest.raises(UserError, match="'32' is not an input size"):
        benchmark.parse_detector("a.yaml@32", "8x9")
