"""ROIAlign on a CPU as weighted sums of feature vectors.

A bin of ROIAlign is the mean of its samples, and a sample the bilinear mean of four feature
vectors. With features channels last these are rows of a table, and `embedding_bag` sums weighted
rows on all threads and vector units, where torchvision's own kernel works on one thread, number by
number. (ROIAlign: arXiv 1703.06870, section 3.)

Shapes in comments: R regions, C channels, P bins along an axis, G samples in a bin along an axis.
"""

import torch
from detectron2.layers import ROIAlign
from detectron2.modeling.poolers import (
    ROIPooler,
    assign_boxes_to_levels,
    convert_boxes_to_pooler_format,
)
from detectron2.structures import Boxes
from torch import Tensor
from torch.nn import functional


class GatherPooler(ROIPooler):
    """Detectron2's pooler whose ROIAlignV2 of plain boxes on a CPU is `roi_align` below."""

    def forward(self, x: list[Tensor], box_lists: list[Boxes]) -> Tensor:
        """Feature maps and boxes by picture to (R, C, P, P), as `ROIPooler`."""
        known = all(isinstance(p, ROIAlign) and p.aligned for p in self.level_poolers)
        if not known or x[0].device.type != "cpu" or torch.is_grad_enabled() or not box_lists:
            return super().forward(x, box_lists)
        regions = convert_boxes_to_pooler_format(box_lists)
        levels = torch.zeros(len(regions), dtype=torch.long)
        if len(x) > 1:
            bounds = (self.min_level, self.max_level)
            canonical = (self.canonical_box_size, self.canonical_level)
            levels = assign_boxes_to_levels(box_lists, *bounds, *canonical)
        height, width = self.output_size
        output = x[0].new_empty(len(regions), height, width, x[0].shape[1]).permute(0, 3, 1, 2)
        for level, (features, pooler) in enumerate(zip(x, self.level_poolers, strict=True)):
            own = (levels == level).nonzero()[:, 0]
            _pool(output, own, features, regions[own], pooler.spatial_scale, pooler.sampling_ratio)
        return output


def roi_align(features: Tensor, regions: Tensor, size: int, scale: float, samples: int) -> Tensor:
    """`torchvision.ops.roi_align` with `aligned=True`, up to rounding; without gradients.

    Args:
        features: (B, C, H, W), quickest channels last.
        regions: (R, 5): picture, x1, y1, x2, y2.
        size: P, bins along each axis.
        scale: feature cells per pixel.
        samples: in each bin along each axis; 0 for one per cell that it spans, rounded up.

    Returns:
        (R, C, P, P), channels last.
    """
    output = features.new_empty(len(regions), size, size, features.shape[1]).permute(0, 3, 1, 2)
    _pool(output, torch.arange(len(regions)), features, regions, scale, samples)
    return output


def _pool(
    output: Tensor, rows: Tensor, features: Tensor, regions: Tensor, scale: float, samples: int
) -> None:
    """Fill `rows` of `output` (R, C, P, P)."""
    pictures, channels, height, width = features.shape
    bins = output.shape[2:]
    output = output.permute(0, 2, 3, 1).flatten(1, 2)  # (R, P * P, C), the same memory
    table = features.permute(0, 2, 3, 1).reshape(-1, channels)
    begin = regions[:, [2, 1]] * scale - 0.5  # (R, 2): y, x
    length = (regions[:, [4, 3]] - regions[:, [2, 1]]) * scale
    counts = (length / length.new_tensor(bins)).ceil().clamp(min=0).long()  # (R, 2): G of each
    if samples > 0:
        counts = torch.full_like(counts, samples)
    kinds, kind_of = counts.unique(dim=0, return_inverse=True)
    for kind, (down, across) in enumerate(kinds.tolist()):
        own = (kind_of == kind).nonzero()[:, 0]  # regions with as many samples as each other
        if not down * across:
            output[rows[own]] = 0  # no area
            continue
        y, y_weights = _samples(begin[own, 0], length[own, 0], bins[0], down, height)
        x, x_weights = _samples(begin[own, 1], length[own, 1], bins[1], across, width)
        y = (y + regions[own, 0].int()[:, None, None] * height) * width
        index = y[:, :, None, :, None] + x[:, None, :, None, :]  # (R, P, P, 2 * G, 2 * G)
        weights = y_weights[:, :, None, :, None] * x_weights[:, None, :, None, :]
        found = functional.embedding_bag(
            index.flatten(0, 2).flatten(1),
            table,
            mode="sum",
            per_sample_weights=weights.flatten(0, 2).flatten(1),
        )
        output[rows[own]] = found.view(len(own), -1, channels)


def _samples(
    begin: Tensor, length: Tensor, bins: int, count: int, cells: int
) -> tuple[Tensor, Tensor]:
    """Cells that the samples of each bin lie between along one axis, and their weights.

    Both (R, bins, 2 * count). A sample further out than one cell weighs nothing; others are moved
    onto the map.
    """
    number = torch.arange(bins * count)
    offsets = number // count + (number % count + 0.5) / count  # in bins
    places = begin[:, None] + offsets * (length / bins)[:, None]  # (R, bins * count)
    inside = (places >= -1) & (places <= cells)
    places = places.clamp(0, cells - 1)
    low = places.int().clamp(max=max(cells - 2, 0))
    part = places - low
    weights = torch.stack([1 - part, part], dim=-1) * inside[..., None] / count
    index = torch.stack([low, (low + 1).clamp(max=cells - 1)], dim=-1)
    return index.view(len(begin), bins, -1), weights.view(len(begin), bins, -1)
