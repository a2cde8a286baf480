"""From a data set dict to the model's input: decoding, augmentation, conversion to tensors."""

import copy
import random
from collections.abc import Sequence

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances
from pycocotools import mask as mask_utils

from atto_det import data
from atto_det.data.catalog import uses_masks
from atto_det.errors import UserError
from atto_det.training.augmentation import Augmentation, TrainingPicture
from atto_det.training.batches import draw_seeds

from .masks import SharedMasks

# Detectron2's architectures that do not read semantic labels; a user's own may.
_WITHOUT_LABELS = ("GeneralizedRCNN", "ProposalNetwork", "RetinaNet", "FCOS")


class AttoDatasetMapper(DatasetMapper):
    """Detectron2's mapper with strict decoding, palette labels, and flips that can be forbidden.

    Pictures are decoded by Pillow, so that a truncated file is an error, and turned upright as EXIF
    says, like the masks and boxes of our data sets. Semantic labels are palette indices, and are
    read only for architectures that may need them.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        unflipped: list[T.Augmentation],
        use_labels: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(is_train, **kwargs)
        self.use_labels = use_labels and is_train
        self.unflipped = T.AugmentationList(unflipped)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        """Arguments of the constructor, from a config."""
        arguments = super().from_config(cfg, is_train)
        augmentations = [
            AtLeastAPixel(a) if isinstance(a, T.ResizeShortestEdge) else a
            for a in arguments["augmentations"]
        ]
        return arguments | {
            "augmentations": augmentations,
            "unflipped": [a for a in augmentations if not _mirrors(a)],
            "use_instance_mask": uses_masks(cfg),
            "use_labels": cfg.MODEL.META_ARCHITECTURE not in _WITHOUT_LABELS,
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """Map one dict.

        Raises:
            UserError: the picture is unreadable, truncated or not of the annotated size, an object
                has no mask although the model needs one, or masks are run-length encoded although
                INPUT.MASK_FORMAT asks for polygons.
        """
        item = copy.deepcopy(dataset_dict)
        image = data.read_image(item["file_name"])  # (H, W, 3) RGB
        image = data.in_order(image, "RGB", "BGR" if self.image_format == "BGR" else "RGB")
        stated = (item.get("height", image.shape[0]), item.get("width", image.shape[1]))
        if image.shape[:2] != stated:
            raise UserError(
                f"{item['file_name']} measures {image.shape[1]}×{image.shape[0]} pixels, but its "
                f"annotation says {stated[1]}×{stated[0]}"
            )
        item["height"], item["width"] = stated
        labels = item.pop("sem_seg_palette_file_name", None)
        labels = data.read_palette_png(labels) if labels and self.use_labels else None
        augmented = T.AugInput(image, sem_seg=labels)
        forbidden = item.pop("no_horizontal_flip", False)
        transforms = (self.unflipped if forbidden else self.augmentations)(augmented)
        shape = augmented.image.shape[:2]
        pixels = np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
        item["image"] = torch.as_tensor(pixels)  # uint8 (3, H, W)
        if augmented.sem_seg is not None:
            item["sem_seg"] = torch.as_tensor(augmented.sem_seg.astype("int64"))  # (H, W)
        if not self.is_train:
            item.pop("annotations", None)
        elif "annotations" in item:
            objects = [own for own in item["annotations"] if not own.get("iscrowd", 0)]
            masks = [annotation.get("segmentation") for annotation in objects]
            if self.use_instance_mask and not all(masks):
                raise UserError(
                    f"an object of {item['file_name']} has a box and no mask, which MODEL.MASK_ON "
                    "needs: set it to False to train on boxes alone"
                )
            polygons = self.use_instance_mask and self.instance_mask_format == "polygon"
            if polygons and any(isinstance(m, dict) for m in masks):
                raise UserError(
                    f"INPUT.MASK_FORMAT is polygon, but the masks of {item['file_name']} are "
                    "run-length encoded: set it to bitmask"
                )
            self._transform_annotations(item, transforms, shape)
            objects = item["instances"]
            if objects.has("gt_masks") and isinstance(objects.gt_masks, BitMasks):
                objects.gt_masks = SharedMasks(objects.gt_masks.tensor)
        return item


class RecipeMapper:
    """The mapper for trainings with large-scale jitter, copy-paste or colour jitter.

    Raises:
        UserError: Detectron2 keys that cannot be combined with these.
    """

    def __init__(self, cfg: CfgNode) -> None:
        for key, contradicts in (
            ("INPUT.CROP.ENABLED True", cfg.INPUT.CROP.ENABLED),
            ("INPUT.RANDOM_FLIP vertical", cfg.INPUT.RANDOM_FLIP == "vertical"),
            ("INPUT.MASK_FORMAT polygon", cfg.MODEL.MASK_ON and cfg.INPUT.MASK_FORMAT == "polygon"),
            ("MODEL.KEYPOINT_ON True", cfg.MODEL.KEYPOINT_ON),
            ("MODEL.LOAD_PROPOSALS True", cfg.MODEL.LOAD_PROPOSALS),
            (
                f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE}",
                cfg.MODEL.META_ARCHITECTURE in ("PanopticFPN", "SemanticSegmentor"),
            ),
        ):
            if contradicts:
                raise UserError(
                    f"{key} cannot be combined with INPUT.LSJ, INPUT.COPY_PASTE and "
                    "INPUT.COLOR_JITTER: change it, or leave those at their defaults"
                )
        self.augmentation = Augmentation(cfg)
        self.has_masks = cfg.MODEL.MASK_ON
        self.channels = slice(None, None, -1 if cfg.INPUT.FORMAT == "BGR" else 1)

    def __call__(self, dicts: Sequence[dict], index: int, seed: int) -> dict:
        """What Detectron2's mapper would return for dict `index` of a training set.

        Args:
            seed: of all random choices.

        Raises:
            UserError: a picture is unreadable, truncated or not of the annotated size, or an object
                has no mask.
        """
        scene = self.augmentation(_DictsAsPictures(dicts), index, seed)
        objects = Instances(scene.image.shape[:2])
        objects.gt_boxes = Boxes(torch.as_tensor(scene.boxes, dtype=torch.float32))
        objects.gt_classes = torch.as_tensor(scene.classes)
        if self.has_masks:
            objects.gt_masks = SharedMasks(torch.as_tensor(scene.masks))
        pixels = scene.image[:, :, self.channels].transpose(2, 0, 1)
        own = {key: dicts[index][key] for key in ("file_name", "image_id", "height", "width")}
        image = torch.as_tensor(np.ascontiguousarray(pixels))
        return own | {"image": image, "instances": objects}


class _DictsAsPictures(Sequence):
    """The dicts of a training set as `TrainingPicture`s."""

    def __init__(self, dicts: Sequence[dict]) -> None:
        self.dicts = dicts

    def __len__(self) -> int:
        return len(self.dicts)

    def __getitem__(self, index: int) -> TrainingPicture:
        item = self.dicts[index]
        size = item["height"], item["width"]
        objects = tuple(
            data.Instance(
                annotation["category_id"],
                BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS),
                _rle(annotation.get("segmentation"), size),
            )
            for annotation in item["annotations"]
            if not annotation.get("iscrowd", 0)
        )
        record = data.ImageRecord(str(item["image_id"]), item["file_name"], *size, objects)
        return TrainingPicture(record, not item.get("no_horizontal_flip", False))


def _rle(mask: object, size: tuple[int, int]) -> dict | None:
    """A mask as compressed RLE, from either form of RLE or from polygons; None if there is none."""
    if not mask:
        return None
    if isinstance(mask, dict):
        plain = isinstance(mask["counts"], list)
        return mask_utils.frPyObjects(mask, *size) if plain else mask
    return mask_utils.merge(mask_utils.frPyObjects(mask, *size))


class AtLeastAPixel(T.Augmentation):
    """A Detectron2 resizing that keeps each side at one pixel or more, even for narrow strips."""

    def __init__(self, inner: T.ResizeShortestEdge) -> None:
        self.inner = inner

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """The transform of `inner`."""
        found = self.inner.get_transform(image)
        if isinstance(found, T.ResizeTransform):
            found.new_h, found.new_w = max(1, found.new_h), max(1, found.new_w)
        return found

    def __repr__(self) -> str:
        return repr(self.inner)


def _mirrors(augmentation: T.Augmentation) -> bool:
    return isinstance(augmentation, T.RandomFlip) and augmentation.horizontal


def seed_augmentation(seed: int, iteration: int, slot: int) -> None:
    """Make what the mapper draws next depend on these three numbers alone."""
    first, second = draw_seeds(seed, iteration, slot)
    np.random.seed(first)  # noqa: NPY002  (the generator that Detectron2 draws from)
    random.seed(second)
