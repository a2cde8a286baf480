"""Run lengths of the masks of regions, without painting a pixel."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@torch.inference_mode()
def mask_runs(
    masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float
) -> list[np.ndarray]:
    """Runs of what `paste_masks` puts into the picture, column by column, as COCO counts them.

    Along a column of the picture, a mask is linear between the centres of its cells, so that where
    it crosses `threshold` follows from M values, however tall the box is. A pixel may differ if its
    value is within rounding of `threshold`.

    Args:
        masks: (N, M, M) of probabilities.
        boxes: (N, 4), x1 y1 x2 y2 in pixels of the picture, with an area above 0.
        threshold: above 0, which is the value outside of a mask.

    Returns:
        N arrays of run lengths, int64, of zeros and ones in turn; each sums to height * width.
    """
    cells, size = masks.shape[1], height * width
    owner, x, values = _columns(masks, boxes, width)
    inside = values >= threshold
    column, knot = (inside[:, 1:] != inside[:, :-1]).nonzero().unbind(dim=1)
    before, after = values[column, knot], values[column, knot + 1]
    crossing = knot + (threshold - before) / (after - before) - 0.5  # in cells
    start, end = boxes[owner[column], 1::2].unbind(dim=1)
    y = crossing * ((end - start) / cells) + start - 0.5  # 0 in the centre of the first row
    first = torch.where(after >= threshold, y.ceil(), y.floor() + 1).clamp(0, height).long()
    # All masks end to end; the masks' own beginnings are one further each, hence distinct.
    edges = (owner * (size + 1) + x * height)[column] + first
    edges = np.maximum.accumulate(edges.numpy())  # rounding may have swapped two
    groups = np.flatnonzero(np.diff(edges, prepend=-1))
    times = np.diff(groups, append=len(edges))
    edges = edges[groups[times % 2 == 1]]  # two in one place undo each other
    begins = np.arange(len(masks)) * (size + 1)
    parts = np.split(edges, np.searchsorted(edges, begins[1:])) if len(masks) else []
    runs = (
        np.diff(part - begin, prepend=0, append=size)
        for part, begin in zip(parts, begins, strict=True)
    )
    return [run[:-1] if run[-1] == 0 else run for run in runs]


def _columns(masks: Tensor, boxes: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The picture's columns that each mask covers: T in all.

    Returns:
        index of the mask (T,), column of the picture (T,), and values (T, M + 2) of the mask's
        cells at that column, with the zeros above and below them.
    """
    cells = masks.shape[1]
    low = (boxes[:, 0].floor() - 1).clamp(min=0).long()
    high = (boxes[:, 2].ceil() + 1).clamp(max=width).long()
    counts = (high - low).clamp(min=0)
    owner = torch.arange(len(boxes)).repeat_interleave(counts)
    x = torch.arange(len(owner)) + (low - counts.cumsum(0) + counts)[owner]
    start, end = boxes[owner, ::2].unbind(dim=1)
    place = ((x + 0.5 - start) / (end - start) * cells + 0.5).clamp(0, cells + 1)
    left = place.floor().clamp(max=cells).long()
    padded = functional.pad(masks.mT, (1, 1, 1, 1)).flatten(0, 1)  # (N * (M + 2), M + 2)
    rows = owner * (cells + 2) + left
    values = torch.lerp(padded[rows], padded[rows + 1], (place - left)[:, None])
    return owner, x, values
