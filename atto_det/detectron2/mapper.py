"""From a data set dict to what the model takes: decode, augment, tensors."""

import copy
import random

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T

from atto_det import data
from atto_det.errors import UserError
from atto_det.training.batches import draw_seeds


class AttoDatasetMapper(DatasetMapper):
    """Detectron2's mapper with strict decoding, palette labels and a flip that can be forbidden.

    Pictures are decoded by Pillow, so that a truncated file is an error. EXIF orientation is not
    applied, since masks and boxes refer to the stored pixels. Semantic labels are palette indices.
    """

    @configurable
    def __init__(self, is_train: bool, *, unflipped: list[T.Augmentation], **kwargs) -> None:
        super().__init__(is_train, **kwargs)
        self.unflipped = T.AugmentationList(unflipped)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        """Arguments of the constructor, from a config."""
        arguments = super().from_config(cfg, is_train)
        augmentations = arguments["augmentations"]
        return arguments | {"unflipped": [a for a in augmentations if not _mirrors(a)]}

    def __call__(self, dataset_dict: dict) -> dict:
        """Map one dict.

        Raises:
            UserError: the picture is unreadable, truncated, or of another size than annotated, or
                its masks are run-length encoded and INPUT.MASK_FORMAT asks for polygons.
        """
        item = copy.deepcopy(dataset_dict)
        image = data.read_image(item["file_name"])  # (H, W, 3) RGB
        if self.image_format == "BGR":
            image = image[:, :, ::-1]
        stated = (item.get("height", image.shape[0]), item.get("width", image.shape[1]))
        if image.shape[:2] != stated:
            raise UserError(
                f"{item['file_name']} measures {image.shape[1]}×{image.shape[0]} pixels, but its "
                f"annotation says {stated[1]}×{stated[0]}"
            )
        item["height"], item["width"] = stated
        labels = item.pop("sem_seg_palette_file_name", None)
        labels = data.read_palette_png(labels) if labels and self.is_train else None
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
            masks = [annotation.get("segmentation") for annotation in item["annotations"]]
            polygons = self.use_instance_mask and self.instance_mask_format == "polygon"
            if polygons and any(isinstance(m, dict) for m in masks):
                raise UserError(
                    f"INPUT.MASK_FORMAT is polygon, but the masks of {item['file_name']} are "
                    "run-length encoded: set it to bitmask"
                )
            self._transform_annotations(item, transforms, shape)
        return item


def _mirrors(augmentation: T.Augmentation) -> bool:
    return isinstance(augmentation, T.RandomFlip) and augmentation.horizontal


def seed_augmentation(seed: int, iteration: int, slot: int) -> None:
    """Make what the mapper draws next follow from these three numbers alone."""
    first, second = draw_seeds(seed, iteration, slot)
    np.random.seed(first)  # noqa: NPY002  (the generator that Detectron2 draws from)
    random.seed(second)
