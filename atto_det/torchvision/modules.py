"""The parts of Detectron2's Mask R-CNN that differ from torchvision's, as torchvision modules.

These are unrounded anchors at fixed strides, proposals selected by their logits, Detectron2's loss
normalisation and training targets, and separable heads; aligned ROIAlign is in pooling.py. The rest
is the same in both: matching, sampling, box coding, the other heads.

Shapes in comments: B pictures, C channels, H and W height and width, A anchors per place, K
classes (without the background, which is class 0 here), R regions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import (
    RegionProposalNetwork,
    RPNHead,
    concat_box_prediction_layers,
)
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import clip_boxes_to_image

from atto_det.nets.levels import SeparableLevels
from atto_det.ops.chosen_masks import chosen_masks
from atto_det.ops.nms import grouped_nms
from atto_det.training.mask_targets import mask_targets

Targets = list[dict[str, Tensor]] | None
Shapes = list[tuple[int, int]]  # height and width of each picture


class Anchors(AnchorGenerator):
    """Anchors that are not rounded, with strides that do not depend on the padded size.

    torchvision computes strides by dividing sizes, and gets 61 for p6 at a height of 800.

    Args:
        sizes: for each level, side lengths in pixels.
        aspect_ratios: for each level, height / width.
        strides: of each level, in pixels.
    """

    def __init__(
        self,
        sizes: Sequence[Sequence[float]],
        aspect_ratios: Sequence[Sequence[float]],
        strides: Sequence[int],
    ) -> None:
        super().__init__(tuple(map(tuple, sizes)), tuple(map(tuple, aspect_ratios)))
        self.strides = tuple(strides)

    def generate_anchors(
        self,
        scales: Sequence[float],
        aspect_ratios: Sequence[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """(A, 4) around zero: sizes in the outer order, aspect ratios in the inner one."""
        halves = [
            ((size**2 / ratio) ** 0.5 / 2, (size**2 * ratio) ** 0.5 / 2)
            for size in scales
            for ratio in aspect_ratios
        ]
        return torch.tensor([(-w, -h, w, h) for w, h in halves], dtype=dtype, device=device)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """For each picture the same anchors of all levels (N, 4), x1 y1 x2 y2."""
        self.set_cell_anchors(feature_maps[0].dtype, feature_maps[0].device)
        grids = [feature.shape[-2:] for feature in feature_maps]
        anchors = torch.cat(self.grid_anchors(grids, [(stride, stride) for stride in self.strides]))
        return [anchors for _ in image_list.image_sizes]


class Proposals(RegionProposalNetwork):
    """torchvision's RPN, which decodes only the boxes that it keeps, with Detectron2's losses.

    Args:
        anchors, head: as `RegionProposalNetwork`.
        thresholds: IoU below which an anchor is background, and from which it is an object.
        batch_size: anchors sampled from each picture.
        positive_fraction: the largest share of them that are objects.
        before_nms: maximum number of boxes per level, in training and testing.
        after_nms: maximum number of boxes per picture, in training and testing.
        nms_threshold: IoU.
        min_size: minimum side of a box, in pixels.
        box_weights: of the box coder.
        loss_weights: of objectness and of boxes.
        beta: of the smooth L1 loss of boxes; 0 for L1.
    """

    def __init__(
        self,
        anchors: Anchors,
        head: nn.Module,
        *,
        thresholds: tuple[float, float],
        batch_size: int,
        positive_fraction: float,
        before_nms: tuple[int, int],
        after_nms: tuple[int, int],
        nms_threshold: float,
        min_size: float,
        box_weights: Sequence[float],
        loss_weights: tuple[float, float],
        beta: float,
    ) -> None:
        super().__init__(
            anchors,
            head,
            fg_iou_thresh=thresholds[1],
            bg_iou_thresh=thresholds[0],
            batch_size_per_image=batch_size,
            positive_fraction=positive_fraction,
            pre_nms_top_n=dict(zip(("training", "testing"), before_nms, strict=True)),
            post_nms_top_n=dict(zip(("training", "testing"), after_nms, strict=True)),
            nms_thresh=nms_threshold,
        )
        self.box_coder.weights = tuple(box_weights)
        self.min_size = min_size
        self.batch_size, self.loss_weights, self.beta = batch_size, loss_weights, beta

    def forward(
        self, images: ImageList, features: dict[str, Tensor], targets: Targets = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Boxes of each picture, highest logit first, and in training the losses."""
        maps = list(features.values())
        logits, deltas = self.head(maps)  # for each level (B, A, H, W) and (B, 4 * A, H, W)
        anchors = self.anchor_generator(images, maps)
        counts = [level.shape[1] * level.shape[2] * level.shape[3] for level in logits]
        logits, deltas = concat_box_prediction_layers(logits, deltas)
        losses = {}
        if self.training:
            labels, matched = self.assign_targets_to_anchors(anchors, targets)
            wanted = self.box_coder.encode(matched, anchors)
            objectness, boxes = self.compute_loss(logits, deltas, labels, wanted)
            losses = {"loss_rpn_cls": objectness, "loss_rpn_loc": boxes}
        with torch.no_grad():
            rows = logits.view(len(anchors), -1)  # (B, anchors)
            top = self._get_top_n_idx(rows, counts)  # (B, kept), level by level
            level_of = torch.cat([torch.full((n,), i) for i, n in enumerate(counts)]).to(top.device)
            deltas = deltas.view(len(anchors), -1, 4)
            proposals = [
                self._propose(logit[index], delta[index], anchor[index], level_of[index], size)
                for logit, delta, anchor, index, size in zip(
                    rows, deltas, anchors, top, images.image_sizes, strict=True
                )
            ]
        return proposals, losses

    def _propose(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, levels: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """The boxes (kept, 4) of one picture from its best anchors."""
        boxes = clip_boxes_to_image(self.box_coder.decode_single(deltas, anchors), size)
        sides = boxes[:, 2:] - boxes[:, :2]
        keep = torch.where((sides > self.min_size).all(dim=1))[0]
        boxes, logits, levels = boxes[keep], logits[keep], levels[keep]
        count, limit = len(self.anchor_generator.sizes), self.post_nms_top_n()
        return boxes[grouped_nms(boxes, logits, levels, count, self.nms_thresh, limit)]

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Sums over the sampled anchors, divided by the maximum number of samples."""
        positive, negative = (torch.cat(own).bool() for own in self.fg_bg_sampler(labels))
        sampled = positive | negative
        objects = functional.binary_cross_entropy_with_logits(
            objectness.flatten()[sampled], torch.cat(labels)[sampled], reduction="sum"
        )
        boxes = functional.smooth_l1_loss(
            pred_bbox_deltas[positive],
            torch.cat(list(regression_targets))[positive],
            beta=self.beta,
            reduction="sum",
        )
        possible = self.batch_size * len(labels)
        return (
            objects / possible * self.loss_weights[0],
            boxes / possible * self.loss_weights[1],
        )


class Heads(RoIHeads):
    """torchvision's box and mask heads with Detectron2's losses and post-processing.

    Args:
        append_objects: whether training uses the true boxes as proposals, too.
        box_loss_weight, beta: of the boxes' smooth L1 loss; a beta of 0 makes it L1.
        **heads: arguments of `RoIHeads`.
    """

    def __init__(
        self, *, append_objects: bool, box_loss_weight: float, beta: float, **heads: object
    ) -> None:
        super().__init__(**heads)
        self.append_objects, self.box_loss_weight, self.beta = append_objects, box_loss_weight, beta

    def add_gt_proposals(self, proposals: list[Tensor], gt_boxes: list[Tensor]) -> list[Tensor]:
        """Proposals, followed by the true boxes."""
        return super().add_gt_proposals(proposals, gt_boxes) if self.append_objects else proposals

    def assign_targets_to_proposals(
        self, proposals: list[Tensor], gt_boxes: list[Tensor], gt_labels: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The object and the label of each proposal; a picture may have no proposal."""
        kept = [
            boxes if len(own) else boxes[:0] for own, boxes in zip(proposals, gt_boxes, strict=True)
        ]
        return super().assign_targets_to_proposals(proposals, kept, gt_labels)

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: Targets = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Detections of each picture, or in training the losses.

        Detections have boxes (N, 4), labels (N,) from 1, scores (N,), and masks (N, 1, 28, 28)
        where there is a mask head.
        """
        if self.training:
            return [], self._losses(features, proposals, image_shapes, targets)
        result = self.boxes_in(features, proposals, image_shapes)
        if not self.has_mask():
            return result, {}
        boxes, labels = ([item[key] for item in result] for key in ("boxes", "labels"))
        masks = self.masks_in(features, boxes, labels, image_shapes)
        for item, own in zip(result, masks, strict=True):
            item["masks"] = own
        return result, {}

    def boxes_in(
        self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: Shapes
    ) -> list[dict[str, Tensor]]:
        """Boxes (N, 4), scores (N,) and labels (N,) from 1 of each picture."""
        pooled = self.box_roi_pool(features, proposals, image_shapes)  # (R, C, 7, 7)
        predictions = self.box_predictor(self.box_head(pooled))
        found = self.postprocess_detections(*predictions, proposals, image_shapes)
        return [
            dict(zip(("boxes", "scores", "labels"), item, strict=True))
            for item in zip(*found, strict=True)
        ]

    def masks_in(
        self,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        labels: list[Tensor],
        image_shapes: Shapes,
    ) -> list[Tensor]:
        """The masks (N, 1, 28, 28) of each picture's boxes, for their classes."""
        pooled = self.mask_roi_pool(features, boxes, image_shapes)  # (N, C, 14, 14)
        # Not from the features' shape, for which ONNX Runtime would convert them to float.
        size = self.mask_roi_pool.output_size
        upsample, _, last = self.mask_predictor
        masks = chosen_masks(self.mask_head(pooled), torch.cat(labels), size, upsample, last)
        return list(masks.split([own.shape[0] for own in boxes]))

    def postprocess_detections(
        self,
        class_logits: Tensor,
        box_regression: Tensor,
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Boxes, scores and labels of each picture: threshold, NMS of each class, the best."""
        counts = [own.shape[0] for own in proposals]
        boxes = self.box_coder.decode(box_regression, proposals)
        # Without proposals, torchvision drops a dimension.
        boxes = boxes.reshape(-1, self.box_predictor.cls_score.out_features, 4)[:, 1:]  # (R, K, 4)
        scores = functional.softmax(class_logits, dim=1)[:, 1:]  # (R, K)
        found: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        rows = zip(boxes.split(counts), scores.split(counts), image_shapes, strict=True)
        for own_boxes, own_scores, size in rows:
            region, label = torch.where(own_scores > self.score_thresh)
            kept_boxes = clip_boxes_to_image(own_boxes[region, label], size)
            kept_scores = own_scores[region, label]
            count, limit = own_scores.shape[1], self.detections_per_img
            keep = grouped_nms(kept_boxes, kept_scores, label, count, self.nms_thresh, limit)
            results = (kept_boxes[keep], kept_scores[keep], label[keep] + 1)
            for column, values in zip(found, results, strict=True):
                column.append(values)
        return found

    def _losses(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        sizes: list[tuple[int, int]],
        targets: Targets,
    ) -> dict[str, Tensor]:
        with torch.no_grad():
            proposals, matched, labels, wanted = self.select_training_samples(proposals, targets)
        pooled = self.box_roi_pool(features, proposals, sizes)
        logits, deltas = self.box_predictor(self.box_head(pooled))  # (R, K + 1), (R, 4 * (K + 1))
        flat = torch.cat(labels)
        objects = torch.where(flat > 0)[0]
        boxes = functional.smooth_l1_loss(
            deltas.view(-1, logits.shape[1], 4)[objects, flat[objects]],
            torch.cat(list(wanted))[objects],
            beta=self.beta,
            reduction="sum",
        )
        losses = {
            # Without a region its mean would be NaN.
            "loss_cls": functional.cross_entropy(logits, flat) if len(flat) else logits.sum() * 0,
            "loss_box_reg": boxes / max(len(flat), 1) * self.box_loss_weight,
        }
        if not self.has_mask():
            return losses
        positive = [own > 0 for own in labels]
        regions = [own[keep] for own, keep in zip(proposals, positive, strict=True)]
        objects_of = [own[keep] for own, keep in zip(matched, positive, strict=True)]
        losses["loss_mask"] = self._mask_loss(
            features, regions, objects_of, flat[objects], sizes, targets
        )
        return losses

    def _mask_loss(
        self,
        features: dict[str, Tensor],
        regions: list[Tensor],
        objects: list[Tensor],
        labels: Tensor,
        sizes: list[tuple[int, int]],
        targets: Targets,
    ) -> Tensor:
        """Cross-entropy of the true class's mask with the object's mask, cropped and resized."""
        pooled = self.mask_roi_pool(features, regions, sizes)
        masks = self.mask_predictor(self.mask_head(pooled))  # (R, K + 1, 28, 28)
        if not len(labels):
            return masks.sum() * 0
        cut = [
            mask_targets(target["masks"], index, own, masks.shape[-1])
            for target, own, index in zip(targets, regions, objects, strict=True)
        ]
        chosen = masks[torch.arange(len(labels), device=labels.device), labels]
        return functional.binary_cross_entropy_with_logits(chosen, torch.cat(cut).to(chosen))


class SeparableRPNHead(SeparableLevels, RPNHead):
    """torchvision's RPN head with a separable hidden convolution, as in `detectron2.heads`.

    Args:
        channels: of each feature map.
        anchors: at each location.
        levels: number of feature maps.
        norm: one of `atto_det.nets.NORMS`, or "" for none.
    """

    def __init__(self, channels: int, anchors: int, levels: int, norm: str) -> None:
        super().__init__(channels, anchors, conv_depth=0)
        del self.conv
        self.add_hidden(channels, [channels], levels, norm)

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Feature maps (B, C, H, W) to logits (B, A, H, W) and offsets (B, 4 * A, H, W) each."""
        hidden = self.hidden(x)
        return list(map(self.cls_logits, hidden)), list(map(self.bbox_pred, hidden))


class Normalise(GeneralizedRCNNTransform):
    """Normalises and pads; pictures are already resized, and results stay in their coordinates.

    Args:
        mean, std: of each channel, in grey levels.
        divisible: the padded height and width are multiples of it.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], divisible: int) -> None:
        super().__init__(0, 0, list(mean), list(std), divisible)

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Both unchanged."""
        return image, target

    def postprocess(
        self, result: list[dict[str, Tensor]], image_shapes: object, original_image_sizes: object
    ) -> list[dict[str, Tensor]]:
        """`result` unchanged."""
        return result
