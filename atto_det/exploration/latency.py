"""The time of a network on this machine, in ONNX Runtime at 8 bits, before any training."""

import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from atto_det.exploration.supernet import build
from atto_det.export.onnx_export import OPSET
from atto_det.export.quantise import quantise
from atto_det.export.rewrite import for_8_bits
from atto_det.export.runtimes import open_runtime
from atto_det.nets.backbone import BackboneSpec
from atto_det.ops.fold_norms import folded

RUNS = 21


def milliseconds(spec: BackboneSpec, *, classes: int, size: int) -> float:
    """The median time, in milliseconds, of a classifier on one picture (1, 3, size, size).

    It runs on one thread. Weights and pictures are random, since neither affects the time.

    Raises:
        UserError: ONNX Runtime is not installed.
    """
    net = for_8_bits(folded(build(spec, classes).eval()))
    random = np.random.default_rng(0)
    pictures = random.standard_normal((4, 1, 3, size, size)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            torch.onnx.export(
                net, (torch.from_numpy(pictures[0]),), path, opset_version=OPSET, dynamo=False
            )
        quantise(path, path, pictures, detector=False)
        run = open_runtime(path, "onnxruntime", threads=1)
        seconds = []
        for _ in range(RUNS):
            begin = time.perf_counter()
            run(pictures[0])
            seconds.append(time.perf_counter() - begin)
    return 1000 * statistics.median(seconds)
