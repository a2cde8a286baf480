"""The same experiment files, and an error for what this engine does not support."""

import logging
from pathlib import Path

import pytest
import yaml

from atto_det.config import backbones, resnets
from atto_det.errors import UserError
from atto_det.torchvision import config
from atto_det.torchvision.model import build_model

REPOSITORY = Path(__file__).resolve().parents[2]
OURS = [
    path
    for path in sorted(REPOSITORY.glob("configs/**/*.yaml"))
    if {"explore", "pretrain"}.isdisjoint(path.parts) and not path.name.startswith("Base-recipe")
]


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_every_config_says_the_same_to_both_engines(path):
    pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    from atto_det.detectron2.config import read_file

    theirs = read_file(path)
    assert_within(config.read_file(path), theirs)
    # What a checkpoint of Detectron2 carries: all of its keys.
    text = theirs.dump()
    assert_within(config.config_from_text(text, "it", ["MODEL.DEVICE", "cpu"]), theirs, "DEVICE")


def assert_within(ours, theirs, *others: str) -> None:
    for key, value in ours.items():
        if isinstance(value, dict):
            assert_within(value, theirs[key], *others)
        elif key not in (*others, "ENABLED"):
            assert (
                list(value) == list(theirs[key])
                if isinstance(value, tuple)
                else (value == theirs[key])
            ), key


def test_the_defaults_are_detectron2_s():
    pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    from atto_det.detectron2 import get_cfg

    def compare(ours: dict, theirs: dict, where: str) -> None:
        for key, value in ours.items():
            wanted = theirs[key]
            if isinstance(value, dict):
                compare(value, wanted, f"{where}{key}.")
                continue
            value = value.default if isinstance(value, config.Only) else value
            assert value == wanted, f"{where}{key}"

    compare(config.DEFAULTS, get_cfg(), "")


def test_what_detectron2_would_do_by_default_is_refused_not_changed():
    """Keys whose default this engine does not support are errors where a file leaves them out."""
    with pytest.raises(UserError, match=r"BACKBONE\.NAME is 'build_resnet_backbone'"):
        config.config_from_text("SEED: 1", "it")


CASES = [
    ("MODEL.META_ARCHITECTURE", "RetinaNet", "'GeneralizedRCNN'"),
    ("MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone", "'build_attonet_fpn_backbone'"),
    ("MODEL.FPN.FUSE_TYPE", "avg", "'sum'"),
    ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "'StandardROIHeads'"),
    ("MODEL.ROI_BOX_HEAD.NUM_CONV", "4", "0"),
    ("MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", "True", "False"),
    ("INPUT.CROP.ENABLED", "True", "False"),
    ("DATALOADER.SAMPLER_TRAIN", "RandomSubsetTrainingSampler", "'TrainingSampler' or 'Repeat"),
    ("SOLVER.LR_SCHEDULER_NAME", "WarmupStepWithFixedGammaLR", "'WarmupMultiStepLR'"),
]


@pytest.mark.parametrize(("key", "value", "allowed"), CASES)
def test_a_key_that_cannot_be_honoured_is_an_error(repository, key, value, allowed):
    path = repository / "configs/atto_maskrcnn_voc.yaml"
    with pytest.raises(UserError) as caught:
        config.read_file(path, [key, value])
    assert f"{key} is" in str(caught.value)
    assert f"it supports {allowed}" in str(caught.value)
    assert "--engine detectron2" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MODEL: {MASK_HEAD: 3}", "there is no key MODEL.MASK_HEAD"),
        ("MODEL: {FPN: {OUT_CHANNELS: wide}}", "OUT_CHANNELS takes a whole number"),
        ("SOLVER: {BASE_LR: 1}", "write 1.0"),
    ],
)
def test_mistakes_are_sentences(tmp_path, text, message):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        config.read_file(tmp_path / "own.yaml")


def test_what_other_models_read_is_ignored(repository, tmp_path):
    content = {
        "_BASE_": str(repository / "configs/atto_maskrcnn_voc.yaml"),
        "VERSION": 2,
        "MODEL": {"RETINANET": {"NUM_CONVS": 2}},
        "TEST": {"PRECISE_BN": {"NUM_ITER": 1}},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content))
    cfg = config.read_file(tmp_path / "own.yaml", ["MODEL.RETINANET.NUM_CONVS", "3"])
    assert "RETINANET" not in cfg.MODEL
    assert "NUM_ITER" not in cfg.TEST.PRECISE_BN


def test_keys_that_only_a_resnet_has_are_named(repository, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("atto_det"), "handlers", [caplog.handler])
    path = repository / "configs/atto_maskrcnn_voc.yaml"
    usual = ["MODEL.RESNETS.NORM", "FrozenBN", "MODEL.RESNETS.OUT_FEATURES", "['res5']"]
    config.read_file(path, usual)
    assert not caplog.messages
    config.read_file(path, ["MODEL.RESNETS.RES5_DILATION", "2", "MODEL.RESNETS.NORM", "BN"])
    assert "it ignores NORM BN, RES5_DILATION 2 of MODEL.RESNETS" in caplog.messages[-1]
    resnets.say_what_resnets_alone_have("build_attonet_fpn_backbone", {"DEPTH": [9] * 10**6})
    assert "DEPTH" in caplog.messages[-1]
    assert len(caplog.messages[-1]) < 300


def test_a_resnet_s_keys_are_its_own(repository, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("atto_det"), "handlers", [caplog.handler])
    path = repository / "configs/r50_maskrcnn_voc.yaml"
    cfg = config.read_file(path)
    assert not caplog.messages
    assert (backbones.network(cfg), cfg.MODEL.RESNETS.NORM) == ("resnet50", "BN")
    with pytest.raises(UserError, match=r"RES5_DILATION is 2, .* it supports 1"):
        config.read_file(path, ["MODEL.RESNETS.RES5_DILATION", "2"])
    with pytest.raises(UserError, match=r"NORM is 'GN', .* it supports 'BN' or"):
        config.read_file(path, ["MODEL.RESNETS.NORM", "GN"])
    cfg = config.read_file(path, ["MODEL.RESNETS.DEPTH", "18", "MODEL.DEVICE", "cpu"])
    with pytest.raises(UserError, match="takes RES2_OUT_CHANNELS 64 and NUM_GROUPS 1"):
        build_model(cfg)


def test_the_defaults_of_resnets_are_detectron2_s():
    pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    from atto_det.detectron2 import get_cfg

    theirs = dict(get_cfg().MODEL.RESNETS)
    del theirs["OUT_FEATURES"]
    assert theirs == resnets.DEFAULTS
