"""Readers of data sets. They return plain records (see records.py) and use no framework."""

from atto_det.data.coco import coco_ids, load_coco, to_coco
from atto_det.data.images import (
    image_size,
    in_order,
    read_image,
    read_palette_png,
    take_picture,
    voc_palette,
)
from atto_det.data.records import Dataset, Finding, ImageRecord, Instance, with_classes, with_masks
from atto_det.data.root import data_root
from atto_det.data.sbd import find_sbd_root, load_sbd, load_voc_train_aug
from atto_det.data.voc import check_disjoint, load_voc
from atto_det.data.voc_folder import (
    VOC_CLASSES,
    find_voc_root,
    list_splits,
    read_class_names,
    read_split,
)

__all__ = [
    "VOC_CLASSES",
    "Dataset",
    "Finding",
    "ImageRecord",
    "Instance",
    "check_disjoint",
    "coco_ids",
    "data_root",
    "find_sbd_root",
    "find_voc_root",
    "image_size",
    "in_order",
    "list_splits",
    "load_coco",
    "load_sbd",
    "load_voc",
    "load_voc_train_aug",
    "read_class_names",
    "read_image",
    "read_palette_png",
    "read_split",
    "take_picture",
    "to_coco",
    "voc_palette",
    "with_classes",
    "with_masks",
]
