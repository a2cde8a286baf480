"""Adds the data sets of `atto_det.data.catalog` to Detectron2's own catalogues."""

from functools import partial

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from atto_det import data
from atto_det.data import catalog
from atto_det.errors import UserError


def register(name: str, dataset: catalog.NamedDataset) -> None:
    """Add a data set to Detectron2's catalogues; one with the same name is replaced."""
    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    DatasetCatalog.register(name, partial(dataset_dicts, name))
    ids = dataset.category_ids or range(1, len(dataset.class_names) + 1)
    MetadataCatalog.get(name).set(
        thing_classes=list(dataset.class_names),
        thing_dataset_id_to_contiguous_id={number: index for index, number in enumerate(ids)},
        stuff_classes=["background", *dataset.class_names],
        ignore_label=255,
        evaluator_type="coco",  # Detectron2's tools can evaluate these as COCO data sets
    )


def register_builtin() -> None:
    """Register `voc_2012_seg_*`, `sbd_*` and `mini_voc_*`, once."""
    for name, dataset in catalog.BUILTIN.items():
        if name not in DatasetCatalog:
            register(name, dataset)


def register_own_data(cfg: CfgNode) -> None:
    """Register the data sets in `DATASETS.FOLDERS` and `DATASETS.COCO`.

    Raises:
        UserError: as `atto_det.data.catalog.register_own_data`.
    """
    taken = set(DatasetCatalog.list()).difference(catalog.names())
    for name, dataset in catalog.register_own_data(cfg, taken).items():
        register(name, dataset)


def class_names_of(name: str) -> list[str]:
    """The class names of a registered data set.

    Raises:
        UserError: no such data set; the message lists this project's and how to add one.
    """
    if name not in DatasetCatalog:
        return catalog.class_names_of(name)  # raises the error for unknown names
    names = MetadataCatalog.get(name).get("thing_classes")
    if names is None:
        DatasetCatalog.get(name)  # Detectron2's COCO sets fill in their metadata when loaded
        names = MetadataCatalog.get(name).get("thing_classes")
    if names is None:
        raise UserError(f"data set {name} states no thing_classes in its metadata")
    return list(names)


def load_dataset(name: str) -> data.Dataset:
    """The records of one of this project's data sets, read once per process and data root.

    Raises:
        UserError: no such data set, one of Detectron2's, or broken files.
    """
    if name in DatasetCatalog and name not in catalog.names():
        raise UserError(f"{name} is a data set of Detectron2's; this needs one in VOC layout")
    return catalog.load_dataset(name)


def dataset_dicts(name: str) -> list[dict]:
    """A data set in Detectron2's format; masks stay run-length encoded.

    The semantic labels are named `sem_seg_palette_file_name`: with Detectron2's own key, its reader
    would convert the palette to grey levels, and so to wrong labels.
    """
    return [_dict(record) for record in load_dataset(name).records]


def _dict(record: data.ImageRecord) -> dict:
    result = {
        "file_name": record.file_name,
        "image_id": record.image_id,
        "height": record.height,
        "width": record.width,
        "annotations": [
            {
                "bbox": list(instance.box),
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": instance.category,
                "iscrowd": 0,
            }
            # A copy, since Detectron2 modifies its counts.
            | ({} if instance.rle is None else {"segmentation": dict(instance.rle)})
            for instance in record.instances
        ],
    }
    if record.sem_seg_file_name is not None:
        result["sem_seg_palette_file_name"] = record.sem_seg_file_name
    return result


def _pictures_of(name: str) -> list[tuple[str, str]]:
    return [(item["image_id"], item["file_name"]) for item in DatasetCatalog.get(name)]


# Also for Detectron2's own data sets.
check_split = partial(catalog.check_split, class_names_of=class_names_of, pictures_of=_pictures_of)
check_test_pictures = partial(catalog.check_test_pictures, pictures_of=_pictures_of)
