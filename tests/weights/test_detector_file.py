"""Detector files: half a checkpoint, complete, checked, and found by name."""

import json
import socket

import detector_file as tiny
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import atto_det.torchvision
from atto_det import engine
from atto_det.cli import export
from atto_det.errors import UserError
from atto_det.weights import checkpoint, detector_file, zoo


@pytest.fixture
def trained(tmp_path):
    """A checkpoint, and its content."""
    path = tiny.write(tmp_path / "model.pth", "DATASETS.TRAIN", "('owl_train',)")
    return path, checkpoint.load_checkpoint(path)


@pytest.fixture
def stored(trained, tmp_path, monkeypatch):
    """The checkpoint as a file of a zoo of its own, called owls."""
    monkeypatch.setattr(zoo, "ZOO", tmp_path / "zoo")
    file = zoo.ZOO / "owls.safetensors"
    detector_file.write_detector(file, trained[1])
    return file


def test_weights_are_rounded_and_all_else_is_as_it_was(trained, stored):
    path, content = trained
    found = checkpoint.load_checkpoint(stored)
    own, kept = content["atto_det"], found["atto_det"]
    for key in ("config", "class_names", "versions", "command"):
        assert kept[key] == own[key]
    assert found["model"].keys() == content["model"].keys()
    for name, value in content["model"].items():
        expected = value.half().float() if value.ndim > 1 else value
        assert torch.equal(found["model"][name], expected), name
    assert stored.stat().st_size < 0.6 * path.stat().st_size


@pytest.mark.parametrize("name", ["detectron2", "torchvision"])
def test_by_name_without_a_network_or_a_file_beside_it(
    name, trained, stored, tmp_path, monkeypatch
):
    if name == "detectron2":
        pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    predictor_of = engine.choose(name, say=None).Predictor
    content = dict(trained[1])
    content["model"] = {
        key: value.half().float() if value.ndim > 1 else value
        for key, value in content["model"].items()
    }
    checkpoint.save_checkpoint(tmp_path / "rounded.pth", content)
    picture = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    wanted = predictor_of(tmp_path / "rounded.pth")(picture)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "nowhere"))

    def refuse(*arguments, **options):
        raise AssertionError("nothing is fetched")

    monkeypatch.setattr(socket, "socket", refuse)
    predictor = predictor_of("zoo:owls")
    found = predictor(picture)
    assert predictor.class_names == tiny.CLASSES
    assert len(found.scores)
    assert np.array_equal(found.boxes, wanted.boxes)
    assert np.array_equal(found.scores, wanted.scores)
    assert found.rles == wanted.rles


def test_the_export_writes_them(trained, tmp_path, capsys):
    path, output = trained[0], tmp_path / "owls.safetensors"
    flags = ["--format", "safetensors", "--output", str(output)]
    assert export.main(["--checkpoint", str(path), *flags]) == 0
    assert "detector of 3 classes: cat, dög, owl" in capsys.readouterr().out
    assert detector_file.holds_detector(output)
    assert checkpoint.load_checkpoint(output)["model"].keys() == trained[1]["model"].keys()


def test_a_changed_file_is_refused(stored):
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(content)
    with pytest.raises(UserError, match=r"was damaged or modified"):
        checkpoint.load_checkpoint("zoo:owls")
    stored.write_bytes(content[:100])
    with pytest.raises(UserError, match=r"is not a safetensors file, or a damaged one"):
        checkpoint.load_checkpoint("zoo:owls")


def test_other_files_are_refused(stored, tmp_path):
    def written(metadata):
        path = tmp_path / "other.safetensors"
        save_file(load_file(stored), path, metadata)
        return path

    with pytest.raises(UserError, match=r"holds no detector"):
        checkpoint.load_checkpoint(written({"format": "atto_det backbone 1"}))
    with pytest.raises(UserError, match=r"has format 2, newer than this version"):
        checkpoint.load_checkpoint(written({"format": "atto_det detector 2"}))
    with pytest.raises(UserError, match=r"the zoo that comes with the package has owls$"):
        checkpoint.load_checkpoint("zoo:eagles")
    with pytest.raises(UserError, match=r"the zoo that comes with the package has owls$"):
        atto_det.torchvision.Predictor("zoo:../zoo/owls")
    stored.unlink()
    with pytest.raises(UserError, match=r"is empty$"):
        checkpoint.load_checkpoint("zoo:owls")


def test_weights_too_large_for_16_bits(trained, tmp_path):
    content = trained[1]
    name = next(key for key, value in content["model"].items() if value.ndim > 1)
    content["model"][name] = content["model"][name] + 1e6
    with pytest.raises(UserError, match=name):
        detector_file.write_detector(tmp_path / "a.safetensors", content)
    assert not (tmp_path / "a.safetensors").exists()


def test_the_metadata_say_the_terms(stored):
    from safetensors import safe_open

    with safe_open(stored, framework="pt") as file:
        metadata = file.metadata()
    assert "owl_train" in metadata["licence"]
    assert json.loads(metadata["class_names"]) == tiny.CLASSES
