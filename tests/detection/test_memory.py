"""Measured peak memory stands beside the counted."""

from pathlib import Path

import pytest

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from atto_det.complexity import record, tables
from atto_det.detection import analysis, baselines, memory
from atto_det.detection.model import build_model

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_measured_beside_counted():
    cfg = analysis.read_config(CONFIGS / "atto_maskrcnn_tiny_voc.yaml", classes=3)
    ways = {"64x96": analysis.Pass(64, 96, 20, 5)}
    lists = {size: [way] for size, way in ways.items()}
    given = [analysis.analyse("tiny", "tiny.yaml", build_model(cfg), lists, memory=True)]
    for name in ("r50-fpn", "torchvision"):
        baseline, source = baselines.build_baseline(name, 3)
        given.append(analysis.analyse(name, source, baseline, lists, memory=True))
    tiny, r50, torchvision = memory.measure_peaks(given, cfg, ways, threads=1)
    assert torchvision.measured == {}
    weights = 4 * r50.total("64x96").parameters
    assert r50.measured["64x96"] > weights  # 176 MB, of which no part alone has so much
    assert 0 < tiny.measured["64x96"] < r50.measured["64x96"]
    grid = tables([tiny, r50, torchvision])[-1]
    assert grid.rows[-1] == (
        "measured, whole run",
        f"{tiny.measured['64x96'] / 2**20:,.1f}",
        f"{r50.measured['64x96'] / 2**20:,.1f}",
        "–",
    )
    entries = [one["inputs"]["64x96"] for one in record([tiny, r50, torchvision])]
    assert entries[0]["measured_peak_memory_bytes"] == tiny.measured["64x96"]
    assert "measured_peak_memory_bytes" not in entries[2]
    assert given[0].measured == {}
