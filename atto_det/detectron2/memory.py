"""Measured peak memory of detectors, to compare with what `atto_det.complexity.memory` counts."""

import dataclasses
import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode

from atto_det.complexity.latency import peak_memory_of
from atto_det.reports.costs import Analysis

from . import benchmark
from .analysis import Pass
from .baselines import ZOO_CONFIGS

REMARK = (
    "Peak memory, measured: how much the resident memory of a separate process grew from before "
    "the model was built until one picture had passed through it twice, eager, on {threads} "
    "threads of a CPU, code and scratch space included. Counted: all tensors alive at the fullest "
    "moment of a part; other parts' weights, and features kept for later parts, do not count."
)


def measure_peaks(
    analyses: Sequence[Analysis], cfg: CfgNode, passes: dict[str, Pass], threads: int
) -> list[Analysis]:
    """The analyses with measured peaks, for detectors that `benchmark` knows.

    Args:
        analyses: of the detector of `cfg`, then of baselines by name.
        passes: from an input to the pass that is measured.

    Raises:
        UserError: a process ended early, or there are too few proposals to give so many
            detections.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{analyses[0].name}.yaml"
        path.write_text(cfg.dump())
        result = []
        for index, analysis in enumerate(analyses):
            peaks = {}
            if not index or analysis.name in ZOO_CONFIGS:
                detector = analysis.name if index else str(path)
                peaks = {
                    size: _peak(detector, one_pass, cfg.MODEL.ROI_HEADS.NUM_CLASSES, threads)
                    for size, one_pass in passes.items()
                }
            result.append(dataclasses.replace(analysis, measured=peaks))
    return result


def _peak(detector: str, one_pass: Pass, classes: int, threads: int) -> int:
    case = benchmark.BenchmarkCase(detector, "eager", *one_pass, classes=classes)
    make = functools.partial(benchmark.make, case, threads)
    return peak_memory_of(make, imports=[benchmark.__name__])
