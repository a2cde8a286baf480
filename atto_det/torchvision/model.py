"""Atto-MaskRCNN on torchvision, from the config of an experiment."""

from functools import partial

from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from yacs.config import CfgNode

from atto_det.config import backbones
from atto_det.config.resnets import check_norm_starts_at_zero
from atto_det.errors import UserError
from atto_det.nets import NORMS, STAGES, Backbone, get_spec, make_norm
from atto_det.nets import separable_conv as separable
from atto_det.weights.timm_backbone import TimmBackbone

from .config import Unsupported
from .modules import Anchors, Heads, Normalise, Proposals, SeparableRPNHead
from .pooling import AlignedPooler
from .resnet import ResNet

LEVEL_STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}


class AttoNetFPN(nn.Module):
    """A network with a feature pyramid (arXiv 1612.03144), whose maps all have the same width.

    Args:
        body: the network, returning the stages that the pyramid is built on.
        fpn: the pyramid on these stages.
        levels: from the pyramid's names of its maps (stages, then those of its extra block) to the
            names that this module uses.

    Attributes:
        out_channels: of each map; torchvision's detectors read this attribute.
    """

    def __init__(self, body: nn.Module, fpn: FeaturePyramidNetwork, levels: dict[str, str]) -> None:
        super().__init__()
        self.body, self.fpn, self.levels = body, fpn, levels
        self.out_channels = fpn.inner_blocks[0][0].out_channels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) to maps (B, out_channels, H / stride, W / stride) by level."""
        maps = self.fpn(self.body(x))
        return {level: maps[name] for name, level in self.levels.items()}


def build_model(cfg: CfgNode) -> GeneralizedRCNN:
    """The Atto-MaskRCNN of a config from `torchvision.config`, with Detectron2's behaviour.

    Input pictures are float (3, H, W) in 0 to 255, in the channel order of INPUT.FORMAT, already
    resized. In evaluation it returns, for each picture, boxes (N, 4) in the resized picture, labels
    (N,) from 1, scores (N,) and masks (N, 1, 28, 28) of probabilities. In training it also takes
    targets with boxes (M, 4), labels (M,) from 1 and masks (M, H, W), and returns the losses
    loss_cls, loss_box_reg, loss_mask, loss_rpn_cls, loss_rpn_loc.

    Raises:
        Unsupported: a value that this engine does not support.
        UserError: a key whose value does not allow a model to be built.
    """
    levels = [f"p{name.removeprefix('res')}" for name in cfg.MODEL.FPN.IN_FEATURES] + ["p6"]
    model = GeneralizedRCNN(
        _backbone(cfg, levels),
        _rpn(cfg, levels),
        _heads(cfg, levels),
        Normalise(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, 32),
    )
    return model.to(cfg.MODEL.DEVICE)


def _backbone(cfg: CfgNode, levels: list[str]) -> AttoNetFPN:
    stages = list(cfg.MODEL.FPN.IN_FEATURES)
    if stages not in [list(STAGES[first:]) for first in range(len(STAGES))]:
        raise Unsupported(
            f"MODEL.FPN.IN_FEATURES is {stages}; this engine takes neighbouring stages up to res5"
        )
    norm, width = _norm(cfg.MODEL.FPN.NORM, "MODEL.FPN.NORM"), cfg.MODEL.FPN.OUT_CHANNELS
    body = _body(cfg, stages)
    body.freeze(cfg.MODEL.BACKBONE.FREEZE_AT)
    body.recomputes = cfg.MODEL.BACKBONE.GRADIENT_CHECKPOINTING
    fpn = FeaturePyramidNetwork(
        list(body.channels.values()),
        width,
        extra_blocks=LastLevelMaxPool(),
        norm_layer=partial(make_norm, norm) if norm else None,
    )
    if cfg.MODEL.BACKBONE.NAME == backbones.SEPARABLE:
        for index in range(len(stages)):
            fpn.layer_blocks[index] = separable(width, width, norm=norm, relu=False)
    return AttoNetFPN(body, fpn, dict(zip([*stages, "pool"], levels, strict=True)))


def _body(cfg: CfgNode, stages: list[str]) -> Backbone | ResNet | TimmBackbone:
    builder, resnets = backbones.builder(cfg), cfg.MODEL.RESNETS
    if builder == backbones.TIMM:
        return TimmBackbone(cfg.MODEL.TIMM.NAME, stages)
    if builder in backbones.RESNETS:
        body = ResNet(resnets, stages)
        if builder == backbones.STARTED_AS_ATTONET:
            check_norm_starts_at_zero(resnets.NORM)
            body.start_as_attonet()
        return body
    spec = get_spec(cfg.MODEL.ATTONET.NAME, "MODEL.ATTONET.NAME")
    return Backbone(spec, stages, norm=cfg.MODEL.ATTONET.NORM)


def _rpn(cfg: CfgNode, levels: list[str]) -> Proposals:
    rpn, generator = cfg.MODEL.RPN, cfg.MODEL.ANCHOR_GENERATOR
    if list(rpn.IN_FEATURES) != levels:
        raise Unsupported(
            f"MODEL.RPN.IN_FEATURES is {list(rpn.IN_FEATURES)}; this engine's RPN takes all levels "
            f"of the pyramid: {levels}"
        )
    sizes = _by_level(generator.SIZES, "SIZES", levels)
    ratios = _by_level(generator.ASPECT_RATIOS, "ASPECT_RATIOS", levels)
    anchors = Anchors(sizes, ratios, [LEVEL_STRIDES[level] for level in levels])
    [count, *others] = set(anchors.num_anchors_per_location())
    if others:
        raise UserError(
            "MODEL.ANCHOR_GENERATOR gives the levels different numbers of anchors, but they share "
            "one RPN head: make them equal"
        )
    width = cfg.MODEL.FPN.OUT_CHANNELS
    if rpn.HEAD_NAME == "SeparableRPNHead":
        norm = _norm(cfg.MODEL.SEPARABLE.RPN_NORM, "MODEL.SEPARABLE.RPN_NORM")
        head = SeparableRPNHead(width, count, len(levels), norm)
    else:
        head = RPNHead(width, count)
    return Proposals(
        anchors,
        head,
        thresholds=_thresholds(rpn, "MODEL.RPN"),
        batch_size=rpn.BATCH_SIZE_PER_IMAGE,
        positive_fraction=rpn.POSITIVE_FRACTION,
        before_nms=(rpn.PRE_NMS_TOPK_TRAIN, rpn.PRE_NMS_TOPK_TEST),
        after_nms=(rpn.POST_NMS_TOPK_TRAIN, rpn.POST_NMS_TOPK_TEST),
        nms_threshold=rpn.NMS_THRESH,
        min_size=cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE,
        box_weights=rpn.BBOX_REG_WEIGHTS,
        loss_weights=(rpn.LOSS_WEIGHT, rpn.LOSS_WEIGHT * rpn.BBOX_REG_LOSS_WEIGHT),
        beta=rpn.SMOOTH_L1_BETA,
    )


def _heads(cfg: CfgNode, levels: list[str]) -> Heads:
    roi, box, mask = cfg.MODEL.ROI_HEADS, cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_MASK_HEAD
    features = list(roi.IN_FEATURES)
    first = levels.index(features[0]) if features and features[0] in levels else 0
    if not features or features != levels[first : first + len(features)]:
        raise Unsupported(
            f"MODEL.ROI_HEADS.IN_FEATURES is {features}; this engine takes neighbouring levels "
            f"among {levels}"
        )
    if roi.NUM_CLASSES < 1:
        raise UserError("MODEL.ROI_HEADS.NUM_CLASSES is 0: name a data set, or set the count")
    strides = [LEVEL_STRIDES[level] for level in features]
    width, classes = cfg.MODEL.FPN.OUT_CHANNELS, roi.NUM_CLASSES + 1
    low, high = _thresholds(roi, "MODEL.ROI_HEADS")
    heads = Heads(
        append_objects=roi.PROPOSAL_APPEND_GT,
        box_loss_weight=box.BBOX_REG_LOSS_WEIGHT,
        beta=box.SMOOTH_L1_BETA,
        box_roi_pool=AlignedPooler(
            features, strides, box.POOLER_RESOLUTION, box.POOLER_SAMPLING_RATIO
        ),
        box_head=TwoMLPHead(width * box.POOLER_RESOLUTION**2, box.FC_DIM),
        box_predictor=FastRCNNPredictor(box.FC_DIM, classes),
        fg_iou_thresh=high,
        bg_iou_thresh=low,
        batch_size_per_image=roi.BATCH_SIZE_PER_IMAGE,
        positive_fraction=roi.POSITIVE_FRACTION,
        bbox_reg_weights=tuple(box.BBOX_REG_WEIGHTS),
        score_thresh=roi.SCORE_THRESH_TEST,
        nms_thresh=roi.NMS_THRESH_TEST,
        detections_per_img=cfg.TEST.DETECTIONS_PER_IMAGE,
    )
    if cfg.MODEL.MASK_ON:
        heads.mask_roi_pool = AlignedPooler(
            features, strides, mask.POOLER_RESOLUTION, mask.POOLER_SAMPLING_RATIO
        )
        heads.mask_head = _mask_head(cfg, width)
        heads.mask_predictor = MaskRCNNPredictor(
            mask.CONV_DIM if mask.NUM_CONV else width, mask.CONV_DIM, classes
        )
    _init_heads(heads)
    return heads


def _mask_head(cfg: CfgNode, width: int) -> nn.Sequential:
    mask = cfg.MODEL.ROI_MASK_HEAD
    norm, dims = _norm(mask.NORM, "MODEL.ROI_MASK_HEAD.NORM"), [mask.CONV_DIM] * mask.NUM_CONV
    if mask.NAME == "SeparableMaskHead":
        widths = zip([width, *dims], dims, strict=False)
        return nn.Sequential(*(separable(before, after, norm=norm) for before, after in widths))
    return MaskRCNNHeads(width, dims, 1, partial(make_norm, norm) if norm else None)


def _init_heads(heads: Heads) -> None:
    """Random weights as in Detectron2: Xavier for hidden layers, small normal for the last."""
    for layer in (heads.box_head.fc6, heads.box_head.fc7):
        nn.init.kaiming_uniform_(layer.weight, a=1)
        nn.init.zeros_(layer.bias)
    small = {
        heads.box_predictor.cls_score: 0.01,
        heads.box_predictor.bbox_pred: 0.001,
    }
    if heads.has_mask():
        small[heads.mask_predictor.mask_fcn_logits] = 0.001
        nn.init.zeros_(heads.mask_predictor.conv5_mask.bias)
    for layer, std in small.items():
        nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layer.bias)


def _by_level(values: list[list[float]], key: str, levels: list[str]) -> list[list[float]]:
    """A list for each level; a single list applies to all levels."""
    if len(values) not in (1, len(levels)):
        raise UserError(
            f"MODEL.ANCHOR_GENERATOR.{key} has {len(values)} lists: give one, or one for each of "
            f"{', '.join(levels)}"
        )
    return list(values) * (len(levels) // len(values))


def _thresholds(section: CfgNode, name: str) -> tuple[float, float]:
    """IoU below which a region is background, and from which it is an object."""
    thresholds, labels = list(section.IOU_THRESHOLDS), list(section.IOU_LABELS)
    if (len(thresholds), labels) not in ((1, [0, 1]), (2, [0, -1, 1])):
        raise Unsupported(
            f"{name}.IOU_THRESHOLDS {thresholds} with IOU_LABELS {labels}: this engine takes one "
            "threshold with [0, 1], or two with [0, -1, 1]"
        )
    return thresholds[0], thresholds[-1]


def _norm(norm: str, key: str) -> str:
    if norm and norm not in NORMS:
        raise Unsupported(f"{key} is {norm!r}: this engine has {', '.join(NORMS)}, or '' for none")
    return norm
