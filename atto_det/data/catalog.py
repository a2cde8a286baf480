"""Data sets by name, for both engines: VOC 2012, SBD, the mini VOC, your own folders, COCO files.

Your own folders are in VOC's layout, or YOLO's with a data.yaml.

Names can be registered before the files exist; the files are read when a data set is first used,
from `DETECTRON2_DATASETS` (default: `datasets/` in the working folder).
"""

import logging
import os
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from atto_det import data
from atto_det.data import data_root, held_out
from atto_det.data.copies import find_copies
from atto_det.data.images import check_whole
from atto_det.data.sources import Source, open_source
from atto_det.data.yolo import find_yolo
from atto_det.errors import UserError, shown

logger = logging.getLogger(__name__)

Loader = Callable[[Path], data.Dataset]  # from the data root


class NamedDataset(NamedTuple):
    """A named data set.

    loader: reads it, given the data root.
    class_names: by index.
    source: its name in DATASETS.FOLDERS or DATASETS.COCO; None for a built-in data set.
    category_ids: of each class in the COCO JSON; None (no JSON) means 1, 2, 3 …
    """

    loader: Loader
    class_names: tuple[str, ...]
    source: str | None = None
    category_ids: tuple[int | str, ...] | None = None


def _load_voc(split: str, root: Path) -> data.Dataset:
    return data.load_voc(data.find_voc_root(root), split)


def _load_sbd(split: str, root: Path) -> data.Dataset:
    return data.load_sbd(data.find_sbd_root(root), split)


def _load_mini_voc(split: str, root: Path) -> data.Dataset:
    folder = root / "mini_voc"
    if not folder.is_dir():
        raise UserError(
            f"there is no mini VOC at {folder}: create it with atto-det make-mini-voc, or set "
            "DETECTRON2_DATASETS to the folder that contains it"
        )
    return data.load_voc(folder, split)


BUILTIN = {
    name: NamedDataset(loader, data.VOC_CLASSES)
    for name, loader in {
        **{f"voc_2012_seg_{s}": partial(_load_voc, s) for s in ("train", "val", "trainval")},
        "voc_2012_seg_train_aug": data.load_voc_train_aug,
        **{f"sbd_{s}": partial(_load_sbd, s) for s in ("train", "val")},
        **{f"mini_voc_{s}": partial(_load_mini_voc, s) for s in ("train", "val", "trainval")},
    }.items()
}
_own: dict[str, NamedDataset] = {}  # from the configs that this process has read


def register_own_data(
    cfg: Mapping[str, Any], taken: Container[str] = ()
) -> dict[str, NamedDataset]:
    """Register, and return, the data sets of `DATASETS.FOLDERS` and `DATASETS.COCO` in a config.

    Each split of a folder becomes `<name>_<split>`. Data sets of an earlier config are replaced.
    If the detector has masks (`uses_masks`), objects without a mask are left out.

    Args:
        taken: names of Detectron2's data sets.

    Raises:
        UserError: an entry in the wrong form, a name that is already taken, or a folder or file
            that is missing or broken.
    """
    found: dict[str, NamedDataset] = {}
    masks = uses_masks(cfg)

    def add(name: str, dataset: NamedDataset) -> None:
        if not re.fullmatch(r"\w[\w.+-]{0,99}", name):  # files with results are named after it
            raise UserError(
                f"a data set cannot be named {shown(name)}: use letters, digits, and _ . + - in it"
            )
        if masks:
            dataset = dataset._replace(loader=partial(_load_masked, dataset.loader, name))
        if name in BUILTIN or name in taken:
            owner = "this project" if name in BUILTIN else "Detectron2"
            raise UserError(f"the name {name} belongs to a data set of {owner}; choose another")
        if name in found:
            raise UserError(
                f"{name} occurs twice in DATASETS.FOLDERS and DATASETS.COCO: rename one"
            )
        found[name] = dataset

    for item in cfg["DATASETS"]["FOLDERS"]:
        name, path = _parts(item, 2, "DATASETS.FOLDERS", "[name, path]")
        folder = data_root() / Path(path).expanduser()
        if not folder.is_dir() and not (find_yolo(folder) == folder and folder.is_file()):
            raise UserError(
                f"DATASETS.FOLDERS: {name} has no folder {folder}; relative paths start at "
                "DETECTRON2_DATASETS"
            )
        source = open_source(folder)
        for split in source.splits:
            loader = partial(_load_split, source, split)
            add(f"{name}_{split}", NamedDataset(loader, tuple(source.class_names), name))
    for item in cfg["DATASETS"]["COCO"]:
        form = "[name, json file, image folder], or these and {class: other name or null}"
        mapping = item[3] if isinstance(item, list | tuple) and len(item) == 4 else {}
        name, json_file, images = _parts(item[:3] if mapping else item, 3, "DATASETS.COCO", form)
        files = [data_root() / Path(part).expanduser() for part in (json_file, images)]
        loaded = data.load_coco(*files)
        if mapping:
            if not isinstance(mapping, dict) or not all(
                isinstance(old, str) and isinstance(new, str | None) for old, new in mapping.items()
            ):
                raise UserError(f"each entry of DATASETS.COCO must be {form}, not {shown(item)}")
            loaded = data.with_classes(loaded, mapping, name)
        loader = partial(_load_given, loaded)
        add(name, NamedDataset(loader, loaded.class_names, name, loaded.category_ids))
    if cfg["DATASETS"].get("HOLD_OUT"):
        found |= _parts_of_training(cfg, found)
    if not _own.keys().isdisjoint(found):
        _read.cache_clear()
    _own.update(found)
    return found


def held_out_set(cfg: Mapping[str, Any]) -> str | None:
    """The data set that `DATASETS.HOLD_OUT` holds out of training, to select the best model."""
    datasets = cfg["DATASETS"]
    return f"{datasets['TRAIN'][0]}{held_out.HELD_OUT}" if datasets.get("HOLD_OUT") else None


def _parts_of_training(
    cfg: Mapping[str, Any], found: Mapping[str, NamedDataset]
) -> dict[str, NamedDataset]:
    """The data sets that `DATASETS.HOLD_OUT` creates from those in `DATASETS.TRAIN`."""
    result, train = {}, cfg["DATASETS"]["TRAIN"]
    for name in train:
        dataset = found.get(name) or _named(name)
        for ending, inside in ((held_out.HELD_OUT, True), (held_out.REST, False)):
            loader = partial(_load_part, train[0], name, cfg, inside)
            result[f"{name}{ending}"] = dataset._replace(
                loader=loader, source=dataset.source or name
            )
    return result


def _load_part(
    first: str, name: str, cfg: Mapping[str, Any], inside: bool, root: Path
) -> data.Dataset:
    held = held_out.draw(
        load_dataset(first),
        first,
        cfg["DATASETS"]["HOLD_OUT"],
        cfg["SEED"],
        partial(_keys_of, first),
    )
    return held_out.part(load_dataset(name), held, partial(_keys_of, name), inside=inside)


def uses_masks(cfg: Mapping[str, Any]) -> bool:
    """Whether a config's model has masks, so that objects without a mask are useless to it."""
    model = cfg.get("MODEL", {})
    boxes_alone = model.get("META_ARCHITECTURE") in ("RetinaNet", "FCOS")
    return bool(model.get("MASK_ON", True)) and not boxes_alone


def _load_masked(loader: Loader, name: str, root: Path) -> data.Dataset:
    return data.with_masks(loader(root), name)


def _load_given(dataset: data.Dataset, root: Path) -> data.Dataset:
    return dataset


def _load_split(source: Source, split: str, root: Path) -> data.Dataset:
    return source.load(split)


def _parts(item: object, length: int, key: str, form: str) -> list[str]:
    fits = isinstance(item, list | tuple) and len(item) == length
    if not fits or not all(isinstance(part, str) for part in item):
        raise UserError(f"each entry of {key} must be {form}, not {shown(item)}")
    return list(item)


def names() -> list[str]:
    """The names of all data sets known here."""
    return sorted({**BUILTIN, **_own})


def names_of(name: str) -> set[str]:
    """The names by which a config may refer to a data set: its own, and that of its folder."""
    source = _own[name].source if name in _own else None
    return {name, source or name}


def _named(name: str) -> NamedDataset:
    dataset = BUILTIN.get(name) or _own.get(name)
    if dataset is None:
        raise UserError(
            f"there is no data set {name}: known are {', '.join(names())}; add your own with "
            "DATASETS.FOLDERS"
        )
    return dataset


def class_names_of(name: str) -> list[str]:
    """The class names of a data set.

    Raises:
        UserError: no such data set; the message lists the known ones and how to add one.
    """
    return list(_named(name).class_names)


def load_dataset(name: str) -> data.Dataset:
    """The records of a data set, read once per process and data root.

    Raises:
        UserError: no such data set, or a file of it is missing or broken.
    """
    _named(name)
    return _read(name, data_root())


@cache
def _read(name: str, root: Path) -> data.Dataset:
    dataset = _named(name).loader(root)
    lost = [item for item in dataset.findings if item.severity == "warning"]
    if lost and not any(record.instances or record.crowds for record in dataset.records):
        raise UserError(
            f"no picture of {name} has a usable object, since none of its {len(lost)} annotated "
            f"ones can be used; the first: {lost[0].message}"
        )
    return dataset


def pictures_of(name: str) -> list[tuple[str, str]]:
    """Id and file of each picture of a data set."""
    return [(record.image_id, record.file_name) for record in load_dataset(name).records]


def training_sets(cfg: Mapping[str, Any], known: Container[str] = ()) -> list[tuple[str, bool]]:
    """The names of the training sets, and for each whether it must not be mirrored.

    These are the sets in `DATASETS.TRAIN`, or what `DATASETS.HOLD_OUT` leaves of them.

    Args:
        known: names of data sets in addition to those known here.

    Raises:
        UserError: there is none, or a name in DATASETS.NO_HORIZONTAL_FLIP matches no set.
    """
    datasets = cfg["DATASETS"]
    if not datasets["TRAIN"]:
        raise UserError("DATASETS.TRAIN names no data set: add one")
    owners = {item[0] for item in [*datasets["FOLDERS"], *datasets["COCO"]]}
    forbidden = datasets["NO_HORIZONTAL_FLIP"]
    for name in forbidden:
        if name not in owners and name not in names() and name not in known:
            raise UserError(
                f"DATASETS.NO_HORIZONTAL_FLIP names {name}, which is neither a data set nor an "
                "entry of DATASETS.FOLDERS or DATASETS.COCO"
            )
    part = held_out.REST if datasets.get("HOLD_OUT") else ""
    return [
        (f"{name}{part}", not names_of(name).isdisjoint(forbidden)) for name in datasets["TRAIN"]
    ]


def check_split(
    train: Sequence[str],
    test: Sequence[str],
    class_names_of: Callable[[str], list[str]] = class_names_of,
    pictures_of: Callable[[str], Iterable[tuple[str, str]]] = pictures_of,
) -> None:
    """Refuse pictures that are both trained and tested on, and data sets with different classes.

    Pictures are identified by their file, and those of VOC and SBD also by their id, since SBD has
    copies of VOC's. Copies under other names give a warning.

    Args:
        class_names_of, pictures_of: return, for the name of a data set, its classes, and the id and
            file of each picture.

    Raises:
        UserError: the message names the data sets and some of the pictures.
    """
    first = class_names_of(train[0])
    for name in [*train, *test]:
        if class_names_of(name) != first:
            raise UserError(
                f"{train[0]} and {name} have different classes; train and test on the same ones"
            )

    def keys(name: str) -> list[tuple[str, ...]]:
        """The keys that identify each picture of a data set."""
        return [_known_by(name, *picture) for picture in pictures_of(name)]

    seen = {key: name for name in train for picture in keys(name) for key in picture}
    for name in test:
        shared = [picture for picture in keys(name) if not seen.keys().isdisjoint(picture)]
        if shared:
            owner = next(seen[key] for key in shared[0] if key in seen)
            some = ", ".join(picture[0] for picture in shared[:3])
            raise UserError(
                f"{len(shared)} pictures of the test set {name} are in the training set {owner} "
                f"too ({some}, …): choose splits that share none"
            )
    files = {name: [file for _, file in pictures_of(name)] for name in (*train, *test)}
    _warn_of_copies(
        [file for name in train for file in files[name]],
        [file for name in test for file in files[name]],
    )


def check_test_pictures(
    test: Sequence[str],
    pictures_of: Callable[[str], Iterable[tuple[str, str]]] = pictures_of,
) -> None:
    """Check all test pictures quickly, so that none makes the evaluation after a training fail.

    Raises:
        UserError: there are none, or some are missing, not pictures, or truncated; it names the
            first.
    """
    for name in test:
        broken, pictures = [], list(pictures_of(name))
        if not pictures:
            raise UserError(f"{name} has no image to evaluate on; check its image list")
        for _, file in pictures:
            try:
                check_whole(file)
            except UserError as error:
                broken.append(str(error))
        if broken:
            more = f" ({len(broken)} of its pictures in all)" if len(broken) > 1 else ""
            raise UserError(f"the test set {name} cannot be evaluated on: {broken[0]}{more}")


def _keys_of(name: str, record: data.ImageRecord) -> tuple[str, ...]:
    """The keys that identify a record of data set `name` in other data sets."""
    return _known_by(name, record.image_id, record.file_name)


def _known_by(name: str, image_id: str, file_name: str) -> tuple[str, ...]:
    """The keys that identify a picture of a data set in other data sets."""
    file = os.path.realpath(file_name)
    return (image_id, file) if name.startswith(("voc_2012_seg_", "sbd_")) else (file,)


def _warn_of_copies(train: Iterable[str], test: Iterable[str]) -> None:
    """Warn of test pictures that have the same content as a training picture."""
    copies = find_copies(train, test)
    if copies:
        some = ", ".join(f"{one} and {other}" for one, other in copies[:3])
        logger.warning(
            "%d test pictures are copies of training pictures under other names (%s%s): results "
            "on them are too optimistic",
            len(copies),
            some,
            ", …" if len(copies) > 3 else "",
        )
