"""A Detectron2 model's parts, handed to `atto_det.complexity` with the inputs they have in use."""

import copy

import torch
from detectron2.modeling import FPN, GeneralizedRCNN
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import (
    CascadeROIHeads,
    Res5ROIHeads,
    ROIHeads,
    StandardROIHeads,
)
from torch import Tensor, nn

from atto_det.complexity import Cost, Part, count
from atto_det.errors import UserError


def detector_cost(
    model: GeneralizedRCNN,
    height: int,
    width: int,
    *,
    proposals: int = 1000,
    detections: int = 100,
) -> list[Cost]:
    """Multiply-adds and parameters of a Faster or Mask R-CNN by part, whatever its weights.

    Counted for one picture of `height` by `width` pixels after resizing, padded as in use, with
    exactly `proposals` regions through the box head and `detections` through the mask head. A C4
    model runs its res5 on both, as it does in use. Nothing is computed, and `model` stays as it is.

    Returns:
        bottom_up and fpn (backbone where there is no FPN), rpn, box_head, mask_head.

    Raises:
        UserError: another architecture.
    """
    if not isinstance(model, GeneralizedRCNN) or not isinstance(model.proposal_generator, RPN):
        raise _undefined(model)
    model = copy.deepcopy(model).to("meta").eval()  # shapes alone, no arithmetic
    divisor = max(model.backbone.size_divisibility, 1)
    height, width = (-(-side // divisor) * divisor for side in (height, width))
    images = torch.empty(1, 3, height, width, device="meta")
    parts, features = _backbone(model.backbone, images)
    rpn = model.proposal_generator
    parts.append(("rpn", rpn.rpn_head, ([features[name] for name in rpn.in_features],)))
    parts += _heads(model.roi_heads, features, proposals, detections)
    costs = count(parts)
    if sum(cost.parameters for cost in costs) < sum(p.numel() for p in model.parameters()):
        raise _undefined(model)  # it has parts besides these, as a panoptic model has
    return costs


def _undefined(part: nn.Module) -> UserError:
    return UserError(
        f"the cost of a {type(part).__name__} is not defined here: give a Faster or Mask R-CNN"
    )


def _backbone(backbone: nn.Module, images: Tensor) -> tuple[list[Part], dict[str, Tensor]]:
    with torch.no_grad():
        features = backbone(images)
        if not isinstance(backbone, FPN):
            return [("backbone", backbone, (images,))], features
        bottom = backbone.bottom_up(images)
    parts = [
        ("bottom_up", backbone.bottom_up, (images,)),
        ("fpn", _without_bottom_up(backbone), (bottom,)),
    ]
    return parts, features


def _without_bottom_up(fpn: FPN) -> FPN:
    """`fpn` taking the feature maps of its bottom-up network in place of images."""
    fpn = copy.copy(fpn)
    fpn._modules = dict(fpn._modules, bottom_up=nn.Identity())
    return fpn


def _heads(
    heads: ROIHeads, features: dict[str, Tensor], proposals: int, detections: int
) -> list[Part]:
    def regions(number: int, names: list[str], pooler: nn.Module) -> tuple[Tensor]:
        shape = (number, features[names[0]].shape[1], *pooler.output_size)
        return (torch.empty(shape, device="meta"),)

    if isinstance(heads, Res5ROIHeads):
        box = nn.Sequential(heads.res5, nn.AdaptiveAvgPool2d(1), heads.box_predictor)
        parts = [("box_head", box, regions(proposals, heads.in_features, heads.pooler))]
        if heads.mask_on:
            mask = nn.Sequential(heads.res5, _Layers(heads.mask_head))
            inputs = regions(detections, heads.in_features, heads.pooler)
            parts.append(("mask_head", mask, inputs))
        return parts
    if not isinstance(heads, StandardROIHeads) or isinstance(heads, CascadeROIHeads):
        raise _undefined(heads)
    box = nn.Sequential(heads.box_head, heads.box_predictor)
    parts = [("box_head", box, regions(proposals, heads.box_in_features, heads.box_pooler))]
    if heads.mask_on:
        inputs = regions(detections, heads.mask_in_features, heads.mask_pooler)
        parts.append(("mask_head", _Layers(heads.mask_head), inputs))
    return parts


class _Layers(nn.Module):
    """A mask head up to its logits, without the choice of a class."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.head.layers(x)
