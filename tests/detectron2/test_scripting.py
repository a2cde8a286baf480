"""Detectron2's own TorchScript export of its detectors with a network of the registry in them."""

import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2 import model_zoo
from detectron2.export import scripting_with_instances
from detectron2.modeling import build_model
from detectron2.structures import Boxes

from atto_det.detectron2 import add_attonet_config

FOUND = {"pred_boxes": Boxes, "scores": torch.Tensor, "pred_classes": torch.Tensor}
REGIONS = {"proposal_boxes": Boxes, "objectness_logits": torch.Tensor, "pred_masks": torch.Tensor}


def model_of(config: str, backbone: str, *options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    cfg = model_zoo.get_config(config)
    add_attonet_config(cfg)
    cfg.merge_from_list(
        ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.BACKBONE.NAME", backbone]
    )
    cfg.merge_from_list(["MODEL.ATTONET.NAME", "attonet_d", *options])
    return build_model(cfg).eval()


def same(one, other, names) -> None:
    assert len(one) == len(other) > 10
    for name in names:
        a, b = getattr(one, name), getattr(other, name)
        if isinstance(a, Boxes):
            a, b = a.tensor, b.tensor
        assert torch.allclose(a, b, atol=1e-5), name


def test_mask_rcnn():
    model = model_of(
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml",
        "build_attonet_fpn_backbone",
        *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "MODEL.RPN.POST_NMS_TOPK_TEST", 20),
        *("TEST.DETECTIONS_PER_IMAGE", 11, "MODEL.ROI_HEADS.NUM_CLASSES", 4),
        *("MODEL.BACKBONE.FREEZE_AT", 2),  # with frozen norms
    )
    inputs = [{"image": torch.rand(3, 64, 96) * 255}]
    scripted = scripting_with_instances(model, FOUND | REGIONS)
    with torch.no_grad(), torch.jit.optimized_execution(False):  # optimising takes longest
        [wanted] = model.inference(inputs, do_postprocess=False)
        [found] = scripted.inference(inputs, do_postprocess=False)
    same(wanted, found, [*FOUND, "pred_masks"])


def test_retinanet():
    model = model_of(
        "COCO-Detection/retinanet_R_50_FPN_3x.yaml",
        "build_retinanet_attonet_fpn_backbone",
        *("MODEL.RETINANET.SCORE_THRESH_TEST", 0.0, "MODEL.BACKBONE.FREEZE_AT", 0),
    )
    inputs = [{"image": torch.rand(3, 64, 96) * 255}]
    scripted = scripting_with_instances(model, FOUND)
    with torch.no_grad(), torch.jit.optimized_execution(False):
        images = model.preprocess_image(inputs)
        features = [model.backbone(images.tensor)[name] for name in model.head_in_features]
        [wanted] = model.forward_inference(images, features, model.head(features))
        [found] = scripted(inputs)
    same(wanted, found, FOUND)
