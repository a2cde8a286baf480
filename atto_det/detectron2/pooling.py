"""Detectron2's pooler with the ROIAlign of `atto_det.ops.roi_align`, also in training."""

import torch
from detectron2.layers import ROIAlign
from detectron2.modeling.poolers import (
    ROIPooler,
    assign_boxes_to_levels,
    convert_boxes_to_pooler_format,
)
from detectron2.structures import Boxes
from torch import Tensor, nn

from atto_det.ops.roi_align import is_faster, roi_align

from .fusion import BuiltFrom, replace


class GatherPooler(BuiltFrom, ROIPooler):
    """Detectron2's pooler that uses `roi_align` for its ROIAlignV2 of plain boxes on a CPU.

    Traced, and in other precisions than single, it stays Detectron2's.
    """

    def forward(self, x: list[Tensor], box_lists: list[Boxes]) -> Tensor:
        """Feature maps and boxes of each picture to (R, C, P, P), as `ROIPooler`."""
        poolers = list(self.level_poolers)
        known = all(isinstance(pooler, ROIAlign) and pooler.aligned for pooler in poolers)
        if not (known and box_lists and is_faster(x[0])):
            return super().forward(x, box_lists)
        regions = convert_boxes_to_pooler_format(box_lists)
        levels = torch.zeros(len(regions), dtype=torch.long)
        if len(x) > 1:
            bounds = (self.min_level, self.max_level)
            canonical = (self.canonical_box_size, self.canonical_level)
            levels = assign_boxes_to_levels(box_lists, *bounds, *canonical)
        scales = [pooler.spatial_scale for pooler in poolers]
        return roi_align(x, regions, levels, self.output_size, scales, poolers[0].sampling_ratio)


def pool_by_gathering(model: nn.Module) -> None:
    """Replace each pooler in `model` by a `GatherPooler`."""
    replace(model, {m: GatherPooler(m) for m in model.modules() if type(m) is ROIPooler})
