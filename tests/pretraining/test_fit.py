"""Trainings by a program: pictures held out, exact resume, a stop, the training of another."""

import pytest

from atto_det.errors import UserError
from atto_det.pretraining.data import ClassifierData
from atto_det.pretraining.fit import fit
from atto_det.pretraining.module import Classifier
from atto_det.weights.checkpoint import load_checkpoint


@pytest.fixture
def data(colours, monkeypatch) -> ClassifierData:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(colours))
    return ClassifierData("colours", image_size=32, batch_size=9, workers=0, hold_out=0.25)


def module(recipe: str = "this") -> Classifier:
    made = Classifier("attonet_d", ["blue", "green", "red"], warmup_epochs=0, ema_decay=0.0)
    made.recipe = recipe
    return made


def test_pictures_are_held_out_by_seed(data):
    assert (len(data.train.paths), len(data.val.paths)) == (27, 9)
    assert sorted(data.val.labels) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    whole = ClassifierData("colours", workers=0)
    assert {*data.train.paths, *data.val.paths} == set(whole.train.paths)
    other = ClassifierData("colours", workers=0, hold_out=0.25, seed=2)
    assert other.val.paths != data.val.paths
    with pytest.raises(UserError, match=r"data.hold_out is 1.0: give a share"):
        ClassifierData("colours", workers=0, hold_out=1.0)


def test_a_class_of_one_picture(colours, tmp_path):
    folder = tmp_path / "few/train/one"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes((colours / "colours/train/red/0.png").read_bytes())
    with pytest.raises(UserError, match="class one has one picture"):
        ClassifierData(str(tmp_path / "few"), workers=0, hold_out=0.2)


def test_it_stops_and_goes_on_exactly(data, tmp_path):
    whole = fit(module(), data, tmp_path / "whole", epochs=2)
    first = fit(module(), data, tmp_path / "parts", epochs=2, stop=lambda epoch, figures: True)
    assert (first.epochs, whole.epochs) == (1, 2)
    seen = []

    def stop(epoch, figures) -> bool:
        seen.append((epoch, figures["val_top1"]))
        return False

    assert fit(module(), data, tmp_path / "parts", epochs=2, stop=stop) == whole
    assert seen == [(2, whole.figures["val_top1"])]
    one, other = (
        load_checkpoint(tmp_path / f / "last.ckpt")["state_dict"] for f in ("whole", "parts")
    )
    assert all(value.equal(other[key]) for key, value in one.items())
    assert fit(module(), data, tmp_path / "parts", epochs=2) == whole  # read, not trained
    # A part of the schedule, trained or read, although another caller has trained further.
    for folder in ("whole", "part"):
        assert fit(module(), data, tmp_path / folder, epochs=2, until=1) == first
    with pytest.raises(UserError, match="is of another training"):
        fit(module("that"), data, tmp_path / "parts", epochs=2)
