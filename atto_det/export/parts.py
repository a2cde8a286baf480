"""Detectors in three parts for the runtimes of phones, which have no operator for regions.

LiteRT and ExecuTorch run the convolutions and dense layers: the picture's part (backbone, pyramid
and RPN head), the box head and the mask head, at fixed sizes. What lies between them (proposals,
ROIAlign, non-maximum suppression) is the host's (`host.py`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from atto_det.config import backbones
from atto_det.errors import UserError
from atto_det.torchvision.predictor import Predictor

from .host import FORMAT, PARTS, Run

DIVISOR = 32  # of the picture's sides, so that the maps of the pyramid fit onto each other
REGIONS = {"boxes": 100, "masks": 10}  # at a time


class Picture(nn.Module):
    """Backbone, pyramid and RPN head; inputs and outputs are channels-last.

    Args:
        pooled: levels whose maps are outputs, for the heads.
    """

    def __init__(self, model: GeneralizedRCNN, pooled: Sequence[str]) -> None:
        super().__init__()
        self.backbone, self.head, self.pooled = model.backbone, model.rpn.head, list(pooled)

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        """(1, H, W, 3), normalised, to maps, and logits and deltas of each level."""
        maps = self.backbone(picture.permute(0, 3, 1, 2))
        outputs = {name: maps[name] for name in self.pooled}
        logits, deltas = self.head(list(maps.values()))
        outputs |= {f"logits_{name}": own for name, own in zip(maps, logits, strict=True)}
        outputs |= {f"deltas_{name}": own for name, own in zip(maps, deltas, strict=True)}
        return {name: output.permute(0, 2, 3, 1) for name, output in outputs.items()}


class Boxes(nn.Module):
    """The box head: pooled regions (R, P, P, C) to probabilities (R, K + 1), and deltas."""

    def __init__(self, model: GeneralizedRCNN) -> None:
        super().__init__()
        self.head, self.last = model.roi_heads.box_head, model.roi_heads.box_predictor

    def forward(self, regions: Tensor) -> dict[str, Tensor]:
        """As `host.Host` says."""
        logits, deltas = self.last(self.head(regions.permute(0, 3, 1, 2)))
        return {"scores": logits.softmax(dim=1), "deltas": deltas}


class Masks(nn.Module):
    """The mask head: pooled regions (R, P, P, C) to masks (R, M, M, K + 1)."""

    def __init__(self, model: GeneralizedRCNN) -> None:
        super().__init__()
        self.head, self.last = model.roi_heads.mask_head, model.roi_heads.mask_predictor

    def forward(self, regions: Tensor) -> dict[str, Tensor]:
        """As `host.Host` says."""
        masks = self.last(self.head(regions.permute(0, 3, 1, 2)))
        return {"masks": masks.sigmoid().permute(0, 2, 3, 1)}


class Split(NamedTuple):
    """A detector in parts.

    about: the description for `host.Host`, as JSON values.
    modules: the parts by name.
    examples: an input of each.
    """

    about: dict[str, Any]
    modules: dict[str, nn.Module]
    examples: dict[str, Tensor]

    def runs(self) -> dict[str, Run]:
        """The parts as `host.Host` takes them, run by PyTorch."""

        def run(module: nn.Module, value: np.ndarray) -> dict[str, np.ndarray]:
            with torch.inference_mode():
                return {k: v.numpy() for k, v in module(torch.from_numpy(value)).items()}

        return {
            name: lambda value, module=module: run(module, value)
            for name, module in self.modules.items()
        }


def split(predictor: Predictor, size: tuple[int, int] | None = None) -> Split:
    """The parts of a detector, for pictures of one size.

    Args:
        predictor: on the CPU.
        size: height and width in pixels, multiples of `DIVISOR`; None for the smallest square into
            which every resized picture fits.

    Raises:
        UserError: a detector without masks, or a size that is not a multiple.
    """
    cfg, model = predictor.cfg, predictor.model
    if not cfg.MODEL.MASK_ON:
        raise UserError(
            "it is a detector of boxes alone (MODEL.MASK_ON False): only detectors with masks are "
            "exported in parts"
        )
    if size is None:
        side = -(-cfg.INPUT.MAX_SIZE_TEST // DIVISOR) * DIVISOR
        size = (side, side)
    if any(side < DIVISOR or side % DIVISOR for side in size):
        raise UserError(f"the size is {size[0]} {size[1]}: give multiples of {DIVISOR}")
    model.to(memory_format=torch.contiguous_format)  # what the converters expect
    rpn, heads = model.rpn, model.roi_heads
    poolers = {"boxes": heads.box_roi_pool, "masks": heads.mask_roi_pool}
    levels, pooled = list(model.backbone.levels.values()), list(heads.box_roi_pool.featmap_names)
    modules: dict[str, nn.Module] = {
        "picture": Picture(model, pooled).eval(),
        "boxes": Boxes(model).eval(),
        "masks": Masks(model).eval(),
    }
    width = model.backbone.out_channels
    limits = {"boxes": rpn.post_nms_top_n(), "masks": heads.detections_per_img}
    counts = {part: max(1, min(REGIONS[part], limits[part])) for part in poolers}
    examples = {"picture": torch.zeros(1, *size, 3)} | {
        part: torch.zeros(counts[part], *pooler.output_size, width)
        for part, pooler in poolers.items()
    }
    with torch.inference_mode():
        outputs = {part: modules[part](examples[part]) for part in PARTS}
    shapes = {name: outputs["picture"][f"logits_{name}"].shape[1:3] for name in levels}
    generator = rpn.anchor_generator
    kinds = zip(levels, generator.strides, generator.sizes, generator.aspect_ratios, strict=True)
    about = {
        "atto_det_parts": FORMAT,
        "network": backbones.network(cfg),
        "class_names": list(predictor.class_names),
        "channel_order": cfg.INPUT.FORMAT,
        "mean": list(cfg.MODEL.PIXEL_MEAN),
        "std": list(cfg.MODEL.PIXEL_STD),
        "min_size": cfg.INPUT.MIN_SIZE_TEST,
        "max_size": cfg.INPUT.MAX_SIZE_TEST,
        "size": list(size),
        "levels": [
            {
                "name": name,
                "stride": stride,
                "shape": list(shapes[name]),
                "anchors": generator.generate_anchors(sizes, ratios).tolist(),
            }
            for name, stride, sizes, ratios in kinds
        ],
        "pooled": pooled,
        "proposals": {
            "before_nms": rpn.pre_nms_top_n(),
            "most": rpn.post_nms_top_n(),
            "nms_threshold": rpn.nms_thresh,
            "min_side": rpn.min_size,
            "box_weights": list(rpn.box_coder.weights),
        },
        "boxes": {
            "score_threshold": heads.score_thresh,
            "nms_threshold": heads.nms_thresh,
            "most": heads.detections_per_img,
            "box_weights": list(heads.box_coder.weights),
        },
        "masks": {},
        "inputs": {part: list(examples[part].shape) for part in PARTS},
        "outputs": {part: list(outputs[part]) for part in PARTS},
    }
    for part, pooler in poolers.items():
        bins, samples = pooler.output_size[0], pooler.sampling_ratio
        about[part] |= {"regions": counts[part], "bins": bins, "samples": samples}
    return Split(about, modules, examples)
