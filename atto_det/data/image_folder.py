"""Classification data in the ImageFolder layout: `<root>/<split>/<class>/<picture>`.

ImageNet's classes are folders named by their WordNet id (wnid). A class list is a text file with a
line for each class: the folder's name, optionally followed by the class's name. The two are
separated by a tab or, in a line without a tab, by the first white space. Hidden files are ignored.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atto_det.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
FOLDER, FILE, ODD = "a folder", "a file", "a broken link, or not a regular file"
_LAYOUT = "classification data is <root>/train/<class>/<picture> and <root>/val/<class>/<picture>"
_LEFT_BY_WINDOWS = ("thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class ImageFolder:
    """Pictures of one split, sorted by class and name.

    Attributes:
        classes: folder names; a label is an index into them.
        paths: of the pictures.
        labels: of the pictures, in the same order.
    """

    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: tuple[int, ...]


def read_image_folder(
    root: str | Path, split: str, classes: Sequence[str] | None = None
) -> ImageFolder:
    """List the pictures of `<root>/<split>`, or only those of `classes`.

    Labels follow the order of `classes`, or else the sorted names of the folders.

    Raises:
        UserError: no such folder, a picture outside the class folders, a class without a folder,
            or an error of `list_pictures`.
    """
    folder = Path(root) / split
    entries = list_folder(folder, _LAYOUT)
    for name, kind in entries.items():
        if kind == ODD:
            raise UserError(f"{folder / name} is {ODD}: restore it, or move it away")
        if kind == FILE and is_picture(name):
            raise UserError(f"{folder / name} lies outside the class folders: {_LAYOUT}")
    folders = [name for name, kind in entries.items() if kind == FOLDER]
    if classes is None:
        classes = folders
    if not classes:
        raise UserError(f"{folder} holds no class folders: {_LAYOUT}")
    require_classes(classes, folders, folder, "no folder")
    paths, labels = [], []
    for label, name in enumerate(classes):
        found = list_pictures(folder / name)
        paths += found
        labels += [label] * len(found)
    return ImageFolder(tuple(classes), tuple(paths), tuple(labels))


def read_splits(
    root: str | Path, class_list: str | Path | None = None
) -> tuple[ImageFolder, ImageFolder]:
    """The train and val splits of `root`, with the same classes in the same order.

    Raises:
        UserError: train and val are one folder or have different classes, or an error of
            `read_image_folder` or `read_class_list`.
    """
    classes = list(read_class_list(class_list)) if class_list else None
    train = read_image_folder(root, "train", classes)
    val = read_image_folder(root, "val", classes)
    if (Path(root) / "train").samefile(Path(root) / "val"):
        raise UserError(f"{root}: train and val are the same folder, so that val says nothing")
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))
        where = "train" if odd[0] in train.classes else "val"
        raise UserError(
            f"{root}: train and val have different classes ({len(odd)} differ); {odd[0]} is in "
            f"{where} alone"
        )
    return train, val


def held_out(folder: ImageFolder, share: float, seed: int) -> tuple[ImageFolder, ImageFolder]:
    """Split the pictures: without a share of each class, drawn by a seed; and that share.

    Each of the two parts has at least one picture of each class.

    Raises:
        UserError: a class has only one picture.
    """
    random = np.random.default_rng(seed)
    inside = np.zeros(len(folder.labels), bool)
    labels = np.array(folder.labels)
    for label, name in enumerate(folder.classes):
        rows = np.flatnonzero(labels == label)
        if len(rows) < 2:
            where = folder.paths[rows[0]].parent
            raise UserError(f"class {name} has one picture ({where}): holding some out needs two")
        count = min(max(round(share * len(rows)), 1), len(rows) - 1)
        inside[random.permutation(rows)[:count]] = True

    def part(chosen: np.ndarray) -> ImageFolder:
        rows = np.flatnonzero(chosen)
        paths = tuple(folder.paths[row] for row in rows)
        return ImageFolder(folder.classes, paths, tuple(folder.labels[row] for row in rows))

    return part(~inside), part(inside)


def read_class_list(path: str | Path) -> dict[str, str]:
    """Folder names and class names of a class list, in its order; blank and # lines are ignored.

    A class without a name gets that of its folder.

    Raises:
        UserError: the list is unreadable or empty, repeats a class, or has an invalid folder name.
    """
    try:
        # utf-8-sig: editors on Windows put a byte order mark before the first class.
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise UserError(f"class list {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"class list {path} is not UTF-8 text: save it as one") from error
    classes: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        line = line.lstrip()
        if not line or line.startswith("#"):
            continue
        where = f"class list {path}, line {number}"
        if "\t" in line:
            folder, name = line.split("\t", 1)
        else:
            folder, name = [*line.split(maxsplit=1), ""][:2]
        folder, name = folder.strip(), name.strip()
        if folder in classes:
            raise UserError(f"{where}: {folder} is listed twice")
        if not _is_folder_name(folder):
            raise UserError(
                f"{where}: {folder!r} is not the name of a class folder, such as n01443537"
            )
        classes[folder] = name or folder
    if not classes:
        raise UserError(f"class list {path} names no class")
    return classes


def list_pictures(folder: Path) -> list[Path]:
    """The pictures directly in `folder`, sorted by name.

    Raises:
        UserError: there are none, or there is something else, which is not skipped silently since
            it might be a picture with an unexpected name.
    """
    found = []
    for name, kind in list_folder(folder).items():
        if kind == FILE and is_picture(name):
            found.append(folder / name)
            continue
        what = "not a picture by its name" if kind == FILE else kind
        raise UserError(
            f"{folder / name} is {what}: move it away, since a class folder holds pictures alone"
            f" ({', '.join(SUFFIXES)})"
        )
    if not found:
        raise UserError(f"{folder} holds no picture: add some, or remove the class")
    return found


def list_folder(folder: Path, expected: str = "") -> dict[str, str]:
    """The entries of `folder`, sorted: name to kind (`FOLDER`, `FILE`, `ODD`).

    Links count as their targets. Hidden files, and those that Windows creates, are ignored.

    Raises:
        UserError: the folder is missing or cannot be read; the message ends with `expected`.
    """
    kinds = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not is_hidden(entry.name):
                    is_folder, is_file = entry.is_dir(), entry.is_file()
                    kinds[entry.name] = FOLDER if is_folder else FILE if is_file else ODD
    except OSError as error:
        reason = f"{folder} cannot be read ({error.strerror or error})"
        raise UserError(f"{reason}: {expected}" if expected else reason) from error
    return dict(sorted(kinds.items()))


def is_picture(name: str) -> bool:
    """Whether a file of this name is considered a picture."""
    return name.lower().endswith(SUFFIXES)


def is_hidden(name: str) -> bool:
    """Whether a file of this name is ignored: `.DS_Store`, `.ipynb_checkpoints`, Thumbs.db."""
    return name.startswith(".") or name.lower() in _LEFT_BY_WINDOWS


def require_classes(
    classes: Sequence[str], there: Iterable[str], where: Path, lacking: str
) -> None:
    """Refuse a place that lacks a class.

    Raises:
        UserError: a class of `classes` is not among `there`, the names in `where`.
    """
    there = set(there)
    missing = [name for name in classes if name not in there]
    if not missing:
        return
    first = missing[0]
    alike = [name for name in there if name.lower() == first.lower()]
    hint = f"; there is {alike[0]}, and upper and lower case differ" if alike else ""
    raise UserError(
        f"{where} has {lacking} for the class {first} ({len(missing)} of {len(classes)} classes"
        f" are missing){hint}"
    )


def _is_folder_name(name: str) -> bool:
    """Whether `name` is a single visible folder, which cannot lead out of the split's folder."""
    return (
        bool(name)
        and name.isprintable()
        and not name.startswith(".")
        and not set(name) & set("/\\")
        and len(name.encode()) <= 255
    )
