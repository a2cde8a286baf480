"""tools/export.py --format onnx as a user runs it, and what evaluates and times its files."""

import hashlib
import json

import detector_file as file
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from atto_det.data import VOC_CLASSES
from atto_det.export.metadata import read_metadata
from atto_det.weights import checkpoint


@pytest.fixture
def export(run_tool):
    """A function that exports a checkpoint to an ONNX file."""
    return lambda path, output, *more: run_tool(
        "export.py", "--checkpoint", path, "--format", "onnx", "--output", output, *more
    )


def test_a_detector_from_checkpoint_to_ap(export, run_tool, sentence, mini_voc, tmp_path):
    path = file.write(tmp_path / "model.pth", class_names=VOC_CLASSES)
    folder = mini_voc / "mini_voc/JPEGImages"
    done = export(path, "model.onnx", "--images", folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("wrote model.onnx, ")
    for text in (
        "model    detector, attonet_d, 20 classes",
        "numbers  float32, opset 18",
        "picture  RGB, resized in the file to 96 pixels, at most 128",
        f"sha256   {read_metadata(tmp_path / 'model.onnx').checkpoint_sha256} of the checkpoint",
        "checked  onnxruntime ",
        "detections the same as PyTorch's in 12 pictures",
    ):
        assert text in done.stdout

    model = ("--model", "model.onnx")
    done = run_tool("evaluate_onnx.py", *model, "--dataset", "mini_voc_val", "--output", "ap.json")
    assert done.returncode == 0, done.stderr
    assert "float32 in onnxruntime: " in done.stdout
    result = json.loads((tmp_path / "ap.json").read_text())
    assert result["protocol"]["split"] == "mini_voc_val"
    assert result["protocol"]["score_floor"] == 0.0
    exported, content = result["exported"], (tmp_path / "model.onnx").read_bytes()
    assert exported.pop("median_ms") > 0
    assert exported.pop("command")
    assert {"onnxruntime", "torch"} <= exported.pop("versions").keys()
    assert exported.pop("machine")["cores"] >= 1
    assert exported == {
        "runtime": "onnxruntime",
        "precision": "float32",
        "threads": 0,
        "files": {
            "model.onnx": {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        },
        "pictures": 4,
    }
    done = run_tool("time_onnx.py", "model.onnx", "model.onnx", "--size", 40, 50, "--repeats", 1)
    assert done.returncode == 0, done.stderr
    assert "(×1.00)" in done.stdout
    assert len(done.stdout.splitlines()) == 2
    text = sentence(run_tool("evaluate_onnx.py", *model, "--dataset", "nothing"))
    assert "there is no data set nothing" in text


@pytest.mark.slow
def test_in_8_bits(export, tmp_path):
    path = file.write(tmp_path / "model.pth", class_names=VOC_CLASSES)
    done = export(path, "model.onnx", "--int8", "--calibration", "mini_voc_val")
    assert done.returncode == 0, done.stderr
    assert "numbers  int8, opset 18" in done.stdout
    assert "checked  in 8 bits, measured on 4 pictures" in done.stdout
    assert done.stderr == ""
    assert read_metadata(tmp_path / "model.onnx").precision == "int8"


@pytest.mark.slow
def test_a_backbone(export, classifier, run_tool, sentence):
    path, _ = classifier()
    done = export(path, "d.onnx")
    assert done.returncode == 0, done.stderr
    assert "model    backbone, attonet_d, 3 classes" in done.stdout
    assert "features within" in done.stdout
    text = sentence(run_tool("evaluate_onnx.py", "--model", "d.onnx", "--dataset", "mini_voc_val"))
    assert "d.onnx holds a backbone, which detects nothing by itself" in text


def test_mistakes_are_one_sentence(export, run_tool, sentence, tmp_path):
    path = file.write(tmp_path / "model.pth")
    assert "--output m.pth must end in .onnx" in sentence(export(path, "m.pth"))
    text = sentence(export(path, "m.onnx", "--int8"))
    assert "--int8 and --calibration need each other" in text
    text = sentence(export(path, "m.onnx", "--calibration", "mini_voc_val"))
    assert "--int8 and --calibration need each other" in text
    text = sentence(export(path, "m.onnx", "--int8", "--calibration", "nothing"))
    assert "--calibration nothing is neither a folder nor a data set" in text
    assert "none.jpg does not exist" in sentence(export(path, "m.onnx", "--images", "none.jpg"))
    text = sentence(export(path, "m.onnx", "--config-file", "a.yaml"))
    assert "--config-file is for --format pth" in text
    arguments = ("--checkpoint", path, "--format", "pth", "--output", "m.pth", "--images", "a.jpg")
    assert "--images is for --format onnx" in sentence(run_tool("export.py", *arguments))
    for more, name in (
        (("--score-threshold", 0), "--score-threshold"),
        (("INPUT.MIN_SIZE_TEST", 96), "KEY VALUE"),
    ):
        text = sentence(run_tool("export.py", *arguments[:-2], *more))
        assert f"{name} is for --format onnx" in text
    assert "no.pth does not exist" in sentence(export("no.pth", "m.onnx"))
    (tmp_path / "text.pth").write_text("no checkpoint")
    assert "text.pth" in sentence(export("text.pth", "m.onnx"))
    content = checkpoint.load_checkpoint(path)
    content["model"].popitem()
    checkpoint.save_checkpoint(tmp_path / "part.pth", content)
    assert "part.pth" in sentence(export("part.pth", "m.onnx"))
    assert "was not written" in sentence(export(path, path / "m.onnx"))
    assert not list(tmp_path.glob("*.onnx"))
    assert not list(tmp_path.glob(".*.onnx"))


@pytest.mark.slow
def test_evaluation_of_other_classes(export, run_tool, sentence, tmp_path):
    path = file.write(tmp_path / "model.pth")
    (tmp_path / "foreign.onnx").write_bytes(b"")
    arguments = ("--model", "foreign.onnx", "--dataset", "mini_voc_val")
    text = sentence(run_tool("evaluate_onnx.py", *arguments))
    assert "foreign.onnx was not written by atto_det" in text
    assert export(path, "model.onnx").returncode == 0
    text = sentence(
        run_tool("evaluate_onnx.py", "--model", "model.onnx", "--dataset", "mini_voc_val")
    )
    assert "mini_voc_val has other classes than model.onnx was trained on" in text
