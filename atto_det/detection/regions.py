"""A fixed number of proposals and detections, whatever a detector's weights find."""

import functools

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn


def fix_regions(model: GeneralizedRCNN, proposals: int, height: int, width: int) -> None:
    """Let a Faster or Mask R-CNN go on with fixed boxes and scores, after its own work on each.

    The boxes of `spread_boxes` take the place of what the RPN found. Scores by which each of them
    is of two classes, and offsets of zero, take the place of what the box predictor says. What
    comes behind, the post-processing first, is real.

    Args:
        proposals: of each picture.
        height, width: of the pictures in pixels.
    """
    boxes = spread_boxes(proposals, height, width).to(model.device)
    model.proposal_generator.register_forward_hook(functools.partial(_propose, boxes))
    model.roi_heads.box_predictor.register_forward_hook(functools.partial(_predict, proposals))


def _propose(
    boxes: Tensor, rpn: nn.Module, args: tuple, output: tuple
) -> tuple[list[Instances], dict]:
    """`boxes` in place of what the RPN found, in each picture."""
    fixed = []
    for found in output[0]:
        item = Instances(found.image_size)
        item.proposal_boxes = Boxes(boxes.clone())
        item.objectness_logits = torch.zeros(len(boxes), device=boxes.device)
        fixed.append(item)
    return fixed, output[1]


def _predict(
    proposals: int, predictor: nn.Module, args: tuple, output: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Scores by which each proposal is of two classes, the first ones surest, and no offsets."""
    logits, offsets = output
    classes = logits.shape[1] - 1
    probability = torch.full_like(logits, 1e-6)
    rows = torch.arange(len(logits), device=logits.device)
    probability[rows, (rows % proposals * 7 + 3) % classes] = 0.1
    rank = rows % proposals  # within its picture
    probability[rows, rank % classes] = 0.85 - 0.55 * rank.to(logits.dtype) / proposals
    probability[:, -1] = 1 - probability[:, :-1].sum(dim=1)
    return probability.log(), torch.zeros_like(offsets)


def spread_boxes(count: int, height: int, width: int) -> Tensor:
    """`count` boxes (count, 4), x1 y1 x2 y2, of all places and sizes, the same in every run.

    Their centres lie all over the picture; width to height goes from 1:2 to 2:1, and the square
    root of the area from 1/25 of the picture's shorter side to all of it, evenly on a logarithmic
    scale. What would lie outside is cut off. All four follow the additive sequence of the powers
    of the root of x⁵ = x + 1, which fills four dimensions evenly from its first element on.
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
