"""The parts of a Detectron2 model for `atto_det.complexity`, with the inputs they get in use."""

import copy
import functools

import torch
from detectron2.layers import DeformConv, ModulatedDeformConv
from detectron2.modeling import FPN, GeneralizedRCNN, ProposalNetwork, SemanticSegmentor
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import (
    CascadeROIHeads,
    Res5ROIHeads,
    ROIHeads,
    StandardROIHeads,
)
from torch import Tensor, nn
from torch.nn import functional as F

from atto_det.complexity import Cost, Part, count, merge
from atto_det.complexity.count import WithoutNorms
from atto_det.errors import UserError


def detector_cost(
    model: nn.Module,
    height: int,
    width: int,
    *,
    proposals: int = 1000,
    detections: int = 100,
    stages: bool = False,
) -> list[Cost]:
    """Multiply-adds, activations and parameters of a Detectron2 model by part.

    It supports any R-CNN (Fast, Faster, Mask, Keypoint, Cascade, Panoptic FPN), an RPN alone, dense
    detectors (RetinaNet, FCOS) and semantic segmentors. Whatever the weights, it counts one picture
    of `height` by `width` pixels after resizing, padded as in use, with exactly `proposals` regions
    through the box head (through each stage of a cascade), and `detections` through the mask and
    keypoint heads. A C4 model runs its res5 on both, as in use. A deformable convolution counts as
    a plain one of the same size, plus the one that computes its offsets; its sampling, like
    ROIAlign's, counts as zero. Nothing is computed, and `model` is not changed.

    Returns:
        bottom_up and fpn (backbone if there is no FPN), then those of rpn, box_head, mask_head,
        keypoint_head, dense_head, sem_seg_head that exist. With `stages`, the bottom-up network is
        replaced by its children (stem, res2, … res5), and the res5 of a C4 model is listed
        separately from its heads; a network that is not a chain of children stays whole.

    Raises:
        UserError: an unsupported architecture.
    """
    parts = detector_parts(
        model, height, width, proposals=proposals, detections=detections, stages=stages
    )
    costs = merge(count(parts))
    if sum(cost.parameters for cost in costs) < sum(p.numel() for p in model.parameters()):
        raise _undefined(model)  # it has further parts
    return costs


def detector_parts(
    model: nn.Module,
    height: int,
    width: int,
    *,
    proposals: int,
    detections: int,
    stages: bool,
) -> list[Part]:
    """The parts that `detector_cost` counts, on the meta device, with their inputs.

    A name may occur more than once: the res5 of a C4 model runs on proposals and again on
    detections, and a cascade has several box heads.

    Raises:
        UserError: an unsupported architecture.
    """
    if not isinstance(model, GeneralizedRCNN | ProposalNetwork | DenseDetector | SemanticSegmentor):
        raise _undefined(model)
    model = copy.deepcopy(model).to("meta").eval()  # only shapes are computed
    for module in model.modules():
        if isinstance(module, DeformConv | ModulatedDeformConv):
            module.forward = functools.partial(_plain_convolution, module)
    divisor = max(model.backbone.size_divisibility, 1)
    height, width = (-(-side // divisor) * divisor for side in (height, width))
    images = torch.empty(1, 3, height, width, device="meta")
    parts, features = _backbone(model.backbone, images, stages)
    rpn = getattr(model, "proposal_generator", None)  # none in a Fast R-CNN
    if rpn is not None:
        if not isinstance(rpn, RPN):
            raise _undefined(rpn)
        parts.append(("rpn", rpn.rpn_head, ([features[name] for name in rpn.in_features],)))
    if isinstance(model, GeneralizedRCNN):
        parts += _heads(model.roi_heads, features, proposals, detections, stages)
    if isinstance(model, DenseDetector):
        maps = [features[name] for name in model.head_in_features]
        parts.append(("dense_head", model.head, (maps,)))
    if hasattr(model, "sem_seg_head"):  # a semantic segmentor or a panoptic FPN
        parts.append(("sem_seg_head", model.sem_seg_head, (features,)))
    return parts


def _undefined(part: nn.Module) -> UserError:
    return UserError(
        f"the cost of a {type(part).__name__} is not defined here: give an R-CNN, RPN, RetinaNet, "
        "FCOS or semantic segmentor of Detectron2"
    )


def _plain_convolution(module: nn.Module, x: Tensor, *offsets: Tensor) -> Tensor:
    """A deformable convolution without its offsets, in a form that torch's counter knows."""
    x = F.conv2d(
        x, module.weight, module.bias, module.stride, module.padding, module.dilation, module.groups
    )
    for then in (module.norm, module.activation):
        x = x if then is None else then(x)
    return x


def _backbone(
    backbone: nn.Module, images: Tensor, stages: bool
) -> tuple[list[Part], dict[str, Tensor]]:
    has_fpn = isinstance(backbone, FPN)
    bottom_up = backbone.bottom_up if has_fpn else backbone
    parts = [("bottom_up" if has_fpn else "backbone", bottom_up, (images,))]
    with torch.no_grad(), WithoutNorms():
        features = bottom_up(images)
        if has_fpn:
            parts.append(("fpn", _without_bottom_up(backbone), (features,)))
            features = parts[-1][1](features)
    if stages:
        parts[:1] = split(parts[0])
    return parts, features


def split(part: Part) -> list[Part]:
    """The children of a part's module with their inputs; the part itself if it is not a chain."""
    name, module, inputs = part
    children, hooks = [], []

    def note(key: str, child: nn.Module, args: tuple) -> None:
        children.append((key, child, args))

    for key, child in module.named_children():
        hooks.append(child.register_forward_pre_hook(functools.partial(note, key)))
    [whole] = count([(name, module, inputs)])
    for hook in hooks:
        hook.remove()
    [together] = merge(count(children), name)
    return children if together == whole else [part]


def _without_bottom_up(fpn: FPN) -> FPN:
    """`fpn` with the feature maps of its bottom-up network as input instead of images."""
    fpn = copy.copy(fpn)
    fpn._modules = dict(fpn._modules, bottom_up=nn.Identity())
    return fpn


def _heads(
    heads: ROIHeads,
    features: dict[str, Tensor],
    proposals: int,
    detections: int,
    stages: bool,
) -> list[Part]:
    def regions(number: int, names: list[str], pooler: nn.Module) -> tuple[Tensor]:
        shape = (number, features[names[0]].shape[1], *pooler.output_size)
        return (torch.empty(shape, device="meta"),)

    if isinstance(heads, Res5ROIHeads):
        heads_of = {
            "box_head": (nn.Sequential(nn.AdaptiveAvgPool2d(1), heads.box_predictor), proposals)
        }
        if heads.mask_on:
            heads_of["mask_head"] = (_Layers(heads.mask_head), detections)
        parts = []
        for name, (head, number) in heads_of.items():
            inputs = regions(number, heads.in_features, heads.pooler)
            if stages:
                with torch.no_grad(), WithoutNorms():
                    parts += [("res5", heads.res5, inputs), (name, head, (heads.res5(*inputs),))]
            else:
                parts.append((name, nn.Sequential(heads.res5, head), inputs))
        return parts
    if not isinstance(heads, StandardROIHeads):
        raise _undefined(heads)
    box = [(heads.box_head, heads.box_predictor)]
    if isinstance(heads, CascadeROIHeads):
        box = zip(heads.box_head, heads.box_predictor, strict=True)
    inputs = regions(proposals, heads.box_in_features, heads.box_pooler)
    parts = [("box_head", nn.Sequential(*stage), inputs) for stage in box]
    if heads.mask_on:
        inputs = regions(detections, heads.mask_in_features, heads.mask_pooler)
        parts.append(("mask_head", _Layers(heads.mask_head), inputs))
    if heads.keypoint_on:
        inputs = regions(detections, heads.keypoint_in_features, heads.keypoint_pooler)
        parts.append(("keypoint_head", _Layers(heads.keypoint_head), inputs))
    return parts


class _Layers(nn.Module):
    """A mask or keypoint head up to its logits, without the selection that follows."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.head.layers(x)
