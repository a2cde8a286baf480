"""ImageNet50, and any other selection of ImageNet's classes, in the ImageFolder layout.

A selection is a folder with train/<wnid>/, val/<wnid>/, class_names.txt (a class list) and
manifest.json, which has these keys:

  classes       wnids in the order of the list
  list          the file of the list
  list_sha256   of its wnids: `cut -f 1 class_names.txt | sha256sum` prints it
  source        folder of ImageNet
  layout        by split: the layout in which the pictures were found
  files         copies, symbolic links or hard links
  pictures      by split: total number
  by_class      by split: number of each class
  version, command   of the code that created it

It is built in `<folder>.part`, which is renamed when it is complete.
"""

import errno
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from atto_det import __version__
from atto_det.data.image_folder import is_hidden, list_folder, read_class_list, read_splits
from atto_det.data.imagenet_sources import PictureFile, SplitPictures, find_train, find_val
from atto_det.data.images import read_image
from atto_det.errors import UserError, temporary_of, write_error, write_file

COPIES, SYMBOLIC, HARD = "copies", "symbolic links", "hard links"
MANIFEST, CLASS_LIST = "manifest.json", "class_names.txt"

Item = TypeVar("Item")
# Wraps a list to show the progress: the list, and a word for what is being done.
NamedProgress = Callable[[Sequence[Item], str], Iterable[Item]]


@dataclass(frozen=True)
class Selection:
    """The result of `make_selection`.

    Attributes:
        folder: where it is.
        manifest: the content of its manifest.json.
        written: number of pictures that were not there before.
    """

    folder: Path
    manifest: dict
    written: int


def make_selection(
    source: str | os.PathLike,
    class_list: str | os.PathLike,
    folder: str | os.PathLike,
    files: str = COPIES,
    progress: NamedProgress = lambda items, _: items,
    command: Sequence[str] = (),
) -> Selection:
    """Select the classes of a list from ImageNet, continuing an interrupted earlier call.

    Args:
        source: folder of ImageNet, in one of the layouts of imagenet_sources.py.
        class_list: see `read_class_list`.
        folder: to be created.
        files: COPIES, SYMBOLIC or HARD.
        progress: shows the progress of writing.
        command: the command line, for the manifest.

    Raises:
        UserError: `folder` is something else or was made from another list, source or kind of
            files; it cannot be written; links are requested to pictures in a tar; or an error of
            `read_class_list`, `find_train` or `find_val`.
    """
    source, folder = Path(os.path.realpath(source)), Path(os.path.realpath(folder))
    classes = read_class_list(class_list)
    identity = {"classes": list(classes), "source": str(source), "files": files}
    work = folder if _filled(folder) else folder.with_name(folder.name + ".part")
    if _filled(work):
        _require_same(work, identity)
    list_folder(source, "give the folder that contains ImageNet's train and val")
    ways = [("train", find_train), ("val", find_val)]
    try:
        splits = {split: find(source, list(classes)) for split, find in progress(ways, "listing")}
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error}") from error
    if files != COPIES:
        _require_files(splits, files)
    manifest = identity | {
        "list": str(class_list),
        "list_sha256": hashlib.sha256("".join(f"{n}\n" for n in classes).encode()).hexdigest(),
        "layout": {split: found.layout for split, found in splits.items()},
        "pictures": {s: sum(map(len, f.pictures.values())) for s, f in splits.items()},
        "by_class": {s: {n: len(p) for n, p in f.pictures.items()} for s, f in splits.items()},
        "version": __version__,
        "command": list(command),
    }
    # Written first, so that a later call knows what was started here.
    write_file(work / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    write_file(work / CLASS_LIST, "".join(f"{wnid}\t{name}\n" for wnid, name in classes.items()))
    targets = [
        (work / split / name / picture.name, picture)
        for split, found in splits.items()
        for name, pictures in found.pictures.items()
        for picture in pictures
    ]
    missing = _missing(work, targets)
    for target, picture in progress(missing, "writing") if missing else ():
        _put(picture, target, files)
    if work != folder:
        try:
            work.rename(folder)
        except OSError as error:
            raise write_error(folder, error) from error
    return Selection(folder, manifest, len(missing))


def check_pictures(
    folder: str | os.PathLike, progress: NamedProgress = lambda items, _: items
) -> list[str]:
    """Decode every picture of a folder with train and val; returns an error for each bad one.

    Raises:
        UserError: see `read_splits`.
    """
    paths = [path for split in read_splits(folder) for path in split.paths]

    def fault(path: Path) -> str | None:
        try:
            read_image(path)
        except UserError as error:
            return str(error)
        return None

    # Pillow releases the GIL while decoding. Its warnings about EXIF data do not matter here.
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            steps = zip(progress(paths, "decoding"), pool.map(fault, paths), strict=True)
            return [found for _, found in steps if found]
    finally:
        pool.shutdown(cancel_futures=True)


def _filled(folder: Path) -> bool:
    """Whether the folder has any entries that are not hidden."""
    try:
        return folder.exists() and not all(is_hidden(path.name) for path in folder.iterdir())
    except OSError as error:
        raise write_error(folder, error) from error


def _require_same(folder: Path, identity: dict) -> None:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        there = {key: manifest[key] for key in identity}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} exists and was not made by this tool (no readable {MANIFEST}): choose"
            " another folder, or move it away"
        ) from error
    if there["classes"] != identity["classes"]:
        raise UserError(
            f"{folder} was made from another class list ({manifest.get('list')}): choose another"
            " folder for this one, or move it away"
        )
    for key in ("source", "files"):
        if there[key] != identity[key]:
            raise UserError(
                f"{folder} was made of {there[key]}, not of {identity[key]}: choose another"
                " folder, or move it away"
            )


def _require_files(splits: dict[str, SplitPictures], files: str) -> None:
    for found in splits.values():
        for pictures in found.pictures.values():
            if pictures[0].offset is not None:
                raise UserError(
                    f"{files} need pictures in files of their own, but some are in"
                    f" {pictures[0].path}: unpack it, or make copies"
                )


def _missing(work: Path, targets: list[tuple[Path, PictureFile]]) -> list[tuple[Path, PictureFile]]:
    """The targets that do not exist with the right size; `work` must hold nothing but targets.

    Unfinished files of a killed run are removed.
    """
    sizes: dict[Path, dict[str, int]] = {}
    for target, picture in targets:
        sizes.setdefault(target.parent, {})[target.name] = picture.size
    there = set()
    try:
        _sweep(work, {MANIFEST, CLASS_LIST})
        for split in {folder.parent for folder in sizes}:
            for path in split.iterdir() if split.exists() else ():
                if path not in sizes and not is_hidden(path.name):
                    raise UserError(f"{path} does not belong to this selection: move it away")
        for folder, expected in sizes.items():
            if not folder.exists():
                continue
            _sweep(folder, expected)
            for path in folder.iterdir():
                if path.name in expected:
                    if path.exists() and path.stat().st_size == expected[path.name]:
                        there.add(path)
                elif not is_hidden(path.name):
                    raise UserError(f"{path} is not in the source: move it away")
    except OSError as error:
        raise write_error(work, error) from error
    return [(target, picture) for target, picture in targets if target not in there]


def _sweep(folder: Path, expected: Container[str]) -> None:
    """Remove the temporary files of a killed run: hidden files named after an expected one."""
    for path in folder.iterdir():
        if temporary_of(path.name) in expected:
            path.unlink()


def _put(picture: PictureFile, target: Path, files: str) -> None:
    if files == COPIES:
        write_file(target, picture.read())
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if files == SYMBOLIC:
            target.symlink_to(picture.path)
        else:
            target.hardlink_to(picture.path.resolve())
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise UserError(
                f"{target} cannot be a hard link: {picture.path} is on another file system; make"
                " symbolic links or copies"
            ) from error
        raise write_error(target, error) from error
