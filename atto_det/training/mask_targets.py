"""Targets of the mask head: in each region, the mask of its object, cropped and resized."""

import torch
from torch import Tensor
from torchvision.ops import roi_align

AT_ONCE = 8  # masks converted to single precision at the same time


def mask_targets(masks: Tensor, objects: Tensor, regions: Tensor, side: int) -> Tensor:
    """Targets, bool (R, side, side), of R regions of a picture, without a mask for each region.

    Args:
        masks: bool or uint8 (M, H, W), of the objects.
        objects: int64 (R,), the object of each region.
        regions: float (R, 4), x1 y1 x2 y2.
    """
    targets = torch.empty(len(regions), side, side, dtype=torch.bool, device=regions.device)
    for first in range(0, len(masks), AT_ONCE):
        some = masks[first : first + AT_ONCE, None].to(regions)  # (m, 1, H, W)
        [rows] = torch.where((objects >= first) & (objects < first + AT_ONCE))
        places = torch.cat([objects[rows, None].to(regions) - first, regions[rows]], dim=1)
        cut = roi_align(some, places, side, 1.0, 0, aligned=True)  # (r, 1, side, side)
        targets[rows] = cut[:, 0] >= 0.5
    return targets
