"""tools/benchmark.py as a user runs it."""

import json
import os

import pytest

pytest.importorskip("detectron2", reason="Detectron2 is not installed")


def test_two_configs_beside_a_baseline(run_tool, repository, tmp_path):
    done = run_tool(
        "benchmark.py",
        *("--config-file", repository / "configs/atto_maskrcnn_tiny_voc.yaml"),
        f"{repository / 'configs/atto_maskrcnn_lite_voc.yaml'}@96x64",
        *("--against", "r50-fpn", "--input", "64x64", "--proposals", 20, "--detections", 5),
        *("--repeats", 2, "--threads", 1, "--output", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    for text in ("building r50-fpn 64x64 fast", "By part, eager", "mask pasting", "1 threads"):
        assert text in done.stdout
    assert "atto_maskrcnn_lite_voc at 96x64: 20 proposals, 5 detections." in done.stdout
    content = json.loads((tmp_path / "out/latency.json").read_text())
    assert [(one["detector"], one["input"], one["mode"]) for one in content["latencies"]] == [
        ("atto_maskrcnn_tiny_voc", "64x64", "eager"),
        ("atto_maskrcnn_tiny_voc", "64x64", "fast"),
        ("atto_maskrcnn_lite_voc", "96x64", "eager"),
        ("atto_maskrcnn_lite_voc", "96x64", "fast"),
        ("r50-fpn", "64x64", "eager"),
        ("r50-fpn", "64x64", "fast"),
    ]
    assert content["machine"]["threads"] == 1
    assert content["machine"]["cpu"]
    assert "--against" in content["command"]
    assert {"torch", "detectron2"} <= set(content["versions"])
    assert content["date"].startswith("20")
    last = content["latencies"][-1]
    first = content["latencies"][1]
    assert last["ratio_to_first"] == pytest.approx(last["median_s"] / first["median_s"])
    assert last["peak_memory_bytes"] > first["peak_memory_bytes"] > 0
    assert (tmp_path / "out/latency.png").read_bytes().startswith(b"\x89PNG")
    assert "## By part, fast: ms" in (tmp_path / "out/latency.md").read_text()


def test_curves_over_threads(run_tool, repository, tmp_path):
    done = run_tool(
        "benchmark.py",
        *("--config-file", repository / "configs/atto_maskrcnn_tiny_voc.yaml", "--no-memory"),
        *("--input", "64x64", "--proposals", 20, "--detections", 5, "--scale", "threads"),
        *("--repeats", 1, "--output", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "out/scaling.json").read_text())
    [curve] = content["curves"]
    values = [point["value"] for point in curve["points"]]
    assert values == [n for n in (1, 2, 4, 8, 16) if n <= os.cpu_count()]
    work = "atto_maskrcnn_tiny_voc fast, 64x64, 20 proposals, 5 detections, batches of 1"
    assert curve["work"] == work
    assert (curve["exponent"] is None) == (len(values) == 1)
    assert (tmp_path / "out/scaling.png").read_bytes().startswith(b"\x89PNG")
    assert "## threads: atto_maskrcnn_tiny_voc" in (tmp_path / "out/scaling.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--input", "800"), "'800' is not an input size: write HEIGHTxWIDTH"),
        (("--against", "r50-fpn@8"), "'8' is not an input size"),
        (("--against", "torchvision"), "torchvision is neither a YAML file nor a baseline"),
        (("--repeats", "0"), "must be at least 1"),
        (("--image", "nothing.jpg"), "nothing.jpg"),
        (("--scale", "batch", "--against", "r50-fpn"), "--scale takes one --config-file"),
        (("--scale", "batch", "--modes", "fast", "onnx"), "in one of --modes"),
        (
            ("--config-file", "r50-c4", "--scale", "batch", "--modes", "onnx"),
            "r50-c4 cannot run in",
        ),
        (("--proposals", "2"), "lower --detections or raise --proposals"),
    ],
)
def test_mistakes_are_one_sentence(run_tool, repository, sentence, arguments, expected):
    config = ("--config-file", repository / "configs/atto_maskrcnn_tiny_voc.yaml")
    arguments = ("--input", "64x64", "--repeats", 1, *arguments)
    assert expected in sentence(run_tool("benchmark.py", *config, *arguments))
