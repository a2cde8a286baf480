"""Folders in VOC layout: PASCAL VOC 2012 segmentation, and any folder built like it.

Annotations/<id>.xml, JPEGImages/<id>.jpg, SegmentationClass/<id>.png, SegmentationObject/<id>.png,
ImageSets/Segmentation/<split>.txt, and class_names.txt (one name a line) unless the classes are
VOC's. The rules for objects are in voc_image.py.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from atto_det.data.cache import cached
from atto_det.data.records import Dataset
from atto_det.data.voc_image import MIN_BOX_MASK_IOU, VOID_MARGIN, VocFiles, read_voc_image
from atto_det.errors import UserError

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip

# Wraps the list of image ids to show how far it is, such as `rich.progress.track`.
Progress = Callable[[Sequence[str]], Iterable[str]]


def find_voc_root(data_root: str | os.PathLike) -> Path:
    """The folder of VOC 2012 under `data_root`: `VOC2012` or `VOCdevkit/VOC2012`.

    Raises:
        UserError: neither is there; it names the ways out.
    """
    data_root = Path(data_root)
    for name in ("VOC2012", "VOCdevkit/VOC2012"):
        if (data_root / name / "ImageSets" / "Segmentation").is_dir():
            return data_root / name
    raise UserError(
        f"no VOC 2012 at {data_root / 'VOC2012'} (nor {data_root / 'VOCdevkit' / 'VOC2012'}):"
        " download it with `python tools/prepare_voc.py`, or set DETECTRON2_DATASETS to the folder"
        " that has it, or make the generated mini VOC with `python tools/make_mini_voc.py`"
    )


def list_splits(root: str | os.PathLike) -> list[str]:
    """Names of the splits of a folder in VOC layout, sorted.

    Raises:
        UserError: it has no ImageSets/Segmentation with at least one list.
    """
    folder = Path(root) / "ImageSets" / "Segmentation"
    splits = sorted(path.stem for path in folder.glob("*.txt"))
    if not splits:
        raise UserError(f"no lists at {folder}/*.txt: {root} is no folder in VOC layout")
    return splits


def read_split(root: str | os.PathLike, split: str) -> list[str]:
    """The image ids of a split, in the order of its list.

    Raises:
        UserError: the list is missing, unreadable or empty, has an id twice, or one with a path.
    """
    path = Path(root) / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not path.is_file():
        known = ", ".join(list_splits(root))
        raise UserError(f"{path} does not exist: the splits of {root} are {known}")
    return read_ids(path)


def read_ids(path: Path) -> list[str]:
    """The image ids in a list, one a line.

    Raises:
        UserError: the list is missing, unreadable or empty, has an id twice, or one with a path.
    """
    ids = _read_lines(path)
    if not ids:
        raise UserError(f"{path} is empty: a split needs at least one image id")
    seen = set()
    for image_id in ids:
        if image_id in seen:
            raise UserError(f"{path} lists {image_id} twice: remove one of the lines")
        if "/" in image_id or "\\" in image_id:
            raise UserError(f"{path} lists {image_id!r}: an image id is a name, not a path")
        seen.add(image_id)
    return ids


def read_class_names(root: str | os.PathLike) -> tuple[str, ...]:
    """The names in class_names.txt (one a line), or VOC's where there is no such file.

    Raises:
        UserError: the file is unreadable or empty, or has a name twice.
    """
    path = Path(root) / "class_names.txt"
    if not path.exists():
        return VOC_CLASSES
    names = _read_lines(path)
    if not names or len(set(names)) < len(names):
        raise UserError(f"{path} must have each class name once, one a line; it has {names}")
    return tuple(names)


def load_voc(
    root: str | os.PathLike,
    split: str,
    class_names: Sequence[str] | None = None,
    cache: bool = True,
    progress: Progress = iter,
) -> Dataset:
    """Read one split of a folder in VOC layout.

    Args:
        root: the folder that has Annotations, ImageSets, JPEGImages and so on.
        split: name of a list in ImageSets/Segmentation.
        class_names: classes by index; by default `read_class_names(root)`.
        cache: keep the result under `cache_folder()`, keyed by content.
        progress: wraps the list of ids while the files are read (not when the cache has them).

    Raises:
        UserError: a list or file is missing, unreadable or malformed, sizes differ, a class is
            unknown or disagrees with SegmentationClass; it names the first such file.
    """
    root = Path(root).resolve()
    names = read_class_names(root) if class_names is None else tuple(class_names)
    image_ids = read_split(root, split)

    def read() -> Dataset:
        records, findings = [], []
        for image_id in progress(image_ids):
            record, found = read_voc_image(root, image_id, names)
            if record is None:
                error = next(item for item in found if item.severity == "error")
                raise UserError(
                    f"{error.message} (`python tools/prepare_voc.py --check --folder {root}` lists"
                    " everything that is wrong there)"
                )
            records.append(record)
            findings.extend(found)
        return Dataset(names, tuple(records), tuple(findings))

    if not cache:
        return read()
    files = [VocFiles.of(root, image_id) for image_id in image_ids]
    return cached(
        read,
        root=root,
        name=split,
        settings=[MIN_BOX_MASK_IOU, VOID_MARGIN, names, image_ids],
        stamped=[item.jpeg for item in files],
        hashed=[path for item in files for path in (item.xml, item.class_png, item.object_png)],
    )


def check_disjoint(
    train_ids: Iterable[str], test_ids: Iterable[str], names: tuple[str, str]
) -> None:
    """Refuse a training and a test list that share images.

    Raises:
        UserError: they share some; it names both lists and a few of the ids.
    """
    shared = sorted(set(train_ids) & set(test_ids))
    if shared:
        few = ", ".join(shared[:3]) + (", …" if len(shared) > 3 else "")
        raise UserError(
            f"{names[0]} (training) and {names[1]} (test) share {len(shared)} images ({few}):"
            " what is tested must not be trained on"
        )


def _read_lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no UTF-8 text ({error})") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
