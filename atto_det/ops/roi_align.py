"""ROIAlign on a CPU as weighted sums of feature vectors.

A bin of ROIAlign is the mean of its samples, and a sample is the bilinear mean of four feature
vectors. With channels-last features these are rows of a table, and `embedding_bag` sums weighted
rows with all threads and vector units, while torchvision's own kernel uses scalar operations and,
for the gradients, one thread. (ROIAlign: arXiv 1703.06870, section 3.)

Shapes in comments: R regions, C channels, P bins along an axis, G samples in a bin along an axis.
"""

import torch
from torch import Tensor
from torch.nn import functional


def is_faster(features: Tensor) -> bool:
    """Whether `roi_align` is to be used: on a CPU, in single precision, and not for a graph."""
    plain = features.device.type == "cpu" and features.dtype == torch.float32
    return plain and not torch.jit.is_tracing()


def roi_align(
    features: list[Tensor],
    regions: Tensor,
    levels: Tensor,
    size: tuple[int, int],
    scales: list[float],
    samples: int,
) -> Tensor:
    """`torchvision.ops.roi_align` with `aligned=True`, up to rounding, on several feature maps.

    Args:
        features: of each level (B, C, H, W); fastest if stored channels-last.
        regions: (R, 5): picture, x1, y1, x2, y2.
        levels: (R,), index into `features`.
        size: bins down and across.
        scales: of each level, its cells per pixel.
        samples: per bin and axis; 0 for one per cell that the bin spans, rounded up.

    Returns:
        (R, C, P, P), channels last; with gradients for the features alone.
    """
    channels, regions = features[0].shape[1], regions.detach()
    scale = regions.new_tensor(scales)[levels, None]  # (R, 1)
    cells = torch.tensor([f.shape[2:] for f in features])[levels]  # (R, 2): H, W
    begin, end = (regions[:, axes] * scale - 0.5 for axes in ([2, 1], [4, 3]))  # (R, 2): y, x
    bins = (end - begin) / regions.new_tensor(size)  # in this order, whose rounding sets counts
    counts = torch.full_like(cells, samples) if samples > 0 else bins.ceil().clamp(min=0).long()
    (y, y_weights), (x, x_weights) = (
        _samples(begin[:, axis], bins[:, axis], size[axis], counts[:, axis], cells[:, axis])
        for axis in (0, 1)
    )
    y = (y + regions[:, :1, None].int() * cells[:, :1, None]) * cells[:, 1:, None]
    tables = [f.permute(0, 2, 3, 1).reshape(-1, channels) for f in features]
    output = features[0].new_zeros(len(regions), size[0] * size[1], channels)
    kinds, kind_of = torch.cat([levels[:, None], counts], dim=1).unique(dim=0, return_inverse=True)
    for kind, (level, down, across) in enumerate(kinds.tolist()):
        if not down * across:
            continue  # no area: zeros
        own = (kind_of == kind).nonzero()[:, 0]
        down, across = slice(2 * down), slice(2 * across)
        index = y[own, :, None, down, None] + x[own, None, :, None, across]  # (R, P, P, 2G, 2G)
        weights = y_weights[own, :, None, down, None] * x_weights[own, None, :, None, across]
        found = functional.embedding_bag(
            index.flatten(0, 2).flatten(1),
            tables[level],
            mode="sum",
            per_sample_weights=weights.flatten(0, 2).flatten(1),
        )
        output[own] = found.view(len(own), -1, channels)
    return output.view(-1, *size, channels).permute(0, 3, 1, 2)


def _samples(
    begin: Tensor, bin_size: Tensor, bins: int, counts: Tensor, cells: Tensor
) -> tuple[Tensor, Tensor]:
    """The cells between which the samples of each bin lie along one axis, and their weights.

    Both (R, bins, 2 * most samples); a region uses the first 2 * count of its own. A sample further
    out than one cell has no weight; other samples outside are moved onto the map.
    """
    begin, bin_size, counts, cells = (t[:, None, None] for t in (begin, bin_size, counts, cells))
    most = int(counts.max()) if len(counts) else 0
    offsets = (torch.arange(most) + 0.5) / counts  # (R, 1, most), in bins
    places = begin + (torch.arange(bins)[:, None] + offsets) * bin_size  # (R, bins, most)
    inside = (places >= -1) & (places <= cells)
    places = torch.minimum(places.clamp(min=0), cells - 1)
    low = torch.minimum(places.long(), (cells - 2).clamp(min=0))
    part = places - low
    weights = torch.stack([1 - part, part], dim=-1) * inside[..., None] / counts[..., None]
    index = torch.stack([low, torch.minimum(low + 1, cells - 1)], dim=-1)
    return index.flatten(2), weights.flatten(2)
