"""Folders in VOC's layout: PASCAL VOC 2012 segmentation, and any folder of the same structure.

The layout is in voc_folder.py, the rules for objects in voc_image.py.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from atto_det.data.cache import cached
from atto_det.data.records import Dataset, Progress
from atto_det.data.voc_folder import VocFolder, read_class_names, read_split
from atto_det.data.voc_image import MIN_BOX_MASK_IOU, VOID_MARGIN, read_voc_image
from atto_det.errors import UserError


def load_voc(
    root: str | os.PathLike,
    split: str,
    class_names: Sequence[str] | None = None,
    cache: bool = True,
    progress: Progress = iter,
) -> Dataset:
    """Read one split of a folder in VOC's layout.

    Args:
        root: the folder that contains Annotations, ImageSets, JPEGImages and so on.
        split: name of a list in ImageSets/Segmentation.
        class_names: classes by index; by default `read_class_names(root)`.
        cache: keep the result under `cache_folder()`, keyed by content.
        progress: wraps the list of ids while the files are read (unused if they are cached).

    Raises:
        UserError: a list or file is missing, unreadable or malformed, sizes differ, or a class is
            unknown or disagrees with SegmentationClass; the message names the first such file.
    """
    root = Path(root).resolve()
    names = read_class_names(root) if class_names is None else tuple(class_names)
    image_ids = read_split(root, split)
    folder = VocFolder.of(root)

    def read() -> Dataset:
        records, findings = [], []
        for image_id in progress(image_ids):
            record, found = read_voc_image(folder, image_id, names)
            if record is None:
                error = next(item for item in found if item.severity == "error")
                raise UserError(
                    f"{error.message} (`atto-det prepare-voc --check --folder {root}` lists"
                    " everything that is wrong there)"
                )
            records.append(record)
            findings.extend(found)
        return Dataset(names, tuple(records), tuple(findings))

    try:
        files = [folder.files(image_id) for image_id in image_ids]
    except UserError:
        cache = False  # reading will report the problem
    if not cache:
        return read()
    return cached(
        read,
        root=root,
        name=split,
        settings=[MIN_BOX_MASK_IOU, VOID_MARGIN, names, image_ids],
        stamped=[item.jpeg for item in files],
        hashed=[path for item in files for path in item[1:] if path],
    )


def check_disjoint(
    train_ids: Iterable[str], test_ids: Iterable[str], names: tuple[str, str]
) -> None:
    """Refuse a training list and a test list that share images.

    Raises:
        UserError: they do; the message names both lists and some of the ids.
    """
    shared = sorted(set(train_ids) & set(test_ids))
    if shared:
        few = ", ".join(shared[:3]) + (", …" if len(shared) > 3 else "")
        raise UserError(
            f"{names[0]} (training) and {names[1]} (test) share {len(shared)} images ({few}):"
            " what is tested must not be trained on"
        )
