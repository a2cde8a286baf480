"""The regions of a benchmark: the same boxes and scores in every run, for any network."""

import torch
from torch import Tensor


def spread_boxes(count: int, height: int, width: int) -> Tensor:
    """`count` boxes (count, 4), x1 y1 x2 y2, of all positions and sizes, the same in every run.

    Their centres cover the whole picture; the ratio of width to height ranges from 1:2 to 2:1, and
    the square root of the area from 1/25 of the picture's shorter side to all of it, evenly on a
    logarithmic scale. Parts outside are cut off. All four follow the additive sequence of the
    powers of the root of x⁵ = x + 1, which fills four dimensions evenly from its first element on.
    """
    root = 1.1673039782614187
    steps = root ** -torch.arange(1, 5, dtype=torch.float64)
    x, y, size, shape = ((torch.arange(1, count + 1)[:, None] * steps) % 1).unbind(dim=1)
    side = min(height, width) * 25 ** (size - 1)
    stretch = 2 ** (shape - 0.5)  # square root of width : height, from 1:2 to 2:1
    half = torch.stack([side * stretch, side / stretch], dim=1) / 2
    centre = torch.stack([x * width, y * height], dim=1)
    limit = torch.tensor([width, height], dtype=torch.float64)
    low, high = (centre - half).clamp(min=0), torch.minimum(centre + half, limit)
    return torch.cat([low, high], dim=1).float()


def sure_scores(count: int, classes: int) -> Tensor:
    """Scores with which each box belongs to two classes, the first ones surest.

    (count, classes + 1) of probabilities, the background's last.
    """
    scores = torch.full((count, classes + 1), 1e-6)
    rank = torch.arange(count)
    scores[rank, (rank * 7 + 3) % classes] = 0.1
    scores[rank, rank % classes] = 0.85 - 0.55 * rank / count
    scores[:, -1] = 1 - scores[:, :-1].sum(dim=1)
    return scores
