"""AttoNets as Detectron2 backbones: freezing, what is refused and when, stock DefaultTrainer."""

import copy
import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import DefaultTrainer
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_model
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils.events import EventStorage

from atto_det import create_backbone, create_classifier
from atto_det.detectron2 import AttoCheckpointer, add_attonet_config, get_cfg
from atto_det.detectron2.backbone import build_attonet_backbone
from atto_det.errors import UserError
from atto_det.training.keys import KEYS

FASTER_RCNN = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"


def swapped(zoo_name: str = FASTER_RCNN, **attonet: str) -> CfgNode:
    """A zoo config with AttoNet-D, sampling few regions."""
    cfg = model_zoo.get_config(zoo_name)
    add_attonet_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_attonet_fpn_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.ATTONET.NAME = attonet.get("name", "attonet_d")
    cfg.MODEL.ATTONET.NORM = attonet.get("norm", "BN")
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = 50
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = 10
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 8
    return cfg


def training_step(model: nn.Module) -> dict[str, torch.Tensor]:
    """The losses of one step, gradients computed."""
    objects = Instances((96, 96))
    objects.gt_boxes = Boxes(torch.tensor([[10.0, 10, 60, 80]]))
    objects.gt_classes = torch.tensor([0])
    image = torch.randint(0, 256, (3, 96, 96), dtype=torch.uint8)
    with EventStorage():
        losses = model.train()([{"image": image, "instances": objects}] * 2)
        sum(losses.values()).backward()
    return losses


def trained_weights(name: str = "attonet_d") -> dict[str, torch.Tensor]:
    """Weights of a classifier whose batch norms have seen pictures."""
    net = create_classifier(name, 3)
    with torch.no_grad():
        net(torch.randn(2, 3, 64, 64))
    return net.state_dict()


@pytest.mark.parametrize(("freeze_at", "norm"), [(2, "BN"), (0, "FrozenBN")])
def test_frozen_norms_need_trained_weights_when_training_starts(tmp_path, freeze_at, norm):
    cfg = swapped(norm=norm)
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    model = build_model(cfg)  # building is fine
    with torch.no_grad():
        model.eval()([{"image": torch.zeros(3, 96, 96)}])  # and so is inference
    with pytest.raises(UserError, match=r"MODEL.WEIGHTS.*FREEZE_AT.*MODEL.ATTONET.NORM"):
        training_step(model)
    # Detectron2's own checkpointer; its heuristics put a classifier's names where they belong.
    path = tmp_path / "attonet_d.pth"
    torch.save({"model": trained_weights(), "matching_heuristics": True}, path)
    DetectionCheckpointer(model).load(str(path))
    losses = training_step(model)
    assert all(loss.isfinite() for loss in losses.values())
    bottom_up = model.backbone.bottom_up
    frozen = ("stem", "res2")[:freeze_at]
    for key, parameter in bottom_up.named_parameters():
        assert (parameter.grad is None) == key.startswith(frozen), key


def test_weights_of_which_none_fits_are_refused(tmp_path):
    cfg = swapped()
    path = tmp_path / "attonet_d.pth"
    torch.save({"model": trained_weights()}, path)  # without backbone.bottom_up before each name
    checkpointer = AttoCheckpointer(build_model(cfg), cfg=cfg, class_names=["cat"])
    with pytest.raises(UserError, match="no tensor of the checkpoint fits"):
        checkpointer.load(str(path))


@pytest.mark.parametrize("freeze_at", [0, 1, 3, 5])
def test_freeze_at_freezes_what_it_does_in_resnet(freeze_at):
    cfg = swapped()
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    ours = build_model(cfg).backbone.bottom_up
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.NORM = "BN"
    resnet = build_model(cfg).backbone.bottom_up
    for part in ("stem", "res2", "res3", "res4", "res5"):
        for kind in (nn.Conv2d, nn.BatchNorm2d):
            assert trains(getattr(ours, part), kind) == trains(getattr(resnet, part), kind), part


def trains(part: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a layer of `kind` within `part` has parameters that training changes."""
    layers = [layer for layer in part.modules() if isinstance(layer, kind)]
    return any(p.requires_grad for layer in layers for p in layer.parameters())


def test_freeze_at_has_a_range():
    cfg = swapped()
    cfg.MODEL.BACKBONE.FREEZE_AT = 6
    with pytest.raises(UserError, match=r"MODEL\.BACKBONE\.FREEZE_AT is 6"):
        build_model(cfg)


@pytest.mark.parametrize(
    "zoo_name",
    [
        "COCO-Detection/faster_rcnn_R_50_C4_3x.yaml",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x.yaml",
    ],
)
@pytest.mark.parametrize("builder", ["build_attonet_backbone", "build_attonet_fpn_backbone"])
def test_c4_is_refused(zoo_name, builder):
    cfg = swapped(zoo_name)
    cfg.MODEL.BACKBONE.NAME = builder
    with pytest.raises(UserError, match=r"Res5ROIHeads .*FPN config"):
        build_model(cfg)


def test_unknown_names_list_the_known_ones():
    known = "attonet_a, attonet_b, attonet_c, attonet_d"
    with pytest.raises(UserError, match=f"MODEL.ATTONET.NAME is 'attonet_z'.*{known}"):
        build_model(swapped(name="attonet_z"))
    with pytest.raises(UserError, match="BN, FrozenBN, SyncBN"):
        build_model(swapped(norm="GN"))


def test_retinanet_needs_res5():
    cfg = swapped("COCO-Detection/retinanet_R_50_FPN_3x.yaml")
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_attonet_fpn_backbone"
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4"]
    with pytest.raises(UserError, match="p6 and p7 need res5"):
        build_model(cfg)


def test_features_of_other_networks_are_refused():
    cfg = swapped()
    cfg.MODEL.FPN.IN_FEATURES = ["conv4", "res5"]
    with pytest.raises(UserError, match=r"stem, res2, res3, res4, res5.*conv4"):
        build_model(cfg)
    with pytest.raises(UserError, match=r"3 channels.*has 4"):
        build_backbone(swapped(), ShapeSpec(channels=4))


def test_the_backbone_alone():
    cfg = get_cfg()
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"  # Detectron2's default is a C4 model
    cfg.MODEL.BACKBONE.NAME = "build_attonet_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.ATTONET.NAME = "attonet_c"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res5", "res3"]
    ours = build_backbone(cfg).eval()
    plain = create_backbone("attonet_c", ("res3", "res5")).eval()
    ours.load_state_dict(plain.state_dict())
    assert ours.output_shape() == {
        "res3": ShapeSpec(channels=328, stride=8),
        "res5": ShapeSpec(channels=527, stride=32),
    }
    x = torch.randn(1, 3, 70, 90)
    with torch.no_grad():
        found, expected = ours(x), plain(x)
    assert all(torch.equal(found[key], expected[key]) for key in ("res3", "res5"))


def test_adding_the_keys_changes_no_other():
    cfg = model_zoo.get_config(FASTER_RCNN)
    before = copy.deepcopy(cfg)
    add_attonet_config(cfg)
    assert cfg.MODEL.ATTONET.NAME == "attonet_a"
    assert cfg.MODEL.ATTONET.NORM == "BN"
    del cfg.MODEL["ATTONET"], cfg.MODEL["SEPARABLE"]
    for key in ("FOLDERS", "COCO", "NO_HORIZONTAL_FLIP"):
        del cfg.DATASETS[key]
    del cfg.MODEL["TIMM"], cfg.MODEL.BACKBONE["GRADIENT_CHECKPOINTING"]
    for section, keys in KEYS.items():
        for key in keys:
            del cfg[section][key]
    assert cfg == before


@pytest.fixture
def tiny_dataset(tmp_path):
    """Four pictures of a rectangle each, registered as a user of Detectron2 would."""
    rng = np.random.default_rng(0)
    dicts = []
    for index in range(4):
        file = tmp_path / f"{index}.png"
        pixels = rng.integers(0, 80, (96, 128, 3), dtype=np.uint8)
        pixels[20:70, 30:100] += 120
        Image.fromarray(pixels).save(file)
        rectangle = {
            "bbox": [30, 20, 100, 70],
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": 0,
            "segmentation": [[30, 20, 100, 20, 100, 70, 30, 70]],
        }
        dicts.append(
            {
                "file_name": str(file),
                "image_id": index,
                "height": 96,
                "width": 128,
                "annotations": [rectangle],
            }
        )
    DatasetCatalog.register("tiny", lambda: dicts)
    MetadataCatalog.get("tiny").set(thing_classes=["rectangle"])
    yield "tiny"
    DatasetCatalog.remove("tiny")
    MetadataCatalog.remove("tiny")


def test_stock_default_trainer(tmp_path, tiny_dataset):
    cfg = swapped("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml")
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (tiny_dataset,), ()
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.DATALOADER.NUM_WORKERS = (96,), 0
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = 2, 2, ()
    cfg.OUTPUT_DIR = str(tmp_path / "output")
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=False)
    before = trainer.model.backbone.bottom_up.stem.conv.conv.weight.detach().clone()
    trainer.train()
    after = trainer.model.backbone.bottom_up.stem.conv.conv.weight
    assert not torch.equal(before, after)
    written = tmp_path / "output"
    assert (written / "model_final.pth").is_file()
    last = json.loads((written / "metrics.json").read_text().splitlines()[-1])
    assert np.isfinite(last["total_loss"])


def test_a_resnet_can_start_as_attonets_do():
    cfg = model_zoo.get_config(FASTER_RCNN)
    cfg.MODEL.RESNETS.NORM = "BN"
    usual = build_backbone(cfg)
    add_attonet_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_started_as_attonet_backbone"
    backbone = build_backbone(cfg)
    shapes = [{k: v.shape for k, v in net.state_dict().items()} for net in (usual, backbone)]
    assert shapes[0] == shapes[1]
    stem, last = backbone.bottom_up.stem.conv1, backbone.bottom_up.res5[2]
    for conv in (stem, last.conv2):  # 0.4 of PyTorch's, which are uniform up to 1 / sqrt(inputs)
        bound = 0.4 * conv.weight[0].numel() ** -0.5
        assert 0.99 * bound < conv.weight.abs().max() <= bound
    zero = {
        name: not block.conv3.norm.weight.any()
        for name, block in backbone.bottom_up.named_modules()
        if hasattr(block, "conv3")
    }
    assert len(zero) == 16  # bottlenecks; the first of each stage changes the channels
    assert {name for name, is_zero in zero.items() if not is_zero} == {
        f"res{stage}.0" for stage in (2, 3, 4, 5)
    }
    for norm in ("", "FrozenBN"):
        cfg.MODEL.RESNETS.NORM = norm
        with pytest.raises(UserError, match=f"MODEL.RESNETS.NORM is '{norm}': starting at zero"):
            build_backbone(cfg)


def test_keys_that_only_a_resnet_has_are_named(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("atto_det"), "handlers", [caplog.handler])
    cfg = get_cfg()
    cfg.MODEL.RESNETS.OUT_FEATURES, cfg.MODEL.BACKBONE.FREEZE_AT = ["res5"], 0
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ATTONET.NAME = "StandardROIHeads", "attonet_d"
    build_attonet_backbone(cfg)
    assert not caplog.messages
    cfg.MODEL.RESNETS.RES5_DILATION, cfg.MODEL.RESNETS.NORM = 2, "BN"
    build_attonet_backbone(cfg)
    line = caplog.messages[0]
    assert "it ignores NORM BN, RES5_DILATION 2 of MODEL.RESNETS" in line
