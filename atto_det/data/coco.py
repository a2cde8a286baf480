"""COCO's instance JSON: written with RLE masks, read with polygons, RLE or compressed RLE."""

import os
from pathlib import Path

from pycocotools import mask as mask_utils

from atto_det.data.coco_reader import read_coco
from atto_det.data.outlines import mask_polygons
from atto_det.data.records import Dataset, unusable
from atto_det.errors import UserError


def to_coco(dataset: Dataset, image_root: str | os.PathLike, *, polygons: bool = False) -> dict:
    """The data set as a COCO JSON object; it is the same for the same data set.

    Image, annotation and category ids count from 1 in the order of the data set. `bbox` is the
    annotated box as XYWH, `area` the number of mask pixels (the area of the box if there is no
    mask), and the extra key `difficult` is 0 or 1.

    Args:
        image_root: folder that `file_name` is relative to.
        polygons: write masks as polygons instead of RLE; pycocotools turns them into the same
            masks. torchvision's first reference scripts read only polygons.

    Raises:
        UserError: a picture lies outside `image_root`.
    """
    image_root = Path(image_root).resolve()
    images, annotations = [], []
    for image_number, record in enumerate(dataset.records, 1):
        try:
            name = Path(record.file_name).relative_to(image_root).as_posix()
        except ValueError as error:
            raise UserError(f"{record.file_name} lies outside {image_root}") from error
        images.append(
            {
                "id": image_number,
                "file_name": name,
                "height": record.height,
                "width": record.width,
            }
        )
        for item, crowd in [(i, 0) for i in record.instances] + [(i, 1) for i in record.crowds]:
            left, top, right, bottom = item.box
            area = (right - left) * (bottom - top)
            segmentation: list | dict = []
            if item.rle is not None:
                area = int(mask_utils.area(item.rle))
                counts = item.rle["counts"].decode("ascii")
                segmentation = {"size": list(item.rle["size"]), "counts": counts}
                if polygons and not crowd:
                    segmentation = mask_polygons(mask_utils.decode(item.rle))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_number,
                    "category_id": item.category + 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "area": area,
                    "iscrowd": crowd,
                    "difficult": int(item.difficult),
                    "segmentation": segmentation,
                }
            )
    categories = [
        {"id": number, "name": name} for number, name in enumerate(dataset.class_names, 1)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco_ids(dataset: Dataset) -> tuple[dict[str, int | str], list[int | str]]:
    """The ids in a COCO JSON: of pictures by name, and of classes by index.

    These are the ids in the JSON that the data set came from, or else those that `to_coco` assigns.
    """
    images = {
        record.image_id: number if record.coco_id is None else record.coco_id
        for number, record in enumerate(dataset.records, 1)
    }
    categories = dataset.category_ids or range(1, len(dataset.class_names) + 1)
    return images, list(categories)


def load_coco(json_path: str | os.PathLike, image_root: str | os.PathLike) -> Dataset:
    """Read COCO's instance JSON.

    Categories are sorted by id and numbered from 0; an unused category is left out if it is the
    root of the others (Roboflow) or has the name of another one. An image's id is its `file_name`
    without the suffix, unless two names differ only in the suffix. A missing `bbox` is replaced by
    the tight box of the mask, and a missing `difficult` by 0. An object with a sound box but no
    mask gets the mask None.

    Left out, each with a warning that says which annotation and why: one with neither mask nor box;
    a box outside the picture, or one that disagrees with its mask as in VOC's layout (`box`); crowd
    regions (`crowd`), which are in each record's `crowds`; an unknown image or category.

    Raises:
        UserError: the file is unreadable, an image or a category in it is malformed, a picture is
            missing, unreadable or of the wrong size, or no annotation can be used.
    """
    dataset, findings = read_coco(json_path, image_root)
    if dataset is None:
        raise unusable(findings, f"{json_path} --images {image_root}")
    return dataset
