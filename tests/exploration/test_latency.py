"""Milliseconds in 8 bits on this machine."""

import pytest

from atto_det.design import Requirements
from atto_det.nets.cost import classifier_cost

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")


def test_a_network_is_timed(generator):
    from atto_det.exploration.latency import milliseconds

    spec = generator(1)
    found = milliseconds(spec, classes=5, size=64)
    assert 0 < found < 1000
    cost = classifier_cost(spec, classes=5, size=64)
    excess = Requirements(milliseconds=found / 2).excess(cost, milliseconds=found)
    assert excess == pytest.approx({"milliseconds": 1.0})
