"""A detector as one graph: a picture in, detections at the picture's own size out.

It uses only operations that every ONNX runtime has. ONNX's own `Resize` is not one of them:
OpenVINO 2026.4 ignores its `antialias` (up to 112 grey levels off Pillow on photos), and ONNX
Runtime 1.31 was up to 11 levels off. `Resize` below gives Pillow's pixels in both.
"""

import torch
from torch import Tensor, nn
from torch.onnx.operators import shape_as_tensor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from yacs.config import CfgNode

INPUTS = ("image",)
OUTPUTS = ("boxes", "classes", "scores", "masks")


class Deployable(nn.Module):
    """`model` with its pre- and post-processing, as in `torchvision.predictor.detect`.

    Args:
        model: from `build_model(cfg)`, in evaluation mode.
        cfg: INPUT.MIN_SIZE_TEST and INPUT.MAX_SIZE_TEST are used.
    """

    def __init__(self, model: GeneralizedRCNN, cfg: CfgNode) -> None:
        super().__init__()
        self.resize = Resize(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Detections in uint8 (H, W, 3), in the channel order of INPUT.FORMAT.

        Returns:
            boxes (N, 4) in pixels of the picture, classes (N,) from 0, scores (N,), and masks
            (N, 28, 28): probabilities on a grid over the box.
        """
        pixels = self.resize(image)  # (3, h, w)
        found = self.model([pixels])[0]
        native, seen = shape_as_tensor(image)[:2], shape_as_tensor(pixels)[1:]
        scale = (native.double() / seen.double()).float().flip(0).repeat(2)
        limit = native.float().flip(0).repeat(2)
        boxes = (found["boxes"] * scale).clamp(min=0).minimum(limit)
        keep = torch.where((boxes[:, 2:] > boxes[:, :2]).all(dim=1))[0]
        classes, masks = found["labels"] - 1, found["masks"][:, 0]
        return boxes[keep], classes[keep], found["scores"][keep], masks[keep]


class Resize(nn.Module):
    """`ops.resize` of a picture to the size that the network sees.

    Bilinear with antialiasing, first along the rows, then along the columns, rounded to grey levels
    after each, as in Pillow. Pillow 13 begins with the columns if the height shrinks by more than
    twice as many pixels as the width; then one grey level may differ.

    Args:
        short: length of the shorter side, in pixels.
        longest: maximum length of the longer side, which also limits the shorter one.
    """

    def __init__(self, short: int, longest: int) -> None:
        super().__init__()
        self.short, self.longest = short, longest

    def shape(self, native: Tensor) -> Tensor:
        """Height and width of the result, as `ops.resize.resized_shape`."""
        sides = native.double()
        # One-element tensors: tracing treats tensors without dimensions as single precision.
        short, longest = (sides.new_full((1,), side) for side in (self.short, self.longest))
        shortest = sides[:1].minimum(sides[1:])
        new = torch.where(sides == shortest, short, short / shortest * sides)
        shrink = (longest / new[:1].maximum(new[1:])).minimum(torch.ones_like(short))
        return (new * shrink + 0.5).long().clamp(min=1)

    def forward(self, image: Tensor) -> Tensor:
        """uint8 (H, W, 3) to float (3, h, w) of whole grey levels."""
        native = shape_as_tensor(image)
        new = self.shape(native[:2])
        x = image.permute(1, 0, 2).reshape(native[1], -1)  # (W, H * 3)
        # The lengths of results are read from them: in bfloat16, `new` may be off by a pixel.
        x = _resize_first(x, new[1:]).reshape(-1, native[0], 3).permute(1, 0, 2)  # (H, w, 3)
        width = shape_as_tensor(x)[1]
        x = _resize_first(x.reshape(native[0], -1), new[:1])  # (h, w * 3)
        return x.reshape(-1, width, 3).permute(2, 0, 1)


def _resize_first(x: Tensor, new: Tensor) -> Tensor:
    """(L, C) to (new, C), both integer-valued: rows become weighted means of neighbours.

    It computes with integers below 2**31, for up to 20,000 pixels, and with floats below 2**24.
    """
    length, steps = shape_as_tensor(x)[:1], 2**11
    reach = length.maximum(new)  # of the triangular filter, in units of 1 / (2 * new)
    centres = (2 * torch.arange(new[0]) + 1) * length  # in the same units, (new,)
    around = _divide(length + new - 1, new)[0]  # neighbours on each side
    index = _divide(centres, 2 * new)[:, None] + torch.arange(2 * around + 1) - around
    weights = 2 * reach - ((2 * index + 1) * new - centres[:, None]).abs()
    weights = weights.clamp(min=0) * ((index >= 0) & (index < length)).long()
    total = weights.sum(dim=1, keepdim=True)
    # Pillow's weights are integer multiples of 2**-22, too precise for single-precision products:
    # split into two parts, the products are exact.
    coarse = _divide(weights * steps, total)
    fine = _divide((weights * steps - coarse * total) * steps + _divide(total, 2), total)
    parts = torch.stack([coarse.float() / steps, fine.float() / steps**2], dim=1)
    rows = x[index.clamp(min=0).minimum(length - 1)].float()  # (new, neighbours, C)
    sums = torch.matmul(parts, rows)  # (new, 2, C)
    level = (sums[:, 0] + 0.5).floor()
    return level + (sums[:, 0] + 0.5 - level + sums[:, 1]).floor()


def _divide(a: Tensor, b: Tensor | int) -> Tensor:
    return torch.div(a, b, rounding_mode="trunc")
