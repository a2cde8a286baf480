"""FPN outputs, RPN head and mask head with depthwise-separable convolutions, for any backbone.

A 3×3 convolution from C to C channels becomes a depthwise 3×3 and a 1×1 convolution: 9 + C products
per output instead of 9 · C (arXiv 1704.04861, section 3.1).

    MODEL.BACKBONE.NAME: build_separable_fpn_backbone   # over MODEL.SEPARABLE.BACKBONE
    MODEL.RPN.HEAD_NAME: SeparableRPNHead               # with norm MODEL.SEPARABLE.RPN_NORM
    MODEL.ROI_MASK_HEAD.NAME: SeparableMaskHead

Shapes in comments: B batch, C channels, H and W height and width, A anchors per place.
"""

from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, ROI_MASK_HEAD_REGISTRY, Backbone
from detectron2.modeling.proposal_generator import RPN_HEAD_REGISTRY
from detectron2.modeling.proposal_generator.rpn import StandardRPNHead
from detectron2.modeling.roi_heads import MaskRCNNConvUpsampleHead
from torch import Tensor

from atto_det.errors import UserError
from atto_det.nets import separable_conv
from atto_det.nets.levels import SeparableLevels


def build_separable_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> Backbone:
    """The FPN backbone built by `MODEL.SEPARABLE.BACKBONE`, with separable output convolutions.

    Their norm is `MODEL.FPN.NORM`, one of `atto_det.nets.NORMS`, or "" for none.

    Raises:
        UserError: no such builder, a builder whose result has no FPN, or an unknown norm.
    """
    name = cfg.MODEL.SEPARABLE.BACKBONE
    if name not in BACKBONE_REGISTRY or name == build_separable_fpn_backbone.__name__:
        raise UserError(
            f"MODEL.SEPARABLE.BACKBONE is {name!r}: name a builder of an FPN backbone, such as "
            "build_attonet_fpn_backbone or build_resnet_fpn_backbone"
        )
    fpn = BACKBONE_REGISTRY.get(name)(cfg, input_shape)
    if not isinstance(fpn, FPN):
        raise UserError(
            f"MODEL.SEPARABLE.BACKBONE {name} builds a {type(fpn).__name__}, which has no FPN: "
            "name one of the builders with fpn in their names"
        )
    names = {conv: key for key, conv in fpn.named_children()}
    for index, conv in enumerate(fpn.output_convs):  # module and list entry must both be replaced
        new = separable_conv(
            conv.in_channels, conv.out_channels, norm=cfg.MODEL.FPN.NORM, relu=False
        )
        fpn.output_convs[index] = new
        setattr(fpn, names[conv], new)
    return fpn


class SeparableRPNHead(SeparableLevels, StandardRPNHead):
    """Detectron2's RPN head with separable hidden convolutions.

    Args:
        in_channels, num_anchors, box_dim, conv_dims: as in `StandardRPNHead`.
        levels: number of feature maps.
        norm: one of `atto_det.nets.NORMS`, or "" for none.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        num_anchors: int,
        levels: int,
        box_dim: int = 4,
        conv_dims: tuple[int, ...] = (-1,),
        norm: str = "",
    ) -> None:
        super().__init__(
            in_channels=in_channels, num_anchors=num_anchors, box_dim=box_dim, conv_dims=conv_dims
        )
        del self.conv
        widths = (in_channels if width == -1 else width for width in conv_dims)
        self.add_hidden(in_channels, widths, levels, norm)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        """Arguments from `MODEL.RPN`, `MODEL.SEPARABLE.RPN_NORM` and the feature maps' shapes."""
        arguments = super().from_config(cfg, input_shape)
        return {**arguments, "levels": len(input_shape), "norm": cfg.MODEL.SEPARABLE.RPN_NORM}

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Feature maps (B, C, H, W) to scores (B, A, H, W) and box offsets (B, 4·A, H, W) each."""
        hidden = self.hidden(features)
        return list(map(self.objectness_logits, hidden)), list(map(self.anchor_deltas, hidden))


class SeparableMaskHead(MaskRCNNConvUpsampleHead):
    """Detectron2's mask head with separable convolutions before its upsampling.

    Args:
        input_shape, num_classes, conv_dims: as in `MaskRCNNConvUpsampleHead`.
        conv_norm: one of `atto_det.nets.NORMS`, or "" for none.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_classes: int,
        conv_dims: list[int],
        conv_norm: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, num_classes=num_classes, conv_dims=conv_dims, **kwargs)
        width = input_shape.channels
        for index, conv_dim in enumerate(conv_dims[:-1]):
            conv = separable_conv(width, conv_dim, norm=conv_norm)
            self.conv_norm_relus[index] = conv
            setattr(self, f"mask_fcn{index + 1}", conv)  # replaces the full one
            width = conv_dim


def register_heads() -> None:
    """Add the builder and the heads above to Detectron2's registries, once."""
    for registry, item in (
        (BACKBONE_REGISTRY, build_separable_fpn_backbone),
        (RPN_HEAD_REGISTRY, SeparableRPNHead),
        (ROI_MASK_HEAD_REGISTRY, SeparableMaskHead),
    ):
        if item.__name__ not in registry:
            registry.register(item)
