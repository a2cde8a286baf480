"""Checkpoints: whole, carrying what they need, read safely, written whole or not at all."""

import errno
import io
import pathlib
import pickle
import random

import pytest
import torch
from hostile import Hostile
from sentences import sentence

from atto_det.errors import UserError
from atto_det.weights import checkpoint


def content() -> dict:
    return {
        "model": {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(7), "e": torch.empty(0)},
        "atto_det": checkpoint.description("SEED: 1\n", ["cat", "dög"]),
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": []},
        "iteration": 12,
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, value, key):
    broken = torch.zeros(3, 4, dtype=torch.float16)
    broken[1, 2] = value
    path = tmp_path / "a.pth"
    checkpoint.save_checkpoint(path, {key: {"sound": torch.ones(2), "fpn.weight": broken}})
    message = sentence(checkpoint.load_checkpoint, path)
    assert "holds values that are NaN or infinite, first in fpn.weight" in message


def test_round_trip(tmp_path):
    path = tmp_path / "new" / "a.pth"
    checkpoint.save_checkpoint(path, content())
    read = checkpoint.load_checkpoint(path)
    expected = content()
    assert read.keys() == expected.keys()
    for key, value in expected["model"].items():
        assert torch.equal(read["model"][key], value)
        assert read["model"][key].dtype == value.dtype
    assert read["iteration"] == 12
    part = checkpoint.read_description(read, path)
    assert part["format"] == checkpoint.FORMAT == 1
    assert part["config"] == "SEED: 1\n"
    assert part["class_names"] == ["cat", "dög"]
    assert part["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert isinstance(part["command"], str)
    assert [p.name for p in path.parent.iterdir()] == ["a.pth"]


def test_tensors_come_to_the_cpu(tmp_path):
    path = tmp_path / "a.pth"
    checkpoint.save_checkpoint(path, {"model": {"w": torch.zeros(2, device="meta")}})
    # A meta tensor stands for a device that is not here.
    assert checkpoint.load_checkpoint(path)["model"]["w"].shape == (2,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("place", ["model", "atto_det", "trainer"])
def test_a_hostile_pickle_does_not_run(tmp_path, form, place):
    marker = tmp_path / "marker"
    path = tmp_path / "hostile.pth"
    harmful = content() | {place: Hostile(marker)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(harmful))
    else:
        torch.save(harmful, path, _use_new_zipfile_serialization=form == "zip")
    message = sentence(checkpoint.load_checkpoint, path)
    assert str(path) in message
    if form == "zip":
        assert "could run code" in message
    assert not marker.exists()
    torch.load(path, weights_only=False) if form != "pickle" else pickle.loads(path.read_bytes())
    assert marker.exists()  # the file was a danger indeed


def test_a_module_in_place_of_weights_is_refused(tmp_path):
    path = tmp_path / "whole.pth"
    torch.save({"model": torch.nn.Linear(2, 2)}, path)
    assert "could run code" in sentence(checkpoint.load_checkpoint, path)


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    path = tmp_path / "a.pth"
    path.write_bytes(b"a")
    monkeypatch.setattr(torch, "load", refuse)
    said = sentence(checkpoint.load_checkpoint, path)
    assert said == f"checkpoint {path} cannot be read: Permission denied"


def test_missing_and_foreign_files(tmp_path):
    assert "does not exist" in sentence(checkpoint.load_checkpoint, tmp_path / "no.pth")
    assert "is a folder: give a file" in sentence(checkpoint.load_checkpoint, tmp_path)
    text = tmp_path / "text.pth"
    for written in (b"", b"hello\n", b"\xff\xd8\xff\xe0 not a picture", bytes(5000)):
        text.write_bytes(written)
        assert str(text) in sentence(checkpoint.load_checkpoint, text)
    torch.save([torch.zeros(2)], text)
    assert "holds a list instead of weights" in sentence(checkpoint.load_checkpoint, text)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file_is_one_sentence(tmp_path, zipped):
    buffer = io.BytesIO()
    torch.save(content(), buffer, _use_new_zipfile_serialization=zipped)
    whole = buffer.getvalue()
    path = tmp_path / "cut.pth"
    for length in range(0, len(whole), 23):
        path.write_bytes(whole[:length])
        assert str(path) in sentence(checkpoint.load_checkpoint, path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zipped", [True, False])
def test_a_damaged_file_is_read_or_one_sentence(tmp_path, zipped):
    buffer = io.BytesIO()
    torch.save(content(), buffer, _use_new_zipfile_serialization=zipped)
    path = tmp_path / "damaged.pth"
    draw = random.Random(1)
    messages = []
    for _ in range(300):
        damaged = bytearray(buffer.getvalue())
        for _ in range(draw.choice([1, 4, 40])):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            checkpoint.load_checkpoint(path)
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > 100
    assert all(str(path) in message and "\n" not in message for message in messages)


def test_a_checkpoint_of_others_needs_a_config(tmp_path):
    path = tmp_path / "foreign.pth"
    torch.save({"w": torch.zeros(2)}, path)
    read = checkpoint.load_checkpoint(path)
    message = sentence(checkpoint.read_description, read, path)
    assert "not written by atto_det" in message
    assert "--config-file" in message


def test_a_newer_format():
    newer = content()
    newer["atto_det"]["format"] = 2
    message = sentence(checkpoint.read_description, newer, "a.pth")
    assert "has format 2, newer than" in message
    assert "update atto_det" in message


@pytest.mark.parametrize(
    "change",
    [
        {"format": "1"},
        {"config": {"SEED": 1}},
        {"class_names": "cat"},
        {"class_names": ["cat", 1]},
    ],
)
def test_a_malformed_description(change):
    wrong = content()
    wrong["atto_det"] |= change
    assert "malformed" in sentence(checkpoint.read_description, wrong, "a.pth")
    assert "malformed" in sentence(checkpoint.read_description, {"atto_det": 1}, "a.pth")
    without = {"atto_det": content()["atto_det"]}
    assert "malformed" in sentence(checkpoint.read_description, without, "a.pth")


class FullDisk:
    """A file on a disk with room for `room` bytes."""

    def __init__(self, file, room: int) -> None:
        self.file, self.room = file, room

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)


@pytest.mark.parametrize("room", [0, 100, 1500, 2200])
def test_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch, room):
    path = tmp_path / "a.pth"
    checkpoint.save_checkpoint(path, content())
    before = path.read_bytes()
    opened = pathlib.Path.open
    monkeypatch.setattr(
        pathlib.Path,
        "open",
        lambda self, mode="r", **kw: (
            FullDisk(opened(self, mode, **kw), room) if "w" in mode else opened(self, mode, **kw)
        ),
    )
    for target in (path, tmp_path / "other.pth"):
        message = sentence(checkpoint.save_checkpoint, target, content() | {"iteration": 13})
        assert message.startswith(f"{target} was not written: the disk is full")
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.pth"]  # no partial file


def test_versions_name_what_is_missing(monkeypatch):
    monkeypatch.setattr(checkpoint, "_PACKAGES", ("torch", "no-such-package"))
    found = checkpoint.versions()
    assert found["no-such-package"] == "not installed"
    assert set(found) == {"atto_det", "python", "torch", "no-such-package"}
