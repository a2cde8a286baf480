"""The times of a condenser: pairs of equal multiply-adds, parts that make up the whole."""

import json

import pytest

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

from atto_det.cli import time_condenser

CONDENSER = {
    "M: down-mixing",
    "C: max pooling",
    "E: grouped convolution",
    "E: 1x1 convolution",
    "X: unpooling",
    "F: product",
    "M': up-mixing",
    "sum, ReLU",
    "layout, rounding",
}
MODULE = {"compress", "depthwise", "mix", "expand", "sum, ReLU", "layout, rounding"}


def test_pairs_and_their_parts(tmp_path, capsys):
    file = tmp_path / "times.json"
    arguments = ["--network", "attendnet_b", "--size", "64", "96", "--runs", "3"]
    assert time_condenser.main([*arguments, "--output", str(file)]) == 0
    blocks = json.loads(file.read_text())["blocks"]
    kinds = [(one["stage"], one["block"], one["size"]) for one in blocks]
    assert kinds == [
        (stage, block, size)
        for stage, size in (("res2", [16, 24]), ("res3", [8, 12]), ("res4", [4, 6]))
        for block in ("condenser", "module")
    ]
    for condenser, module in zip(blocks[::2], blocks[1::2], strict=True):
        assert module["macs"] == pytest.approx(condenser["macs"], rel=0.05)
        for one, parts in ((condenser, CONDENSER), (module, MODULE)):
            for mode in time_condenser.RUNTIME_MODES:
                found = one[f"{mode} parts"]
                assert set(found) - {"sigmoid, S"} == parts
                # The shortest of each part against the median of the whole.
                assert 0 < sum(found.values()) < 2 * one[mode]
    assert "E: 1x1 convolution" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--network", "attonet_a"], "attonet_a has no condenser: name an AttendNet"),
        (["--network", "attonet_x"], "--network is 'attonet_x': choose one of"),
        (["--runs", "0"], "--size and --runs must be at least 1"),
    ],
)
def test_mistakes_are_named(arguments, message, capsys):
    assert time_condenser.main(arguments) != 0
    assert message in capsys.readouterr().err
