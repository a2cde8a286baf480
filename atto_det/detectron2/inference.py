"""The same detections in less time: inference can skip or reorder some operations.

`optimise_for_inference` changes a model so that it computes the same numbers, up to the rounding of
single precision:

- batch norms are folded into the convolutions before them, and on a CPU, ReLUs and the sums with
  shortcuts become part of the same calls (`fusion.py`);
- on a CPU, weights and feature maps are stored channels-last, which its convolutions prefer;
- sums are computed in place, since writing to new memory costs more than adding;
- on a CPU, regions are pooled by weighted sums of feature vectors (`pooling.py`);
- the RPN decodes only the boxes that it keeps;
- the mask head computes only the mask of the predicted class, on a CPU for 64 regions at a time;
- on a CPU, masks are pasted by two matrix products each, writing only the memory they cover.

Detectron2's classes are not changed: single modules are replaced by instances of subclasses, which
are built from them. Modules of any other class stay as they are.
"""

import torch
from detectron2.modeling import FPN
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import (
    CascadeROIHeads,
    FastRCNNConvFCHead,
    MaskRCNNConvUpsampleHead,
    StandardROIHeads,
)
from detectron2.structures import BitMasks, Boxes, Instances, ROIMasks
from torch import Tensor, nn
from torch.nn import functional

from atto_det.nets.blocks import AttoModule
from atto_det.nets.condenser import VisualAttentionCondenser
from atto_det.ops.chosen_masks import chosen_masks
from atto_det.ops.fold_norms import fold_norms
from atto_det.ops.paste_masks import paste_masks

from .fusion import BuiltFrom, FusedConv, fuse, linear, replace
from .heads import SeparableMaskHead
from .pooling import GatherPooler


def optimise_for_inference(model: nn.Module) -> nn.Module:
    """Make `model` faster, in evaluation mode; it can no longer be trained. Returns the model.

    Load the weights before calling this: afterwards, a training's weights no longer fit. If the
    model's own class has a faster version, as that of an FPN alone has, a new object is returned.
    """
    model.eval().requires_grad_(False)
    fold_norms(model)
    fuse(model)
    if next(model.parameters()).device.type == "cpu":
        model.to(memory_format=torch.channels_last)
        for module in model.modules():
            if type(module) in (StandardROIHeads, CascadeROIHeads):
                _flatten_channels_last(module)
    new = {
        module: _FASTER[type(module)](module)
        for module in model.modules()
        if type(module) in _FASTER and _fits(module)
    }
    replace(model, new)
    return new.get(model, model)


def _fits(module: nn.Module) -> bool:
    """Whether the faster class of `module` supports all that `module` does."""
    if isinstance(module, AttoModule):
        return isinstance(module.expand.norm, nn.Identity)  # folded
    if isinstance(module, VisualAttentionCondenser):
        return module.residual and isinstance(module.up.conv, FusedConv) and not module.up.conv.relu
    if isinstance(module, FPN):
        is_sum = module._fuse_type == "sum"
        return is_sum and all(isinstance(conv, FusedConv) for conv in module.lateral_convs)
    return True


def _flatten_channels_last(heads: StandardROIHeads) -> None:
    """Make dense box heads take features in the order in which they are stored."""
    boxes = heads.box_head
    for head in boxes if isinstance(boxes, nn.ModuleList) else [boxes]:
        if type(head) is FastRCNNConvFCHead and head.fcs:
            size, first = heads.box_pooler.output_size, head.fcs[0]
            weight = first.weight.unflatten(1, (-1, *size))  # (out, C, P, P)
            first.weight = nn.Parameter(weight.permute(0, 2, 3, 1).flatten(1), requires_grad=False)
            head.flatten = _FlattenChannelsLast()


class _FlattenChannelsLast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)  # (R, P * P * C)


class _InPlaceModule(BuiltFrom, AttoModule):
    """Writes the sum into the shortcut's memory: without a convolution there, that of the module
    before, whose result is not used elsewhere."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.mix(self.depthwise(self.compress(x)))
        return self.expand.conv.add_to(self.shortcut(x), y, relu=True)


class _InPlaceCondenser(BuiltFrom, VisualAttentionCondenser):
    """Writes the sum into its input's memory, which is unused: a condenser never opens a stage."""

    def forward(self, v: Tensor) -> Tensor:
        relu = isinstance(self.relu, nn.ReLU)
        return self.up.conv.add_to(v, self.attended(v), relu=relu)


class _InPlaceFPN(BuiltFrom, FPN):
    """Writes each level's sum into the memory of the enlarged coarser level."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        bottom_up = self.bottom_up(x)
        names = reversed(self.in_features)  # the coarsest level first
        total, levels = None, []
        for name, lateral, output in zip(names, self.lateral_convs, self.output_convs, strict=True):
            if total is None:
                total = lateral(bottom_up[name])
            else:
                total = functional.interpolate(total, scale_factor=2.0, mode="nearest")
                total = lateral.add_to(total, bottom_up[name])
            levels.insert(0, output(total))
        if self.top_block is not None:
            features = bottom_up | dict(zip(self._out_features, levels, strict=False))
            levels += self.top_block(features[self.top_block.in_feature])
        return dict(zip(self._out_features, levels, strict=True))


class _Undecoded:
    """Boxes (B, N, 4) of one level that are decoded only when they are indexed."""

    def __init__(self, rpn: RPN, anchors: Tensor, deltas: Tensor) -> None:
        self.rpn, self.anchors, self.deltas = rpn, anchors, deltas  # (N, 4), (B, N, 4)
        self.device = deltas.device

    def __getitem__(self, index: tuple[Tensor, Tensor]) -> Tensor:
        deltas = self.deltas[index]  # (B, kept, 4)
        anchors = self.anchors[index[1]]
        decode = self.rpn.box2box_transform.apply_deltas
        return decode(deltas.reshape(-1, 4), anchors.reshape(-1, 4)).view_as(deltas)


class _SparingRPN(BuiltFrom, RPN):
    def _decode_proposals(self, anchors: list[Boxes], deltas: list[Tensor]) -> list[_Undecoded]:
        pairs = zip(anchors, deltas, strict=True)
        return [_Undecoded(self, a.tensor, d.view(len(d), -1, 4)) for a, d in pairs]


MASKS_AT_ONCE = 64  # regions in the mask head on a CPU


class _ChosenMasks(BuiltFrom, MaskRCNNConvUpsampleHead):
    """Detectron2's mask head, computed only for the class of each detection.

    See `chosen_masks`.
    """

    def forward(self, x: Tensor, instances: list[Instances]) -> list[Instances]:
        chosen = torch.cat([i.pred_classes for i in instances])
        if self.predictor.out_channels == 1:  # the same mask for every class
            chosen = torch.zeros_like(chosen)
        # On a CPU, many at once would leave the caches, and take twice the time for each.
        at_once = MASKS_AT_ONCE if x.device.type == "cpu" else max(len(x), 1)
        parts = zip(x.split(at_once), chosen.split(at_once), strict=True)
        masks = torch.cat([self._masks(own, classes) for own, classes in parts])
        for item, own in zip(instances, masks.split([len(i) for i in instances]), strict=True):
            item.pred_masks = LeanMasks(own[:, 0])
        return instances

    def _masks(self, x: Tensor, chosen: Tensor) -> Tensor:
        """Features of N regions and their classes to probabilities (N, 1, M, M)."""
        for layer in self.conv_norm_relus:
            x = layer(x)  # (N, C, H, W)
        size = x.shape[2], x.shape[3]
        return chosen_masks(x, chosen, size, self.deconv, self.predictor, _fused)


def _fused(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 1x1 convolution and ReLU as one matrix product: (N, C, H, W) to (N, out, H, W)."""
    rows = x.permute(0, 2, 3, 1)  # (N, H, W, C)
    found = linear(rows.flatten(0, 2), weight, bias, relu=True)  # (N * H * W, out)
    return found.view(*rows.shape[:3], len(weight)).permute(0, 3, 1, 2)


class LeanMasks(ROIMasks):
    """Masks (N, M, M) of regions, pasted quickly on a CPU."""

    def __getitem__(self, item: object) -> "LeanMasks":
        """A selection of them."""
        return LeanMasks(super().__getitem__(item).tensor)

    def to_bitmasks(
        self, boxes: Boxes, height: int, width: int, threshold: float = 0.5
    ) -> BitMasks:
        """Detectron2's `BitMasks`, (N, height, width)."""
        whole = super().to_bitmasks
        if self.device.type != "cpu" or threshold < 0 or not len(self):
            return whole(boxes, height, width, threshold)
        masks = LeanMasks(self.tensor[:0]).to_bitmasks(boxes[:0], height, width, threshold)
        masks.tensor = paste_masks(self.tensor, boxes.tensor, height, width, threshold)
        return masks


_FASTER = {
    AttoModule: _InPlaceModule,
    VisualAttentionCondenser: _InPlaceCondenser,
    FPN: _InPlaceFPN,
    ROIPooler: GatherPooler,
    RPN: _SparingRPN,
    MaskRCNNConvUpsampleHead: _ChosenMasks,
    SeparableMaskHead: _ChosenMasks,
}
