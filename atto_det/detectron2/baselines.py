"""The models that ours are compared with, from Detectron2's model zoo and from torchvision."""

import copy

import torch
from detectron2.modeling import build_model
from torch import nn

from atto_det.complexity import Part
from atto_det.errors import UserError

from .complexity import split
from .config import MODEL_ZOO, read_file

ZOO_CONFIGS = {
    "r50-fpn": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml",
    "r50-c4": "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x.yaml",
}
BASELINES = (*ZOO_CONFIGS, "torchvision")
RESNET_STAGES = {f"layer{index}": f"res{index + 1}" for index in range(1, 5)}


def build_baseline(name: str, classes: int) -> tuple[nn.Module, str]:
    """One of `BASELINES` for so many classes, with random weights, and its origin.

    Raises:
        UserError: no such baseline.
    """
    if name not in BASELINES:
        known = ", ".join(BASELINES)
        raise UserError(f"there is no baseline {name}: choose among {known}, or give a YAML file")
    if name == "torchvision":
        from torchvision.models import detection

        model = detection.maskrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=classes + 1
        )
        return model.eval(), "torchvision.models.detection.maskrcnn_resnet50_fpn"
    cfg = read_file(MODEL_ZOO / ZOO_CONFIGS[name])
    cfg.MODEL.DEVICE, cfg.MODEL.ROI_HEADS.NUM_CLASSES = "cpu", classes
    return build_model(cfg).eval(), f"Detectron2 model zoo, {ZOO_CONFIGS[name]}"


def torchvision_parts(
    model: nn.Module, height: int, width: int, *, proposals: int, detections: int
) -> list[Part]:
    """The parts of torchvision's Mask R-CNN, by the rules and names of `detector_parts`.

    `height` and `width` are rounded up to multiples of 32, since torchvision pads to these.
    """
    model = copy.deepcopy(model).to("meta").eval()
    height, width = (-(-side // 32) * 32 for side in (height, width))
    images = torch.empty(1, 3, height, width, device="meta")
    body, heads = model.backbone.body, model.roi_heads
    with torch.no_grad():
        bottom, features = body(images), model.backbone(images)
    stages = split(("bottom_up", body, (images,)))
    parts = [(RESNET_STAGES.get(name, "stem"), child, inputs) for name, child, inputs in stages]
    parts.append(("fpn", model.backbone.fpn, (bottom,)))
    parts.append(("rpn", model.rpn.head, (list(features.values()),)))
    channels = model.backbone.out_channels
    for name, number, pooler, modules in (
        ("box_head", proposals, heads.box_roi_pool, (heads.box_head, heads.box_predictor)),
        ("mask_head", detections, heads.mask_roi_pool, (heads.mask_head, heads.mask_predictor)),
    ):
        regions = torch.empty(number, channels, *pooler.output_size, device="meta")
        parts.append((name, nn.Sequential(*modules), (regions,)))
    return parts
