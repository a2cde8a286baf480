"""A detector in parts, as a user exports, evaluates and times it.

The parts run in PyTorch here: no runtime of a phone need be installed.
"""

import json

import detector_file as file
import pytest
from PIL import Image

from atto_det.data import VOC_CLASSES
from atto_det.export import host
from atto_det.export.parts import split
from atto_det.torchvision.predictor import Predictor


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder whose parts are PyTorch's."""
    path = file.write(tmp_path / "model.pth", class_names=VOC_CLASSES)
    parts = split(Predictor(path, device="cpu"))
    runs = parts.runs()
    monkeypatch.setattr(host, "_litert", lambda path, threads, names: runs[path.stem])
    about = parts.about | {"format": "litert", "precision": "float32"}
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone/detector.json").write_text(json.dumps(about))
    for part in runs:
        (tmp_path / f"phone/{part}.tflite").write_bytes(b"a" * 10_000)
    return tmp_path / "phone"


def test_ap_and_times(folder, run_tool, sentence, tmp_path):
    model = ("--model", "phone", "--dataset", "mini_voc_val", "--output", "ap.json")
    done = run_tool("evaluate_onnx.py", *model)
    assert done.returncode == 0, done.stderr
    assert "float32 in litert: " in done.stdout
    result = json.loads((tmp_path / "ap.json").read_text())
    assert result["protocol"]["detections_per_image"] == 5
    assert result["exported"]["threads"] == 1
    files = result["exported"]["files"]
    assert {name: one["bytes"] for name, one in files.items()} == {
        f"{part}.tflite": 10_000 for part in host.PARTS
    }
    done = run_tool("time_onnx.py", "phone", "--repeats", 1, "--threads", 1)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        f"phone/{part}.tflite" for part in host.PARTS
    ]
    assert "ms (×1.00), 0.01 MB" in lines[0]
    (folder / "masks.tflite").unlink()
    text = sentence(run_tool("evaluate_onnx.py", *model))
    assert "phone lacks masks.tflite: export it again" in text


def test_objects_in_a_picture(folder, mini_voc, tmp_path, capsys, monkeypatch):
    picture = min((mini_voc / "mini_voc/JPEGImages").glob("*.jpg"))
    host.main([str(picture), "--model", str(folder), "--threshold", "0"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["class", "score", "x1", "y1", "x2", "y2", "mask", "pixels"]
    assert len(lines) == 6
    assert all(line.split()[0] in VOC_CLASSES for line in lines[1:])
    with pytest.raises(host.Mistake, match=r"detector\.json is not a picture"):
        host.main([str(folder / "detector.json"), "--model", str(folder)])
    damaged = tmp_path / "damaged.png"
    Image.effect_noise((300, 300), 64).save(damaged)
    first, second, rest = damaged.read_bytes().split(b"IDAT", 2)
    damaged.write_bytes(b"".join([first, b"IDAT", second, b"I\xffAT", rest]))
    with pytest.raises(host.Mistake, match=r"damaged\.png is not a picture, or a damaged one"):
        host.main([str(damaged), "--model", str(folder)])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(host.Mistake, match=r"\.jpg is not a picture.*exceeds limit"):
        host.main([str(picture), "--model", str(folder)])


def test_mistakes_are_one_sentence(run_tool, sentence, tmp_path):
    path = file.write(tmp_path / "model.pth")
    arguments = ("--checkpoint", path, "--output", "phone", "--format")
    text = sentence(run_tool("export.py", *arguments, "executorch", "--int8"))
    assert "--int8 is for --format onnx, litert" in text
    text = sentence(run_tool("export.py", *arguments, "onnx", "--size", 64, 64))
    assert "--output phone must end in .onnx" in text
    arguments = ("--checkpoint", path, "--output", "m.onnx", "--format", "onnx")
    text = sentence(run_tool("export.py", *arguments, "--size", 64, 64))
    assert "--size is for --format litert, executorch" in text
