"""Masks of the objects of a training picture, without a copy for each region."""

import copy

import numpy as np
import torch
from detectron2.structures import BitMasks
from torch import Tensor

from atto_det.training.mask_targets import mask_targets
from atto_det.training.packing import packed_in_transit


class SharedMasks(BitMasks):
    """`BitMasks` that are not copied when they are indexed: only the chosen indices are kept.

    Detectron2 gives each sampled region (512 by default) the mask of its object. With `BitMasks`,
    each is a copy as large as the picture.

    Args:
        tensor: bool (M, H, W), the objects.
    """

    def __init__(self, tensor: Tensor | np.ndarray) -> None:
        self.objects = packed_in_transit(BitMasks(tensor).tensor)
        self.image_size = self.objects.shape[1:]
        self.chosen = torch.arange(len(self.objects), device=self.objects.device)

    @property
    def tensor(self) -> Tensor:
        """The chosen masks, bool (R, H, W), as a copy."""
        return self.objects[self.chosen]

    @property
    def device(self) -> torch.device:
        """Where the masks are."""
        return self.objects.device

    def to(self, *args: object, **kwargs: object) -> "SharedMasks":
        """A copy on another device."""
        return self._with(self.objects.to(*args, **kwargs), self.chosen)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, item: int | slice | Tensor) -> "SharedMasks":
        chosen = self.chosen[[item] if isinstance(item, int) else item]
        return self._with(self.objects, chosen)

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """As in `BitMasks`: boxes (R, 4) to bool (R, mask_size, mask_size)."""
        boxes = boxes.to(self.device)
        return mask_targets(self.objects, self.chosen, boxes, mask_size)

    def _with(self, objects: Tensor, chosen: Tensor) -> "SharedMasks":
        other = copy.copy(self)
        other.objects, other.chosen = objects, chosen.to(objects.device)
        return other
