"""What a run refuses before it trains: the folder of another run, foreign weights, odd configs."""

import pytest
import torch

from atto_det.errors import UserError
from atto_det.training.lock import locked
from atto_det.weights import checkpoint

UNTESTED = ["DATASETS.TEST", "()"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["MODEL.ROI_BOX_HEAD.FC_DIM", 24], "tensors of checkpoint .* do not fit the config"),
        (["MODEL.ATTONET.NAME", "attonet_c"], "tensors of checkpoint .* do not fit the config"),
        (["SOLVER.WEIGHT_DECAY_BIAS", 0.5], "cannot be resumed from with this config"),
        (["SEED", 2], "SEED is 2, but .*model_final.pth was trained with 1: resume with that"),
    ],
)
def test_resuming_with_another_config_is_refused(engine, config, finished, change, sentence):
    with pytest.raises(UserError, match=sentence):
        engine.run.train(config(*UNTESTED, *change, "SOLVER.MAX_ITER", 4), resume=True)


def test_resuming_with_other_classes_is_refused(engine, config, finished, voc_folder, tmp_path):
    voc_folder(tmp_path / "cups", [f"cup {k}" for k in range(20)], train=["a", "b"])
    own = ["DATASETS.FOLDERS", [["cups", str(tmp_path / "cups")]], "DATASETS.TRAIN", ["cups_train"]]
    with pytest.raises(UserError, match="was trained on other classes"):
        engine.run.train(config(*UNTESTED, *own, "SOLVER.MAX_ITER", 4), resume=True)


def test_other_pictures_under_the_same_names_and_a_second_run_are_refused(
    engine, config, out, voc_folder, tmp_path
):
    def own(folder: str):
        path = str(voc_folder(tmp_path / folder, ["cup"], train={"one": "ab", "two": "ac"}[folder]))
        return config(
            *(*UNTESTED, "DATASETS.TRAIN", ["own_train"], "DATASETS.FOLDERS", [["own", path]])
        )

    engine.run.train(own("one"))
    with pytest.raises(UserError, match="was trained on other pictures or annotations than"):
        engine.run.train(own("two"), resume=True)
    cfg = own("one")
    with locked(out), pytest.raises(UserError, match="another run is using"):
        engine.run.train(cfg, resume=True)
    assert engine.run.train(cfg, resume=True) == {}


def test_a_run_of_the_other_engine_is_not_resumed(engine, config, finished):
    other = {"detectron2": "torchvision", "torchvision": "detectron2"}[engine.ENGINE]
    content = checkpoint.load_checkpoint(finished / "model_final.pth")
    checkpoint.save_checkpoint(finished / "model_final.pth", content | {"engine": other})
    sentence = f"with the engine {other}: resume it with --engine {other}"
    with pytest.raises(UserError, match=sentence):
        engine.run.train(config(*UNTESTED), resume=True)


def test_a_last_checkpoint_that_is_gone_or_damaged_is_named(engine, config, finished):
    path = finished / "model_final.pth"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"model_final.pth"):
        engine.run.train(config(*UNTESTED), resume=True)
    path.unlink()
    with pytest.raises(UserError, match=r"model_final.pth does not exist"):
        engine.run.train(config(*UNTESTED), resume=True)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"model": {"a": "text"}}, "holds no weights"),
        ({"model": [1, 2]}, "holds no weights"),
        ({"epoch": 3}, "holds no weights"),
        ({"model": {"other.weight": torch.zeros(2)}}, "no tensor of (the )?checkpoint .*fits"),
    ],
)
def test_weights_that_are_none_are_refused(engine, config, tmp_path, content, sentence):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=sentence):
        engine.run.train(config(*UNTESTED, "MODEL.WEIGHTS", tmp_path / "weights.pth"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["DATASETS.TEST", "['mini_voc_trainval']"], "8 pictures of the test set"),
        (["DATASETS.TRAIN", "()"], "DATASETS.TRAIN names no data set"),
        (["SOLVER.STEPS", "(2,)"], "the keys of SOLVER give no schedule"),
        (["MODEL.WEIGHTS", "nothing.pth"], "nothing.pth does not exist"),
        (["MODEL.ATTONET.NORM", "FrozenBN"], "frozen batch norms without trained statistics"),
    ],
)
def test_what_cannot_end_well_is_refused(engine, config, options, sentence):
    with pytest.raises(UserError, match=sentence):
        engine.run.train(config(*options))
