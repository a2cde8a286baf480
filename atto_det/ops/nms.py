"""Non-maximum suppression within groups, also for exported graphs."""

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import batched_nms

LOWEST = -1e9  # below every score


def grouped_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, count: int, threshold: float, limit: int
) -> Tensor:
    """`torchvision.ops.batched_nms`, keeping only the best `limit` boxes.

    In an exported graph it is a single node that compares only within groups. torchvision's own
    compares all boxes, and has an `If` for an empty input, from which OpenVINO 2026.4 takes a box.

    Args:
        boxes: (N, 4), x1 y1 x2 y2.
        scores: (N,).
        groups: (N,), below `count`: boxes of different groups do not suppress each other.
        threshold: IoU above which the better box suppresses the other.

    Returns:
        Indices of at most `limit` boxes, highest score first.
    """
    if not torch.onnx.is_in_onnx_export():
        return batched_nms(boxes, scores, groups, threshold)[:limit]
    rows = torch.arange(count)[:, None] == groups  # (count, N)
    rows = torch.where(rows, scores, torch.full_like(scores, LOWEST))
    keep = _NonMaxSuppression.apply(boxes[None], rows[None], threshold, limit)[:, 2]
    return keep[scores[keep].argsort(descending=True)[:limit]]


class _NonMaxSuppression(torch.autograd.Function):
    """ONNX's operator of this name; its outputs are rows of 0, group, index of a box."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, threshold: float, limit: int) -> Tensor:
        groups, index = torch.where(scores[0] > LOWEST)
        keep = batched_nms(boxes[0, index], scores[0, groups, index], groups, threshold)
        return torch.stack([torch.zeros_like(keep), groups[keep], index[keep]], dim=1)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, threshold: float, limit: int) -> Any:
        limits = [torch.tensor([limit]), torch.tensor([threshold]), torch.tensor([LOWEST])]
        constants = [g.op("Constant", value_t=value) for value in limits]
        return g.op("NonMaxSuppression", boxes, scores, *constants)
