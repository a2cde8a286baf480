"""A fixed number of proposals and detections, whatever a detector's weights are."""

import functools

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from atto_det.complexity.regions import spread_boxes, sure_scores


def fix_regions(model: GeneralizedRCNN, proposals: int, height: int, width: int) -> None:
    """Make a Faster or Mask R-CNN continue with fixed boxes and scores, after its own work on each.

    The boxes of `spread_boxes` replace the RPN's result. The box predictor's output is replaced by
    offsets of zero and by scores with which each box belongs to two classes. Everything that
    follows, from the post-processing on, is real.

    Args:
        proposals: per picture.
        height, width: of the pictures in pixels.
    """
    boxes = spread_boxes(proposals, height, width).to(model.device)
    model.proposal_generator.register_forward_hook(functools.partial(_propose, boxes))
    model.roi_heads.box_predictor.register_forward_hook(functools.partial(_predict, proposals))


def _propose(
    boxes: Tensor, rpn: nn.Module, args: tuple, output: tuple
) -> tuple[list[Instances], dict]:
    """Replace the RPN's result by `boxes`, in each picture."""
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
    """Scores with which each proposal has two classes, the first ones surest, and zero offsets."""
    logits, offsets = output
    scores = sure_scores(proposals, logits.shape[1] - 1).to(logits)
    return scores.log().repeat(len(logits) // proposals, 1), torch.zeros_like(offsets)
