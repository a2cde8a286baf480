"""A detector started from a classifier: the very same features, or an error."""

import copy
import logging

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine.defaults import DefaultPredictor
from detectron2.modeling import build_model

from atto_det import data
from atto_det.detectron2 import AttoCheckpointer, add_attonet_config, run
from atto_det.errors import UserError
from atto_det.nets import create_backbone, reset_lengths
from atto_det.nets.normalisation import Normalisation
from atto_det.weights import backbone_file, checkpoint

UNTESTED = ["DATASETS.TEST", "()"]
BGR = ["INPUT.FORMAT", "BGR", "MODEL.PIXEL_STD", [1.0, 1.0, 1.0]]
BGR += ["MODEL.PIXEL_MEAN", [103.53, 116.28, 123.675]]
RETINANET = ["MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.RETINANET.NUM_CLASSES", 20]
RETINANET += ["MODEL.BACKBONE.NAME", "build_retinanet_attonet_fpn_backbone"]
RETINANET += ["MODEL.FPN.IN_FEATURES", ["res3", "res4", "res5"]]
SEPARABLE = ["MODEL.BACKBONE.NAME", "build_separable_fpn_backbone"]
ALONE = ["MODEL.BACKBONE.NAME", "build_attonet_backbone", "MODEL.RPN.IN_FEATURES", ["res4"]]
ALONE += ["MODEL.ROI_HEADS.IN_FEATURES", ["res4"], "MODEL.RESNETS.OUT_FEATURES", ["res4"]]
ALONE += ["MODEL.ANCHOR_GENERATOR.SIZES", [[32]]]
SHORT = ["MODEL.FPN.IN_FEATURES", ["res2", "res3"], "MODEL.RPN.IN_FEATURES", ["p2", "p3"]]
SHORT += ["MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3"], "MODEL.ANCHOR_GENERATOR.SIZES", [[16], [32]]]


@pytest.fixture
def picture(mini_voc):
    """A drawn scene (61, 83, 3) in RGB, of a size that Detectron2 pads."""
    path = min((mini_voc / "mini_voc/JPEGImages").glob("*.jpg"))
    return data.read_image(path)[:61, :83]


def features(model, net, picture, order) -> tuple[dict, dict]:
    """What the detector's AttoNet gives of an RGB picture, and what the classifier's gives.

    The detector prepares the picture, in its channel order, by itself. The classifier gets it as in
    its training, and padded with zeros to the size of the detector's batch.
    """
    image = torch.tensor(picture.transpose(2, 0, 1).copy())  # uint8 (3, H, W)
    model = model.double().eval()
    item = {"image": image if order == "RGB" else image.flip(0)}
    batch = model.preprocess_image([item]).tensor
    bottom_up = getattr(model.backbone, "bottom_up", model.backbone)

    body = create_backbone("attonet_d", bottom_up.out_features).double().eval()
    trained = net.state_dict()
    body.load_state_dict({key: trained[key] for key in body.state_dict()})
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)[:, None, None]
    x = (image.double() / 255 - mean) / std
    height, width = batch.shape[2:]
    x = F.pad(x, (0, width - x.shape[2], 0, height - x.shape[1]))
    with torch.no_grad():
        return bottom_up(batch), body(x[None])


def largest_error(found, expected) -> float:
    """Over all features and places, borders included, in parts of the largest value of each map."""
    assert found.keys() == expected.keys()
    errors = []
    for name, value in found.items():
        assert value.shape == expected[name].shape
        assert expected[name].abs().max() > 0.1
        errors.append((value - expected[name]).abs().max() / expected[name].abs().max())
    return float(max(errors))


def loaded(cfg, path):
    """A detector of `cfg` started from `path` as the trainer does."""
    model = build_model(cfg)
    AttoCheckpointer(model, cfg=cfg, class_names=[]).resume_or_load(str(path), resume=False)
    return model


DETECTORS = {
    "fpn": [],
    "separable": SEPARABLE,
    "retinanet": RETINANET,
    "alone": ALONE,
    "short": SHORT,
    "frozen": ["MODEL.ATTONET.NORM", "FrozenBN"],
    "freeze_at": ["MODEL.BACKBONE.FREEZE_AT", 3],
    "std": ["MODEL.PIXEL_STD", [50.0, 60.0, 70.0]],
}


@pytest.mark.parametrize(
    ("options", "order"),
    [
        *(pytest.param(options, BGR, id=f"{name}-BGR") for name, options in DETECTORS.items()),
        *(pytest.param(DETECTORS[name], [], id=f"{name}-RGB") for name in ("fpn", "std", "short")),
    ],
)
def test_the_features_are_the_classifiers(config, backbone, picture, options, order):
    path, net = backbone()
    cfg = config(*order, *options)
    model = loaded(cfg, path)
    # Weights of norms are rounded once more where filters got another length.
    assert largest_error(*features(model, net, picture, cfg.INPUT.FORMAT)) < 1e-4


def test_the_comparison_sees_a_wrong_stem(config, backbone, picture):
    path, net = backbone()
    state, description = backbone_file.read_backbone(path)
    wrong = {backbone_file.STEM: state[backbone_file.STEM].flip(1)}
    backbone_file.write_backbone(path, state | wrong, description)
    assert largest_error(*features(loaded(config(), path), net, picture, "RGB")) > 1e-2


def stock_config(network="attonet_d"):
    """Detectron2's own Mask R-CNN (BGR, std 1, FREEZE_AT 2) with an AttoNet in it."""
    cfg = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml")
    add_attonet_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_attonet_fpn_backbone"
    cfg.MODEL.ATTONET.NAME = network
    cfg.MODEL.DEVICE = "cpu"
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 2
    return cfg


def exported(classifier, cfg, tmp_path):
    """A `.pth` for detectors of `cfg`, and the classifier."""
    path, net = classifier()
    fed = Normalisation.of_detector(cfg, "the test")
    backbone_file.write_detectron2(tmp_path / "a.pth", *backbone_file.read_pretraining(path), fed)
    return tmp_path / "a.pth", net


@pytest.mark.parametrize("freeze_at", [0, 2])
def test_detectron2s_own_checkpointer_on_its_own_config(classifier, picture, tmp_path, freeze_at):
    cfg = stock_config()
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    path, net = exported(classifier, cfg, tmp_path)
    cfg.MODEL.WEIGHTS = str(path)
    model = DefaultPredictor(cfg).model
    assert largest_error(*features(model, net, picture, "BGR")) < 1e-5
    model.backbone.bottom_up.train()  # the stem is frozen, and not refused
    model.backbone.bottom_up(torch.randn(2, 3, 64, 64, dtype=torch.float64))


def test_detectron2s_own_checkpointer_on_an_rgb_config(config, classifier, picture, tmp_path):
    cfg = config()
    path, net = exported(classifier, cfg, tmp_path)
    model = build_model(cfg)
    rest = DetectionCheckpointer(model).load(str(path))
    assert "attonet_d" in rest[backbone_file.PART]["network"]
    assert largest_error(*features(model, net, picture, "RGB")) < 1e-5


def test_our_trainer_checks_a_file_for_detectron2(config, classifier, picture, tmp_path):
    path, net = exported(classifier, config(*BGR), tmp_path)
    for cfg in (config(*BGR), config()):  # one that it was made for, and one that it was not
        model = loaded(cfg, path)
        assert largest_error(*features(model, net, picture, cfg.INPUT.FORMAT)) < 1e-4
    with pytest.raises(UserError, match=r"holds attonet_d, but MODEL.ATTONET.NAME is attonet_c"):
        loaded(config("MODEL.ATTONET.NAME", "attonet_c"), path)
    content = checkpoint.load_checkpoint(path)
    content["model"].popitem()
    checkpoint.save_checkpoint(path, content)
    with pytest.raises(UserError, match="was damaged or modified"):
        loaded(config(), path)


@pytest.fixture
def said(caplog, monkeypatch):
    """A function that returns what was logged of the loading since it was last called."""
    logger = logging.getLogger("atto_det.weights.transfer")
    caplog.set_level(logging.INFO, logger.name)
    monkeypatch.setattr(logger, "propagate", False)  # its parent may pass nothing on to caplog
    logger.addHandler(caplog.handler)

    def text() -> str:
        lines = [r.getMessage() for r in caplog.records if r.name == logger.name]
        caplog.clear()
        return "\n".join(lines)

    yield text
    logger.removeHandler(caplog.handler)


def test_log_lines_say_what_was_loaded(config, backbone, said):
    path, _ = backbone()
    loaded(config(*BGR), path)
    text = said()
    assert f"{path}: attonet_d, top-1 31.4 % on 2500 pictures, trained on 7500 pictures of " in text
    assert "loaded 414 tensors into backbone.bottom_up, all that it has; absorbed by the " in text
    assert "std [57.375, 57.12, 58.395] to [1.0, 1.0, 1.0], RGB to BGR" in text
    assert "from random weights start: FPN, proposal_generator, roi_heads (" in text
    assert "no classifier head" in text
    loaded(config(*ALONE), path)
    text = said()
    assert "into backbone, all that it has (res5 of the file not used)" in text
    assert "nothing, the detector normalises as the training did" in text
    assert "start: proposal_generator, roi_heads (" in text
    loaded(config(*SHORT), path)
    assert "(res4 and res5 of the file not used)" in said()


def test_another_mean_is_refused_with_the_one_to_set(config, backbone):
    path, _ = backbone()
    with pytest.raises(UserError, match=r"set MODEL.PIXEL_MEAN to \[103.53, 116.28, 123.675\] \("):
        loaded(config("INPUT.FORMAT", "BGR"), path)
    with pytest.raises(UserError, match=r"set MODEL.PIXEL_MEAN to \[123.675, 116.28, 103.53\] \("):
        loaded(config("MODEL.PIXEL_MEAN", [0.0, 0.0, 0.0]), path)
    with pytest.raises(UserError, match=r"the channel order is 'L'.*INPUT.FORMAT"):
        loaded(config("INPUT.FORMAT", "L"), path)


def test_what_does_not_fit_is_named_and_nothing_is_loaded(config, backbone, tmp_path):
    path, _ = backbone()
    cfg = config()
    state, description = backbone_file.read_backbone(path)
    key = "res4.2.mix.conv.weight"
    bad = tmp_path / "bad.safetensors"
    for change, text in (
        ({"extra.weight": torch.zeros(1)}, r"1 tensor is left over \(extra.weight\)"),
        ({"res4.9.x": torch.zeros(1)}, r"1 tensor is left over \(res4.9.x\)"),
        ({key: state[key][:2]}, rf"1 tensor is of another shape \({key}\)"),
        ({key: None}, rf"1 tensor is missing \({key}\)"),
        (dict.fromkeys(k for k in state if k.startswith("res3.0")), r"missing \(.*, .*, .*, …\)"),
    ):
        changed = {k: v for k, v in (state | change).items() if v is not None}
        backbone_file.write_backbone(bad, changed, description)
        model = build_model(cfg)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        with pytest.raises(UserError, match=text):
            AttoCheckpointer(model, cfg=cfg, class_names=[]).load(str(bad), checkpointables=[])
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    bad.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(UserError, match="is not a safetensors file, or a damaged one"):
        loaded(cfg, bad)
    with pytest.raises(UserError, match=r"holds attonet_d, but MODEL.ATTONET.NAME is attonet_c"):
        loaded(config("MODEL.ATTONET.NAME", "attonet_c"), path)
    resnet = ["MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.RESNETS.DEPTH", 18]
    resnet += ["MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
    resnet += ["MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"]]
    with pytest.raises(UserError, match="build_resnet_fpn_backbone builds no AttoNet"):
        loaded(config(*resnet), path)


@pytest.mark.parametrize(
    ("options", "frozen"),
    [
        ((), ()),
        (("MODEL.ATTONET.NORM", "FrozenBN"), ("",)),
        (("MODEL.BACKBONE.FREEZE_AT", 2), ("stem.", "res2.")),
    ],
)
def test_training_starts_from_the_file(config, backbone, tmp_path, options, frozen):
    """Steps too small to change a weight; frozen norms are not refused, as they are trained."""
    path, net = backbone()
    still = [*UNTESTED, *options, "SOLVER.BASE_LR", 1e-30, "MODEL.WEIGHTS", path]
    run.train(config(*still))
    model = checkpoint.load_checkpoint(tmp_path / "out/model_final.pth")["model"]
    trained = copy.deepcopy(net.state_dict())
    reset_lengths(net)  # of filters whose norms train
    expected = {
        key: trained[key] if key.startswith(frozen) else value
        for key, value in backbone_file.without_head(net.state_dict()).items()
    }
    compared = 0
    for key, value in expected.items():
        if "running_" not in key and "num_batches" not in key:
            assert torch.equal(model[f"backbone.bottom_up.{key}"], value), key
            compared += 1
    assert compared == 69 * 3
    frozen = model["backbone.bottom_up.stem.conv.norm.running_mean"]
    assert torch.equal(frozen, expected["stem.conv.norm.running_mean"]) == bool(options)


def test_a_resumed_run_does_not_load_it_again(config, backbone, said):
    path, _ = backbone()
    options = [*UNTESTED, "MODEL.WEIGHTS", path, "SOLVER.STEPS", "()"]
    run.train(config(*options))
    assert "loaded 414 tensors" in said()
    path.unlink()
    run.train(config(*options, "SOLVER.MAX_ITER", 3), resume=True)
    assert said() == ""


def test_there_is_nothing_to_evaluate_in_it(config, backbone, classifier, tmp_path):
    path, _ = backbone()
    with pytest.raises(UserError, match=r"safetensors lacks \d+ tensors of the model, the first "):
        run.evaluate(config("MODEL.WEIGHTS", path))
    with pytest.raises(UserError, match="holds a backbone and no config: give --config-file"):
        run.read_config(None, ["MODEL.WEIGHTS", str(path)])
    path, _ = exported(classifier, config(), tmp_path)
    with pytest.raises(UserError, match=r"tensors of checkpoint .* do not fit the config"):
        run.evaluate(config("MODEL.WEIGHTS", path))
