"""Run lengths of the masks of regions, without painting a pixel.

In numpy, on one thread: torch's threads would still spin when a runtime's next picture begins.
"""

import numpy as np


def mask_runs(
    masks: np.ndarray, boxes: np.ndarray, height: int, width: int, threshold: float
) -> list[np.ndarray]:
    """Runs of what `paste_masks` puts into the picture, column by column, as COCO counts them.

    Along a column of the picture, a mask is linear between the centres of its cells, so that where
    it crosses `threshold` follows from M values, however tall the box is. A pixel may differ if its
    value is within rounding of `threshold`.

    Args:
        masks: (N, M, M) of probabilities, all of them numbers.
        boxes: (N, 4), x1 y1 x2 y2 in pixels of the picture, with an area above 0.
        threshold: above 0, which is the value outside of a mask.

    Returns:
        N arrays of run lengths, int64, of zeros and ones in turn; each sums to height * width.
    """
    cells, size = masks.shape[1], height * width
    owner, x, values = _columns(masks, boxes, width)
    inside = values >= threshold
    changes = np.flatnonzero(inside[:, 1:] != inside[:, :-1])
    column, knot = np.divmod(changes, cells + 1)
    before = values.ravel().take(changes + column)  # whose rows are one longer
    after = values.ravel().take(changes + column + 1)
    crossing = knot + (threshold - before) / (after - before) - 0.5  # in cells
    start, end = boxes[owner, 1::2].T
    cell = (end - start) / cells  # in pixels
    y = crossing * cell.take(column) + start.take(column) - 0.5  # 0 in the first row's centre
    first = np.where(after >= threshold, np.ceil(y), np.floor(y) + 1)
    # As `paste_masks`, no further than the pixels around the box.
    top, bottom = (np.floor(start) - 1).clip(0, height), (np.ceil(end) + 1).clip(0, height)
    first = first.clip(top.take(column), bottom.take(column))
    # All masks end to end; the masks' own beginnings are one further each, hence distinct.
    edges = (owner * (size + 1) + x * height).take(column) + first.astype(np.int64)
    edges = np.maximum.accumulate(edges)  # rounding may have swapped two
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


def _columns(
    masks: np.ndarray, boxes: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The picture's columns that each mask covers: T in all.

    Returns:
        index of the mask (T,), column of the picture (T,), and values (T, M + 2) of the mask's
        cells at that column, with the zeros above and below them.
    """
    cells = masks.shape[1]
    low = (np.floor(boxes[:, 0]) - 1).clip(min=0).astype(np.int64)
    high = (np.ceil(boxes[:, 2]) + 1).clip(max=width).astype(np.int64)
    counts = (high - low).clip(min=0)
    owner = np.repeat(np.arange(len(boxes)), counts)
    x = np.arange(len(owner)) + (low - counts.cumsum() + counts)[owner]
    start, end = boxes[owner, ::2].T
    place = ((x + 0.5 - start) / (end - start) * cells + 0.5).clip(0, cells + 1)
    left = place.astype(np.int64).clip(max=cells)
    padded = np.pad(masks.swapaxes(1, 2), ((0, 0), (1, 1), (1, 1))).reshape(-1, cells + 2)
    rows = owner * (cells + 2) + left
    near, values = padded.take(rows, axis=0), padded.take(rows + 1, axis=0)
    values -= near
    values *= (place - left)[:, None].astype(masks.dtype)
    values += near
    return owner, x, values
