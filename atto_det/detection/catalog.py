"""Data sets under Detectron2's names: VOC 2012, SBD, the mini VOC, own folders, COCO files.

Registration names a data set; its files are looked for when it is first asked for, under
`DETECTRON2_DATASETS` (default: `datasets/` in the working folder).
"""

import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from atto_det import data
from atto_det.data import data_root
from atto_det.errors import UserError

Loader = Callable[[Path], data.Dataset]

_loaders: dict[str, Loader] = {}
_sources: dict[str, str] = {}  # own data set → its name in DATASETS.FOLDERS or DATASETS.COCO


def register(
    name: str, loader: Loader, class_names: Sequence[str], source: str | None = None
) -> None:
    """Register a data set; one of an earlier config is replaced.

    Args:
        loader: gets the data root when the data set is first used.
        source: its name in DATASETS.FOLDERS or DATASETS.COCO; None for a built-in one.

    Raises:
        UserError: the name belongs to a built-in data set.
    """
    if name in DatasetCatalog:
        if name not in _sources:
            owner = "this project" if name in _loaders else "Detectron2"
            raise UserError(f"the name {name} belongs to a data set of {owner}; choose another")
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
        _load_dataset.cache_clear()
    _loaders[name] = loader
    if source is not None:
        _sources[name] = source
    DatasetCatalog.register(name, partial(dataset_dicts, name))
    MetadataCatalog.get(name).set(
        thing_classes=list(class_names),
        stuff_classes=["background", *class_names],
        ignore_label=255,
        evaluator_type="voc_instance",
    )


def register_builtin() -> None:
    """Register `voc_2012_seg_*`, `sbd_*` and `mini_voc_*`, once."""
    if "voc_2012_seg_train" in _loaders:
        return
    for split in ("train", "val", "trainval"):
        register(f"voc_2012_seg_{split}", partial(_load_voc, split), data.VOC_CLASSES)
    register("voc_2012_seg_train_aug", _load_train_aug, data.VOC_CLASSES)
    for split in ("train", "val"):
        register(f"sbd_{split}", partial(_load_sbd, split), data.VOC_CLASSES)
    for split in ("train", "val", "trainval"):
        register(f"mini_voc_{split}", partial(_load_mini_voc, split), data.VOC_CLASSES)


def _load_voc(split: str, root: Path) -> data.Dataset:
    return data.load_voc(data.find_voc_root(root), split)


def _load_train_aug(root: Path) -> data.Dataset:
    return data.load_voc_train_aug(root)


def _load_sbd(split: str, root: Path) -> data.Dataset:
    return data.load_sbd(data.find_sbd_root(root), split)


def _load_mini_voc(split: str, root: Path) -> data.Dataset:
    folder = root / "mini_voc"
    if not folder.is_dir():
        raise UserError(
            f"there is no mini VOC at {folder}: make it with python tools/make_mini_voc.py, or set "
            "DETECTRON2_DATASETS to the folder that holds it"
        )
    return data.load_voc(folder, split)


def register_own_data(cfg: CfgNode) -> None:
    """Register what `DATASETS.FOLDERS` and `DATASETS.COCO` name.

    Raises:
        UserError: an entry of another form, a name that is taken, or a folder or file that is
            missing or broken.
    """
    register_builtin()
    seen: set[str] = set()

    def add(name: str, loader: Loader, class_names: Sequence[str], source: str) -> None:
        if name in seen:
            raise UserError(
                f"{name} comes twice from DATASETS.FOLDERS and DATASETS.COCO: rename one"
            )
        seen.add(name)
        register(name, loader, class_names, source)

    for entry in cfg.DATASETS.FOLDERS:
        name, path = _entry(entry, 2, "DATASETS.FOLDERS", "[name, path]")
        folder = data_root() / Path(path).expanduser()
        if not folder.is_dir():
            raise UserError(
                f"DATASETS.FOLDERS: {name} has no folder {folder}; relative paths start at "
                "DETECTRON2_DATASETS"
            )
        class_names = data.read_class_names(folder)
        for split in data.list_splits(folder):
            loader = partial(_load_folder, folder, split)
            add(f"{name}_{split}", loader, class_names, name)
    for entry in cfg.DATASETS.COCO:
        form = "[name, json file, image folder]"
        name, json_file, images = _entry(entry, 3, "DATASETS.COCO", form)
        loaded = data.load_coco(data_root() / json_file, data_root() / images)
        add(name, lambda root, loaded=loaded: loaded, loaded.class_names, name)


def _load_folder(folder: Path, split: str, root: Path) -> data.Dataset:
    return data.load_voc(folder, split)


def _entry(entry: object, length: int, key: str, form: str) -> list[str]:
    fits = isinstance(entry, list | tuple) and len(entry) == length
    if not fits or not all(isinstance(part, str) for part in entry):
        raise UserError(f"each entry of {key} must be {form}, not {entry!r}")
    return list(entry)


def names_of(name: str) -> set[str]:
    """The names that a config may call a data set by: its own, and that of its folder."""
    return {name, _sources.get(name, name)}


def class_names_of(name: str) -> list[str]:
    """Class names of a registered data set.

    Raises:
        UserError: no such data set; it names the nearest ones and how to add one.
    """
    if name not in DatasetCatalog:
        known = ", ".join(sorted(_loaders))
        raise UserError(
            f"there is no data set {name}: known are {known}; add your own with DATASETS.FOLDERS"
        )
    names = MetadataCatalog.get(name).get("thing_classes")
    if names is None:
        DatasetCatalog.get(name)  # Detectron2's COCO sets fill in their metadata when loaded
        names = MetadataCatalog.get(name).get("thing_classes")
    if names is None:
        raise UserError(f"data set {name} states no thing_classes in its metadata")
    return list(names)


def load_dataset(name: str) -> data.Dataset:
    """The records of a data set of ours, read once per process and data root."""
    class_names_of(name)
    if name not in _loaders:
        raise UserError(f"{name} is a data set of Detectron2's; this needs one in VOC layout")
    return _load_dataset(name, data_root())


@cache
def _load_dataset(name: str, root: Path) -> data.Dataset:
    return _loaders[name](root)


def dataset_dicts(name: str) -> list[dict]:
    """A data set in Detectron2's form; masks stay run-length encoded.

    The semantic labels are named `sem_seg_palette_file_name`: under Detectron2's own key its reader
    would turn the palette into grey levels, and so into wrong labels.
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
                "segmentation": instance.rle,
                "iscrowd": 0,
            }
            for instance in record.instances
        ],
    }
    if record.sem_seg_file_name is not None:
        result["sem_seg_palette_file_name"] = record.sem_seg_file_name
    return result


def check_split(train: Sequence[str], test: Sequence[str]) -> None:
    """Refuse a picture that is both trained and tested on, and classes that differ.

    Pictures are known by their file, those of VOC and SBD by their id too: SBD has copies of VOC's.

    Raises:
        UserError: it names the data sets and some of the pictures.
    """
    first = class_names_of(train[0])
    for name in [*train, *test]:
        if class_names_of(name) != first:
            raise UserError(
                f"{train[0]} and {name} have different classes; train and test on the same ones"
            )
    seen = {key: name for name in train for keys in _picture_keys(name) for key in keys}
    for name in test:
        shared = [keys for keys in _picture_keys(name) if not seen.keys().isdisjoint(keys)]
        if shared:
            owner = next(seen[key] for key in shared[0] if key in seen)
            some = ", ".join(keys[0] for keys in shared[:3])
            raise UserError(
                f"{len(shared)} pictures of the test set {name} are in the training set {owner} "
                f"too ({some}, …): choose splits that share none"
            )


def _picture_keys(name: str) -> list[tuple[str, ...]]:
    """What each picture of a data set is known by."""
    files = ((d["image_id"], os.path.realpath(d["file_name"])) for d in DatasetCatalog.get(name))
    official = name.startswith(("voc_2012_seg_", "sbd_"))
    return [(image_id, file) if official else (file,) for image_id, file in files]
