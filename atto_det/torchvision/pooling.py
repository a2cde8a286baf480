"""ROIAlign over the levels of an FPN, as in Detectron2."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision import ops
from torchvision.ops import MultiScaleRoIAlign

from atto_det.ops.roi_align import is_faster, roi_align

BAND = 64.0  # height in pixels
BANDS = 2**10  # more bands than a picture has


class AlignedPooler(MultiScaleRoIAlign):
    """ROIAlign with the half-pixel correction, each region on the level that fits its size.

    A region of 224 x 224 pixels goes to p4, one of half the side to p3 (arXiv 1612.03144, eq. 1).

    Args:
        levels: names of the feature maps, in order of increasing stride.
        strides: of the feature maps.
        output_size: bins along an axis.
        sampling_ratio: samples along an axis of a bin; 0 for one per cell of the feature map.
    """

    def __init__(
        self, levels: Sequence[str], strides: Sequence[int], output_size: int, sampling_ratio: int
    ) -> None:
        super().__init__(list(levels), output_size, sampling_ratio)
        self.strides = tuple(strides)

    def forward(
        self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        """Feature maps (B, C, H, W) and boxes of each picture to (R, C, bins, bins)."""
        pictures = [torch.full_like(own[:, :1], index) for index, own in enumerate(boxes)]
        regions = torch.cat([torch.cat(pictures), torch.cat(boxes)], dim=1)  # (R, 5)
        sides = ((regions[:, 3] - regions[:, 1]) * (regions[:, 4] - regions[:, 2])).sqrt()
        levels = torch.floor(4 + torch.log2(sides / 224 + 1e-8))
        first, last = (stride.bit_length() - 1 for stride in (self.strides[0], self.strides[-1]))
        levels = levels.clamp(first, last) - first
        size, samples = self.output_size, self.sampling_ratio
        maps, scales = [x[name] for name in self.featmap_names], [1 / s for s in self.strides]
        if is_faster(maps[0]):
            return roi_align(maps, regions, levels.long(), size, scales, samples)
        # Sorted so that neighbours follow each other, which caches well: half the time.
        band = torch.floor(regions[:, 2] / BAND) + BANDS * regions[:, 0]
        order = (band + regions[:, 1] / 2**16).argsort()
        pooled, places = [], []
        for index, (own_map, scale) in enumerate(zip(maps, scales, strict=True)):
            place = order[levels[order] == index]
            own = ops.roi_align(own_map, regions[place], size, scale, samples, aligned=True)
            pooled.append(own)
            places.append(place)
        return torch.cat(pooled)[torch.cat(places).argsort()]
