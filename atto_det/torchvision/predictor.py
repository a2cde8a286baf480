"""From a checkpoint and a picture to detections, without Detectron2."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image
from yacs.config import CfgNode

from atto_det.evaluation import Detections
from atto_det.evaluation.arrays import compress_runs
from atto_det.ops.fold_norms import fold_norms
from atto_det.ops.mask_runs import mask_runs
from atto_det.ops.nms import grouped_nms
from atto_det.ops.resize import resize, resized_shape
from atto_det.training.predictor import CheckpointPredictor
from atto_det.training.views import View, views_of
from atto_det.weights import checkpoint

from .config import configs
from .mapping import to_detectron2, to_torchvision
from .model import build_model


class Predictor(CheckpointPredictor):
    """A trained model of torchvision; arguments and attributes are `CheckpointPredictor`'s."""

    configs = configs

    def build(self, content: dict[str, Any], path: str | Path) -> nn.Module:
        """torchvision's model, with batch norms folded into the convolutions."""
        model = build_model(self.cfg).to(memory_format=torch.channels_last)
        load_weights(model, self.cfg, content, path)
        fold_norms(model.eval().requires_grad_(False))
        return model

    def detect(self, image: np.ndarray) -> Detections:
        """Detections in uint8 (H, W, 3), in the channel order of INPUT.FORMAT, at its own size."""
        return detect(self.model, self.cfg, image)


def load_weights(model: nn.Module, cfg: CfgNode, content: dict, path: str | Path) -> None:
    """Load the model part of a checkpoint that either engine wrote; all tensors must match.

    Raises:
        UserError: a tensor is missing, unexpected, or of another shape; it names the first one.
    """
    checkpoint.check_fit(to_detectron2(model.state_dict(), cfg), content["model"], path)
    model.load_state_dict(to_torchvision(content["model"], cfg))


def prepare(cfg: CfgNode, image: np.ndarray, view: View | None = None) -> Tensor:
    """The model's input: uint8 (H, W, 3) to float (3, h, w) in 0 to 255, resized.

    The channels are in the order of INPUT.FORMAT, before and after.

    Args:
        view: replaces the keys of INPUT.
    """
    if view is None:
        view = View(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, mirrored=False)
    shape = resized_shape(*image.shape[:2], view.short, view.longest)
    image = resize(np.ascontiguousarray(image), *shape)[:, :: -1 if view.mirrored else 1]
    return torch.as_tensor(image.transpose(2, 0, 1).astype(np.float32), device=cfg.MODEL.DEVICE)


def detect(model: nn.Module, cfg: CfgNode, image: np.ndarray) -> Detections:
    """Detections of `model` in uint8 (H, W, 3), at its own size; masks are run-length encoded.

    `model` is a model of `build_model(cfg)` in evaluation mode. With TEST.AUG.ENABLED, several
    views are used. The picture's channels are in the order of INPUT.FORMAT.
    """
    if cfg.TEST.AUG.ENABLED:
        return detect_in_views(model, cfg, image, views_of(cfg))
    pixels = prepare(cfg, image)
    with torch.inference_mode():
        found = {key: value.cpu() for key, value in model([pixels])[0].items()}
    return to_detections(found, tuple(pixels.shape[1:]), image.shape[:2])


@torch.inference_mode()
def detect_in_views(
    model: nn.Module, cfg: CfgNode, image: np.ndarray, views: Sequence[View]
) -> Detections:
    """Detections in several views of a picture: boxes merged by NMS, masks averaged.

    Equivalent to Detectron2's `GeneralizedRCNNWithTTA`.

    Args:
        image: uint8 (H, W, 3), with channels in the order of INPUT.FORMAT.
    """
    height, width = image.shape[:2]
    heads, seen, found = model.roi_heads, [], []
    for view in views:
        pixels = prepare(cfg, image, view)
        images, _ = model.transform([pixels])
        features = model.backbone(images.tensors)
        proposals, _ = model.rpn(images, features)
        [own] = heads.boxes_in(features, proposals, images.image_sizes)
        shape = images.image_sizes[0]
        scale = own["boxes"].new_tensor([width / shape[1], height / shape[0]]).repeat(2)
        seen.append((view, features, images.image_sizes, scale))
        found.append(own | {"boxes": _turned(own["boxes"] * scale, width, view)})
    boxes, scores, labels = (
        torch.cat([own[key] for own in found]) for key in ("boxes", "scores", "labels")
    )
    boxes = clip_boxes_to_image(boxes, (height, width))
    limit, classes = cfg.TEST.DETECTIONS_PER_IMAGE, cfg.MODEL.ROI_HEADS.NUM_CLASSES
    threshold = cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST
    kept = grouped_nms(boxes, scores, labels - 1, classes, threshold, limit)
    boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
    result = {"boxes": boxes, "scores": scores, "labels": labels}
    masks = []
    for view, features, shapes, scale in seen if heads.has_mask() else ():
        own = _turned(boxes, width, view) / scale
        [found_masks] = heads.masks_in(features, [own], [labels], shapes)
        masks.append(found_masks.flip(3) if view.mirrored else found_masks)
    if masks:
        result["masks"] = torch.stack(masks).mean(0)
    result = {key: value.cpu() for key, value in result.items()}
    return to_detections(result, (height, width), (height, width))


def _turned(boxes: Tensor, width: int, view: View) -> Tensor:
    """Boxes (N, 4) in a picture of that width, converted to a view of it or back."""
    if not view.mirrored:
        return boxes
    x1, y1, x2, y2 = boxes.unbind(1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)


def to_detections(
    found: dict[str, Tensor], seen: tuple[int, int], native: tuple[int, int]
) -> Detections:
    """Detections in a picture of shape `seen`, converted to the picture's `native` shape.

    Boxes are clipped, and those without area dropped, as in Detectron2. `rles` is None if the model
    predicts no masks.
    """
    height, width = native
    scale = torch.tensor([width / seen[1], height / seen[0]]).repeat(2)
    boxes = found["boxes"] * scale
    boxes[:, 0::2].clamp_(0, width)
    boxes[:, 1::2].clamp_(0, height)
    keep = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    boxes, rles = boxes[keep], None
    if "masks" in found:
        masks = found["masks"][keep, 0].numpy()
        runs = mask_runs(masks, boxes.numpy(), height, width, 0.5)
        rles = compress_runs(runs, height, width)
    return Detections(
        boxes=boxes.numpy().astype(np.float64),
        rles=rles,
        classes=found["labels"][keep].numpy() - 1,
        scores=found["scores"][keep].numpy().astype(np.float64),
    )
