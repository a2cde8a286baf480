"""Measured peak memory stands beside the counted."""

from pathlib import Path

import pytest

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from atto_det.detectron2 import analysis, baselines, memory
from atto_det.detectron2.model import build_model
from atto_det.reports.costs import record, tables

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.slow
def test_measured_beside_counted():
    cfg = analysis.read_config(CONFIGS / "atto_maskrcnn_tiny_voc.yaml", classes=3)
    passes = {"64x96": analysis.Pass(64, 96, 20, 5)}
    lists = {size: [one_pass] for size, one_pass in passes.items()}
    given = [analysis.analyse("tiny", "tiny.yaml", build_model(cfg), lists, memory=True)]
    baseline, source = baselines.build_baseline("torchvision", 3)
    given.append(analysis.analyse("torchvision", source, baseline, lists, memory=True))
    tiny, torchvision = memory.measure_peaks(given, cfg, passes, threads=1)
    assert given[0].measured == torchvision.measured == {}
    peak = tiny.measured["64x96"]
    assert 4 * tiny.total("64x96").parameters < peak < 2**30
    row = ("measured, whole run", f"{peak / 2**20:,.1f}", "–")
    assert tables([tiny, torchvision])[-1].rows[-1] == row
    entries = [one["inputs"]["64x96"] for one in record([tiny, torchvision])]
    assert entries[0]["measured_peak_memory_bytes"] == peak
    assert "measured_peak_memory_bytes" not in entries[1]
