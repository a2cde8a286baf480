"""What a checkpoint's config says of data, where other data is trained or evaluated on.

The folders of the earlier training may not exist here, and its names mean nothing for other data.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence

from yacs.config import CfgNode

from atto_det.errors import UserError

logger = logging.getLogger(__name__)
ClassNames = Callable[[str], list[str]]  # raises a `UserError` for an unknown data set


def leave_unused(
    datasets: CfgNode, given: Collection[str], class_names_of: ClassNames, *, evaluates: bool
) -> None:
    """Leave out folders, files and training sets that are not needed.

    Args:
        datasets: the carried DATASETS, with the user's options.
        given: the keys that these options set.
        class_names_of: for the data sets that need no registration.
        evaluates: whether nothing is trained.

    Raises:
        UserError: DATASETS.TEST is still that of the earlier training, whose data is not given.
    """
    if not any(key.startswith("DATASETS.") for key in given):
        return
    used = [*datasets.TEST, *(() if evaluates else datasets.TRAIN)]
    for key in ("FOLDERS", "COCO"):
        if f"DATASETS.{key}" not in given:
            rows = datasets[key]
            datasets[key] = [row for row in rows if any(_owns(_owner(row), n) for n in used)]

    def is_there(name: str) -> bool:
        return any(_owns(owner, name) for owner in owners(datasets)) or _knows(name, class_names_of)

    if evaluates and "DATASETS.TRAIN" not in given:
        datasets.TRAIN = tuple(filter(is_there, datasets.TRAIN))
    if "DATASETS.TRAIN" in given and "DATASETS.TEST" not in given:
        for name in datasets.TEST:
            if not is_there(name):
                raise UserError(
                    f"DATASETS.TEST is still {name}, of the earlier training: set it to a data set "
                    "with the new classes, or to () for no evaluation"
                )


def forbid_flips(
    datasets: CfgNode,
    class_names: Sequence[str],
    earlier: Sequence[str],
    class_names_of: ClassNames,
) -> None:
    """Let a carried NO_HORIZONTAL_FLIP name the training sets, if the classes are the same.

    Names of other data are left out.

    Args:
        class_names, earlier: the classes of the data, and those of the checkpoint.
        class_names_of: for all registered data sets.
    """
    names, there = list(datasets.NO_HORIZONTAL_FLIP), set(owners(datasets))
    kept = [name for name in names if name in there or _knows(name, class_names_of)]
    if kept == names:
        return
    lost = ", ".join(name for name in names if name not in kept)
    if list(class_names) == list(earlier):
        kept = list(datasets.TRAIN)
        logger.info("no picture is mirrored, as in the earlier training on %s", lost)
    else:
        logger.warning(
            "pictures may be mirrored, unlike those of %s before: if the new classes tell left "
            "from right, name the data in DATASETS.NO_HORIZONTAL_FLIP",
            lost,
        )
    datasets.NO_HORIZONTAL_FLIP = kept


def owners(datasets: CfgNode) -> Iterable[str]:
    """The names that DATASETS.FOLDERS and DATASETS.COCO give."""
    return map(_owner, (*datasets.FOLDERS, *datasets.COCO))


def _owner(row: object) -> str:
    """The name in an entry of them; the catalogue refuses malformed ones."""
    fits = isinstance(row, list | tuple) and row and isinstance(row[0], str)
    return row[0] if fits else ""


def _owns(owner: str, name: str) -> bool:
    """Whether a data set is of a folder, whose splits follow its name, or of a file."""
    return bool(owner) and (name == owner or name.startswith(f"{owner}_"))


def _knows(name: str, class_names_of: ClassNames) -> bool:
    try:
        class_names_of(name)
    except UserError:
        return False
    return True
