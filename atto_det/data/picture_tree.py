"""Pictures without labels: all pictures in a folder, at any depth."""

import logging
import os
from pathlib import Path

from atto_det.data.image_folder import is_hidden, is_picture
from atto_det.errors import UserError

logger = logging.getLogger(__name__)
EVERY_NTH = 50  # without a val folder, every 50th picture is held out


def read_tree_splits(root: str | Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The training and the held-out pictures of `root`.

    These are the pictures in `<root>/train` and `<root>/val` if both exist, else all in `root`, of
    which every 50th by name is held out.

    Raises:
        UserError: no such folder, fewer than two pictures, or train and val are one folder.
    """
    root = Path(root)
    train, val = root / "train", root / "val"
    if train.is_dir() and val.is_dir():
        if train.samefile(val):
            raise UserError(f"{root}: train and val are the same folder, so that val says nothing")
        return tuple(list_tree(train)), tuple(list_tree(val))
    found = list_tree(root)
    if len(found) < 2:
        raise UserError(
            f"{root} holds one picture, but at least two are needed: to train on and to hold out"
        )
    held_out = found[::EVERY_NTH]
    rest = sorted(set(found) - set(held_out))
    logger.info(
        "%s has no train and val folders: %d of its %d pictures, every %dth by name, are held out",
        root,
        len(held_out),
        len(found),
        EVERY_NTH,
    )
    return tuple(rest), tuple(held_out)


def list_tree(folder: str | Path) -> list[Path]:
    """All pictures in `folder` and its subfolders, sorted by path; links count as their targets.

    The visible files that are not pictures by their names are counted in a log line.

    Raises:
        UserError: the folder is missing, unreadable or contains itself, or has no picture.
    """

    def fail(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be read ({error.strerror})") from error

    found, others = [], []
    above: dict[str, tuple[str, ...]] = {}  # folder to the real paths of all folders above it
    for place, folders, files in os.walk(Path(folder), onerror=fail, followlinks=True):
        real = os.path.realpath(place)
        line = above.get(str(Path(place).parent), ())
        if real in line:
            raise UserError(f"{place} is a link that leads to a folder around it: remove it")
        above[str(place)] = (*line, real)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in files:
            if not is_hidden(name):
                (found if is_picture(name) else others).append(Path(place, name))
    if not found:
        raise UserError(f"{folder} holds no picture: name a folder of pictures")
    if others:
        logger.info(
            "%s: %d files are not pictures by their names and are not used, such as %s",
            folder,
            len(others),
            min(others),
        )
    return sorted(found)
