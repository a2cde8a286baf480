"""Detectors in parts, converted for the runtimes of phones where these are installed."""

import importlib.util
import json

import detector_file as file
import pytest

from atto_det.errors import UserError
from atto_det.export.parts_detector import PartsDetector, open_parts
from atto_det.export.parts_export import export, summary
from atto_det.export.samples import pictures_to_check

COUNTS = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.2, "TEST.DETECTIONS_PER_IMAGE", 40)
MODULES = {"litert": "litert_torch", "executorch": "executorch"}


@pytest.fixture(params=MODULES)
def form(request):
    """A format whose converter is installed."""
    if importlib.util.find_spec(MODULES[request.param]) is None:
        pytest.skip(f"{MODULES[request.param]} is not installed (docs/export.md, On a phone)")
    return request.param


def test_converted_parts(form, tmp_path):
    path = file.write(tmp_path / "model.pth", *COUNTS)
    pictures = pictures_to_check([])
    about, checks = export(path, tmp_path / "parts", form, pictures, size=(96, 128))
    assert "the same as PyTorch's in 1 pictures" in checks[0]
    assert json.loads((tmp_path / "parts/detector.json").read_text()) == about
    assert f"numbers  float32, {form}" in summary(about)
    detector = PartsDetector(tmp_path / "parts")
    assert detector.class_names == file.CLASSES
    assert len(detector(pictures[0]).scores)
    with pytest.raises(UserError, match="parts already exists: choose another --output"):
        export(path, tmp_path / "parts", form, pictures)
    for broken in (tmp_path / "parts").glob("picture.*"):
        broken.write_bytes(b"damaged")
        with pytest.raises(UserError, match=f"cannot run {broken}"):
            open_parts(tmp_path / "parts")


def test_8_bits(tmp_path):
    pytest.importorskip("litert_torch", reason="litert-torch is not installed")
    path = file.write(tmp_path / "model.pth", *COUNTS)
    pictures = pictures_to_check([])
    about, checks = export(path, tmp_path / "parts", "litert", pictures, pictures, size=(96, 128))
    assert about["precision"] == "int8"
    assert checks[1] == "in 8 bits, measured on 1 pictures"
    assert len(PartsDetector(tmp_path / "parts")(pictures[0]).scores)


@pytest.mark.parametrize("form", MODULES)
def test_without_the_converter(form, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="is not installed: it wants an environment of its own"):
        export(tmp_path / "model.pth", tmp_path / "parts", form, [])
