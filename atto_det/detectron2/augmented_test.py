"""Test-time augmentation with Detectron2's own class, for this project's models and data."""

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.structures import Instances, ROIMasks
from fvcore.transforms.transform import TransformList
from torch import Tensor, nn

from atto_det.errors import UserError
from atto_det.training.views import View, views_of

from .mapper import AtLeastAPixel


class AugmentedTest(GeneralizedRCNNWithTTA):
    """A detector that processes several views of a picture, by the keys of TEST.AUG.

    The boxes of all views are merged by NMS and the masks averaged. The picture must have its
    native size (`unresized`). The model may be one of `optimise_for_inference`.

    Raises:
        UserError: a model that this class does not support, or keys that give no view.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module) -> None:
        kind = cfg.MODEL.META_ARCHITECTURE
        if kind != "GeneralizedRCNN" or cfg.MODEL.KEYPOINT_ON or cfg.MODEL.LOAD_PROPOSALS:
            raise UserError(
                "TEST.AUG.ENABLED is True, which needs MODEL.META_ARCHITECTURE GeneralizedRCNN "
                f"without keypoints and given proposals, not {kind}: set it to False"
            )
        # One view at a time: padding a batch to its largest view would change the detections.
        super().__init__(cfg, model, _Viewer(views_of(cfg)), batch_size=1)

    def _reduce_pred_masks(self, outputs: list[Instances], tfms: list[TransformList]) -> Tensor:
        """The mean of the views' masks (N, 1, M, M), with mirrored ones turned back."""
        for output in outputs:
            masks = output.pred_masks
            if isinstance(masks, ROIMasks):  # from `optimise_for_inference`
                output.pred_masks = masks.tensor[:, None]
        return super()._reduce_pred_masks(outputs, tfms)


class _Viewer:
    """Makes the views of a picture, each with the transforms that lead to it.

    Detectron2's own resizes narrow strips to a side of no pixel.
    """

    def __init__(self, views: Sequence[View]) -> None:
        self.augmentations = []
        for view in views:
            resize = AtLeastAPixel(T.ResizeShortestEdge(view.short, view.longest))
            flip = [T.RandomFlip(prob=1.0)] if view.mirrored else []
            self.augmentations.append(T.AugmentationList([resize, *flip]))

    def __call__(self, item: dict) -> list[dict]:
        """One dict for each view of a picture, which a loader of a user's own may have resized."""
        result, pixels = [], item["image"].permute(1, 2, 0).numpy()
        native, given = (item["height"], item["width"]), pixels.shape[:2]
        before = [T.ResizeTransform(*native, *given)] if native != given else []
        for augmentation in self.augmentations:
            seen = T.AugInput(pixels.copy())
            transforms = TransformList([*before, *augmentation(seen).transforms])
            image = torch.as_tensor(np.ascontiguousarray(seen.image.transpose(2, 0, 1)))
            result.append(item | {"image": image, "transforms": transforms})
        return result


def unresized(cfg: CfgNode) -> CfgNode:
    """`cfg`; with TEST.AUG.ENABLED, a copy whose test pictures keep their size."""
    if not cfg.TEST.AUG.ENABLED:
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    cfg.INPUT.MIN_SIZE_TEST = 0
    return cfg


def augmented(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """`model`; with TEST.AUG.ENABLED, an `AugmentedTest` around it.

    Raises:
        UserError: as `AugmentedTest`.
    """
    return AugmentedTest(cfg, model) if cfg.TEST.AUG.ENABLED else model
