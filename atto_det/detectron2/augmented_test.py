"""Test-time augmentation with Detectron2's own class, for this project's models and data."""

from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.modeling.test_time_augmentation import DatasetMapperTTA
from detectron2.structures import Instances, ROIMasks
from fvcore.transforms.transform import TransformList
from torch import Tensor, nn

from atto_det.errors import UserError
from atto_det.training.views import views_of


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
        views = views_of(cfg)
        mapper = DatasetMapperTTA(
            list(dict.fromkeys(view.short for view in views)),
            views[0].longest,
            any(view.mirrored for view in views),
        )
        # One view at a time: padding a batch to its largest view would change the detections.
        super().__init__(cfg, model, mapper, batch_size=1)

    def _reduce_pred_masks(self, outputs: list[Instances], tfms: list[TransformList]) -> Tensor:
        """The mean of the views' masks (N, 1, M, M), with mirrored ones turned back."""
        for output in outputs:
            masks = output.pred_masks
            if isinstance(masks, ROIMasks):  # from `optimise_for_inference`
                output.pred_masks = masks.tensor[:, None]
        return super()._reduce_pred_masks(outputs, tfms)


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
