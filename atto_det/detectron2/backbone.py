"""AttoNets as Detectron2 backbones: alone, with FPN, with RetinaNet's FPN; timm networks, too."""

from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import (
    LastLevelMaxPool,
    LastLevelP6P7,
    build_resnet_fpn_backbone,
)
from detectron2.modeling.backbone.resnet import BottleneckBlock

from atto_det.config.resnets import check_norm_starts_at_zero, say_what_resnets_alone_have
from atto_det.design.networks import find_network
from atto_det.errors import UserError
from atto_det.nets import FEATURES, STAGES, get_spec
from atto_det.nets import Backbone as Network
from atto_det.nets.blocks import start_as_attonet
from atto_det.weights.create import load_weights
from atto_det.weights.timm_backbone import TimmBackbone


class _Shapes(Backbone):
    """Implements what Detectron2 asks of a backbone: its output shapes."""

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each feature map."""
        return {
            name: ShapeSpec(channels=self.channels[name], stride=self.strides[name])
            for name in self.out_features
        }


class AttoNetBackbone(Network, _Shapes):
    """`atto_det.nets.Backbone` for Detectron2."""


def create_backbone(
    name: str = "attonet_a",
    out_features: Sequence[str] = STAGES,
    *,
    weights: str | None = None,
    norm: str = "BN",
    freeze_at: int = 0,
) -> AttoNetBackbone:
    """The network `name` as a backbone of Detectron2, for configs in Python (LazyConfig).

    Its arguments are plain values, so that such a config can be saved as YAML that runs no code:
    `L(create_backbone)(name="attonet_a", out_features=["res2", "res3", "res4", "res5"])`.

    Args:
        weights, norm: as in `atto_det.create_backbone`.
        freeze_at: as MODEL.BACKBONE.FREEZE_AT.

    Raises:
        UserError: as `atto_det.create_backbone`.
    """
    name = find_network(name)
    net = AttoNetBackbone(get_spec(name), list(out_features), norm=norm)
    if weights is not None:
        load_weights(net, name, weights)
    return net.freeze(freeze_at)


class TimmDetectionBackbone(TimmBackbone, _Shapes):
    """`atto_det.weights.timm_backbone.TimmBackbone` for Detectron2."""


def _bottom_up(cfg: CfgNode, input_shape: ShapeSpec | None, out_features: list[str]) -> Backbone:
    spec = get_spec(cfg.MODEL.ATTONET.NAME, "MODEL.ATTONET.NAME")
    if input_shape is not None and input_shape.channels != 3:
        raise UserError(
            f"AttoNets take images of 3 channels; MODEL.PIXEL_MEAN has {input_shape.channels}"
        )
    with_roi_heads = cfg.MODEL.META_ARCHITECTURE in ("GeneralizedRCNN", "PanopticFPN")
    if with_roi_heads and cfg.MODEL.ROI_HEADS.NAME == "Res5ROIHeads":
        raise UserError(
            "MODEL.ROI_HEADS.NAME Res5ROIHeads (a C4 model) runs ResNet's own res5 in its heads "
            "and cannot have an AttoNet backbone: start from an FPN config of Detectron2"
        )
    unknown = [feature for feature in out_features if feature not in FEATURES]
    if unknown or not out_features:
        raise UserError(
            f"an AttoNet has the features {', '.join(FEATURES)}; the config asks for {out_features}"
        )
    say_what_resnets_alone_have(cfg.MODEL.BACKBONE.NAME, cfg.MODEL.RESNETS)
    net = AttoNetBackbone(spec, out_features, norm=cfg.MODEL.ATTONET.NORM)
    net.recomputes = cfg.MODEL.BACKBONE.GRADIENT_CHECKPOINTING
    return net.freeze(cfg.MODEL.BACKBONE.FREEZE_AT)


def build_attonet_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> Backbone:
    """Network `MODEL.ATTONET.NAME`, returning the features `MODEL.RESNETS.OUT_FEATURES`.

    That key is where Detectron2's configs state which features they need of a backbone.
    """
    return _bottom_up(cfg, input_shape, list(cfg.MODEL.RESNETS.OUT_FEATURES))


def _fpn(bottom_up: Backbone, cfg: CfgNode, *, retinanet: bool = False) -> Backbone:
    in_features = list(cfg.MODEL.FPN.IN_FEATURES)
    channels = cfg.MODEL.FPN.OUT_CHANNELS
    if retinanet:
        if "res5" not in in_features:
            raise UserError(
                f"MODEL.FPN.IN_FEATURES is {in_features}; RetinaNet's levels p6 and p7 need res5"
            )
        top_block = LastLevelP6P7(bottom_up.channels["res5"], channels)
    else:
        top_block = LastLevelMaxPool()
    return FPN(
        bottom_up=bottom_up,
        in_features=in_features,
        out_channels=channels,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


def build_attonet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> Backbone:
    """AttoNet with FPN over `MODEL.FPN.IN_FEATURES`: levels p2 to p5, and p6 by subsampling."""
    return _fpn(_bottom_up(cfg, input_shape, list(cfg.MODEL.FPN.IN_FEATURES)), cfg)


def build_retinanet_attonet_fpn_backbone(
    cfg: CfgNode, input_shape: ShapeSpec | None = None
) -> Backbone:
    """AttoNet with RetinaNet's FPN: levels p3 to p5, and p6, p7 by convolutions from res5."""
    bottom_up = _bottom_up(cfg, input_shape, list(cfg.MODEL.FPN.IN_FEATURES))
    return _fpn(bottom_up, cfg, retinanet=True)


def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> Backbone:
    """timm network `MODEL.TIMM.NAME` with FPN over `MODEL.FPN.IN_FEATURES`.

    `res2` is its last feature map of stride 4, `res5` that of stride 32.
    """
    say_what_resnets_alone_have(cfg.MODEL.BACKBONE.NAME, cfg.MODEL.RESNETS)
    bottom_up = TimmDetectionBackbone(cfg.MODEL.TIMM.NAME, list(cfg.MODEL.FPN.IN_FEATURES))
    bottom_up.recomputes = cfg.MODEL.BACKBONE.GRADIENT_CHECKPOINTING
    return _fpn(bottom_up.freeze(cfg.MODEL.BACKBONE.FREEZE_AT), cfg)


def build_resnet_fpn_started_as_attonet_backbone(
    cfg: CfgNode, input_shape: ShapeSpec | None = None
) -> Backbone:
    """Detectron2's ResNet with FPN, initialised like an AttoNet: a baseline with equal start.

    Its convolutions have short filters like AttoNets' instead of He's, and the last norm of each
    bottleneck with an identity shortcut starts at zero.

    Raises:
        UserError: MODEL.RESNETS.NORM is not a trainable norm, so that zero would remain.
    """
    check_norm_starts_at_zero(cfg.MODEL.RESNETS.NORM)
    backbone = build_resnet_fpn_backbone(cfg, input_shape)
    last = [
        block.conv3.norm
        for block in backbone.bottom_up.modules()
        if isinstance(block, BottleneckBlock) and block.shortcut is None
    ]
    start_as_attonet(backbone.bottom_up, last)
    return backbone


def register_backbones() -> None:
    """Add the five builders above to Detectron2's registry, once."""
    for builder in (
        build_attonet_backbone,
        build_attonet_fpn_backbone,
        build_retinanet_attonet_fpn_backbone,
        build_timm_fpn_backbone,
        build_resnet_fpn_started_as_attonet_backbone,
    ):
        if builder.__name__ not in BACKBONE_REGISTRY:
            BACKBONE_REGISTRY.register(builder)
