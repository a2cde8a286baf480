"""Masks of regions onto the picture."""

import math
import mmap

import torch
from torch import Tensor


def paste_masks(masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float) -> Tensor:
    """`detectron2.layers.paste_masks_in_image` for a CPU, in a fraction of its time.

    Bilinear interpolation along one axis is a product with a matrix: each mask takes two of them.
    A pixel may differ where its value is within rounding of `threshold`.

    Args:
        masks: (N, M, M) of probabilities.
        boxes: (N, 4), x1 y1 x2 y2 in pixels of the picture.

    Returns:
        (N, height, width) of bool. Pages of memory that no mask touches stay untouched.
    """
    shape = (len(masks), height, width)
    # Zeros that the system hands out page by page; numpy's ask for huge pages, which may take long.
    memory = mmap.mmap(-1, max(math.prod(shape), 1))
    pasted = torch.frombuffer(memory, dtype=torch.bool)[: math.prod(shape)].view(shape)
    low = (boxes[:, :2].floor() - 1).clamp(min=0).long()
    high = (boxes[:, 2:].ceil() + 1).clamp(max=boxes.new_tensor([width, height])).long()
    rows = (
        _interpolation(boxes[:, 1], boxes[:, 3], height, masks.shape[1]) @ masks
    )  # (N, height, M)
    columns = _interpolation(boxes[:, 0], boxes[:, 2], width, masks.shape[2]).mT  # (N, M, width)
    for index, (x1, y1, x2, y2) in enumerate(torch.cat([low, high], dim=1).tolist()):
        values = rows[index, y1:y2] @ columns[index, :, x1:x2]
        torch.ge(values, threshold, out=pasted[index, y1:y2, x1:x2])
    return pasted


def _interpolation(start: Tensor, end: Tensor, length: int, cells: int) -> Tensor:
    """(N, length, cells): how much of each cell every pixel between `start` and `end` gets."""
    pixels = torch.arange(length, dtype=start.dtype) + 0.5
    places = (pixels - start[:, None]) / (end - start)[:, None] * cells - 0.5  # (N, length)
    return (1 - (places[:, :, None] - torch.arange(cells)).abs()).clamp(min=0)
