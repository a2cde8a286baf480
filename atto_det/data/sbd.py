"""The Semantic Boundaries Dataset (Hariharan et al., ICCV 2011) and VOC's augmented training set.

Layout as released: dataset/img/<id>.jpg, dataset/cls/<id>.mat (GTcls.Segmentation: class per
pixel), dataset/inst/<id>.mat (GTinst.Segmentation: object per pixel, GTinst.Categories: class of
each object), dataset/train.txt, dataset/val.txt. Classes are VOC's. There are no boxes and no
difficult marks; the box is the tight box of the mask.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from atto_det.data.cache import cached
from atto_det.data.images import image_size
from atto_det.data.masks import encode_labels, mask_box
from atto_det.data.records import Dataset, Finding, ImageRecord, Instance, Progress
from atto_det.data.voc import load_voc
from atto_det.data.voc_folder import VOC_CLASSES, find_voc_root, read_ids, read_split
from atto_det.data.voc_image import VOID
from atto_det.errors import UserError, shown


class _SbdFiles(NamedTuple):
    jpeg: Path
    classes: Path
    objects: Path


def find_sbd_root(data_root: str | os.PathLike) -> Path:
    """SBD's folder under `data_root` (`SBD`, `sbd` or `benchmark_RELEASE`), which has `dataset`.

    Raises:
        UserError: there is none.
    """
    data_root = Path(data_root)
    for name in ("SBD", "sbd", "benchmark_RELEASE"):
        if (data_root / name / "dataset" / "inst").is_dir():
            return data_root / name
    raise UserError(
        f"no SBD at {data_root / 'SBD'} (nor sbd, nor benchmark_RELEASE): unpack its release so"
        " that SBD/dataset/inst exists, or set DETECTRON2_DATASETS to the folder that contains it"
    )


def load_sbd(
    root: str | os.PathLike, split: str, cache: bool = True, progress: Progress = iter
) -> Dataset:
    """Read SBD's own split `train` (8,498 images) or `val` (2,857).

    Warnings, each for an object that is left out: a category without pixels (`no_mask`), pixels
    without a category (`no_object`), an object most of whose pixels have another class in cls
    (`class`). Records have no semantic labels.

    Args:
        root: folder that contains `dataset`.
        split: name of a list in `dataset`.
        cache: keep the result under `cache_folder()`, keyed by content.
        progress: wraps the list of ids while the files are read.

    Raises:
        UserError: a file is missing, unreadable or malformed, or sizes differ.
    """
    root = Path(root).resolve()
    image_ids = read_ids(root / "dataset" / f"{split}.txt")

    def read() -> Dataset:
        records, findings = [], []
        for image_id in progress(image_ids):
            records.append(_read_image(root, image_id, findings))
        return Dataset(VOC_CLASSES, tuple(records), tuple(findings))

    if not cache:
        return read()
    files = [_files(root, image_id) for image_id in image_ids]
    return cached(
        read,
        root=root,
        name=split,
        settings=["sbd", image_ids],
        stamped=[item.jpeg for item in files],
        hashed=[path for item in files for path in (item.classes, item.objects)],
    )


def load_voc_train_aug(
    data_root: str | os.PathLike, cache: bool = True, progress: Progress = iter
) -> Dataset:
    """(SBD ∪ VOC seg train) without VOC seg val, commonly called trainaug (10,582 images).

    VOC's train comes first, then SBD's train and val in the order of their lists. If both have an
    image, VOC's own annotation is used.

    Raises:
        UserError: see `find_voc_root`, `find_sbd_root`, `load_voc`, `load_sbd`.
    """
    voc_root, sbd_root = find_voc_root(data_root), find_sbd_root(data_root)
    voc = load_voc(voc_root, "train", VOC_CLASSES, cache, progress)
    taken = {record.image_id for record in voc.records} | set(read_split(voc_root, "val"))
    records, findings = list(voc.records), list(voc.findings)
    for split in ("train", "val"):
        sbd = load_sbd(sbd_root, split, cache, progress)
        records.extend(item for item in sbd.records if item.image_id not in taken)
        findings.extend(item for item in sbd.findings if item.image_id not in taken)
        taken.update(item.image_id for item in sbd.records)
    return Dataset(VOC_CLASSES, tuple(records), tuple(findings))


def _files(root: Path, image_id: str) -> _SbdFiles:
    folder = root / "dataset"
    return _SbdFiles(
        folder / "img" / f"{image_id}.jpg",
        folder / "cls" / f"{image_id}.mat",
        folder / "inst" / f"{image_id}.mat",
    )


def _read_image(root: Path, image_id: str, findings: list[Finding]) -> ImageRecord:
    files = _files(root, image_id)
    height, width = image_size(files.jpeg)
    classes = _labels(files.classes, _read_struct(files.classes, "GTcls"), (height, width))
    struct = _read_struct(files.objects, "GTinst")
    objects = _labels(files.objects, struct, (height, width))
    categories = _categories(files.objects, struct.get("Categories", ()))

    def leave_out(kind: str, what: str) -> None:
        message = f"{files.objects}: {what}; it is left out"
        findings.append(Finding("warning", kind, image_id, message))

    masks = encode_labels(objects)
    instances = []
    for number, category in enumerate(categories, 1):
        where = f"object {number} ({VOC_CLASSES[category - 1]})"
        rle = masks.pop(number, None)
        if rle is None:
            leave_out("no_mask", f"{where} has no pixel in GTinst.Segmentation")
            continue
        votes = np.bincount(classes[objects == number], minlength=256)[:VOID]
        if votes.any() and votes.argmax() != category:
            leave_out("class", f"{where} is mostly of class {votes.argmax()} in GTcls")
            continue
        instances.append(Instance(category - 1, mask_box(rle), rle, difficult=False))
    for value in masks:
        leave_out("no_object", f"value {value} in GTinst.Segmentation has no category")
    return ImageRecord(image_id, str(files.jpeg), height, width, tuple(instances))


def _labels(path: Path, struct: dict, size: tuple[int, int]) -> np.ndarray:
    labels = struct.get("Segmentation")
    if not isinstance(labels, np.ndarray) or labels.dtype != np.uint8 or labels.ndim != 2:
        raise UserError(f"{path}: Segmentation is not an 8-bit label image")
    if labels.shape != size:
        raise UserError(
            f"{path}: Segmentation is {labels.shape[1]}x{labels.shape[0]} pixels, but the JPEG is"
            f" {size[1]}x{size[0]}"
        )
    return labels


def _categories(path: Path, value: object) -> list[int]:
    """The classes of the objects, from 1; MATLAB stores them as floating-point numbers."""
    try:
        numbers = np.asarray(value, dtype=float).ravel().tolist()
    except (TypeError, ValueError):  # text, a struct, or cells of different lengths
        numbers = [None]
    if not all(number in range(1, len(VOC_CLASSES) + 1) for number in numbers):
        raise UserError(f"{path}: GTinst.Categories must be 1 to 20, not {shown(value)}")
    return [int(number) for number in numbers]


def _read_struct(path: Path, name: str) -> dict:
    from scipy.io import loadmat  # imported here since it takes 0.3 s and is rarely needed

    try:
        with path.open("rb") as file:
            struct = loadmat(file, simplify_cells=True)[name]
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    # scipy raises many types on broken files (zlib.error, struct.error, IndexError, …).
    except Exception as error:
        raise UserError(
            f"{path} cannot be read as a MATLAB file with {name} ({error!r})"
        ) from error
    if not isinstance(struct, dict):
        raise UserError(f"{path}: {name} is not a struct")
    return struct
