"""Detectron2's own configs take every network by changing names alone: one step, one inference."""

import itertools

import pytest
import torch
from awake import awake

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2 import model_zoo
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

from atto_det.detectron2 import add_attonet_config
from atto_det.nets import ATTENDNETS, STAGES

ZOO = {
    "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml": {"pred_boxes"},
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml": {"pred_boxes", "pred_masks"},
    "Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml": {"pred_boxes", "pred_masks"},
    "COCO-Detection/retinanet_R_50_FPN_3x.yaml": {"pred_boxes"},
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_3x.yaml": {"pred_boxes", "pred_masks"},
}
CHANNELS = {
    "attonet_a": [176, 400, 808, 952],
    "attonet_b": [168, 368, 728, 736],
    "attonet_c": [139, 328, 628, 527],
    "attonet_d": [112, 264, 467, 140],
    **{
        name: [getattr(spec, stage)[0].expand for stage in STAGES]
        for name, spec in ATTENDNETS.items()
    },
}


def swapped(zoo_name: str, variant: str) -> CfgNode:
    """A config of Detectron2 with an AttoNet in it: what a user changes, and no more."""
    cfg = model_zoo.get_config(zoo_name)
    add_attonet_config(cfg)
    retinanet = cfg.MODEL.META_ARCHITECTURE == "RetinaNet"
    cfg.MODEL.BACKBONE.NAME = (
        "build_retinanet_attonet_fpn_backbone" if retinanet else "build_attonet_fpn_backbone"
    )
    cfg.MODEL.ATTONET.NAME = variant
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def fewer_regions(cfg: CfgNode) -> CfgNode:
    """The same model, sampling less, so that the test is quick."""
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 50
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 10
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 8
    return cfg


def pictures() -> list[dict]:
    """Two pictures of two sizes, two objects each, as Detectron2's mapper gives them."""
    result = []
    for height, width in ((128, 96), (96, 128)):
        objects = Instances((height, width))
        objects.gt_boxes = Boxes(torch.tensor([[8.0, 8, 60, 80], [40, 30, 90, 90]]))
        objects.gt_classes = torch.tensor([0, 1])
        objects.gt_masks = PolygonMasks(
            [[[8.0, 8, 60, 8, 60, 80, 8, 80]], [[40.0, 30, 90, 30, 90, 90]]]
        )
        result.append(
            {
                "image": torch.randint(0, 256, (3, height, width), dtype=torch.uint8),
                "instances": objects,
                "sem_seg": torch.randint(0, 54, (height, width)),
                "height": 2 * height,
                "width": 2 * width,
            }
        )
    return result


def of_every_kind() -> list:
    """Each detector with a network of each family, and each network in Mask R-CNN; others slow."""
    pairs = []
    for zoo_name, variant in itertools.product(ZOO, CHANNELS):
        quick = "/mask_rcnn" in zoo_name or variant in ("attonet_d", "attendnet_b")
        marks = () if quick else pytest.mark.slow
        name = f"{zoo_name.rpartition('/')[2][:-5]}-{variant}"
        pairs.append(pytest.param(zoo_name, variant, marks=marks, id=name))
    return pairs


@pytest.mark.parametrize(("zoo_name", "variant"), of_every_kind())
def test_a_training_step_and_an_inference(zoo_name, variant):
    torch.manual_seed(0)
    cfg = fewer_regions(swapped(zoo_name, variant))
    model = build_model(cfg)
    bottom_up = model.backbone.bottom_up
    awake(bottom_up)
    shapes = bottom_up.output_shape()
    features = cfg.MODEL.FPN.IN_FEATURES
    assert list(shapes) == features
    assert [shapes[key].channels for key in features] == CHANNELS[variant][-len(features) :]
    assert [shapes[key].stride for key in features] == [4, 8, 16, 32][-len(features) :]
    batch = pictures()
    with EventStorage():
        losses = model(batch)
        assert losses
        assert all(loss.isfinite() for loss in losses.values()), losses
        sum(losses.values()).backward()
    for key, parameter in bottom_up.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key
    model.eval()
    with torch.no_grad():
        outputs = model(batch)
    for item, output in zip(batch, outputs, strict=True):
        assert output["instances"].image_size == (item["height"], item["width"])
        assert ZOO[zoo_name] <= set(output["instances"].get_fields())
        assert output["instances"].pred_boxes.tensor.isfinite().all()
        if "panoptic" in zoo_name:
            assert output["sem_seg"].shape == (54, item["height"], item["width"])
            assert output["panoptic_seg"][0].shape == (item["height"], item["width"])
