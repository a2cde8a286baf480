"""What a checkpoint's config says of data, where other data is trained or evaluated on.

The folders of the earlier training may not exist here, and its names mean nothing for other data.
"""

import logging
from collections.abc import Callable, Collection, Sequence

from yacs.config import CfgNode

from atto_det.data import data_root
from atto_det.data.held_out import HELD_OUT
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
        UserError: DATASETS.TEST is still that of the earlier training, whose data is not here.
    """
    if not evaluates and not any(key.startswith("DATASETS.") for key in given):
        return

    def is_here(name: str) -> bool:
        row = _owner(name, [*datasets.FOLDERS, *datasets.COCO])
        if row is not None:
            return len(row) < 2 or (data_root() / str(row[1])).exists()
        return _knows(name, class_names_of)

    if "DATASETS.TRAIN" in given and "DATASETS.TEST" not in given:
        for name in datasets.TEST:
            if not is_here(name):
                raise UserError(
                    f"DATASETS.TEST is still {name}, of the earlier training: set it to a data set "
                    "with the new classes, or to () for no evaluation"
                )
    # What is held out depends on all training sets.
    needs_train = not evaluates or any(name.endswith(HELD_OUT) for name in datasets.TEST)
    if not needs_train and "DATASETS.TRAIN" not in given:
        datasets.TRAIN = tuple(filter(is_here, datasets.TRAIN))
    used = [*datasets.TEST, *(datasets.TRAIN if needs_train else ())]
    for key in ("FOLDERS", "COCO"):
        if f"DATASETS.{key}" not in given:
            rows = [*datasets.FOLDERS, *datasets.COCO]
            owners = [_owner(name, rows) for name in used]
            datasets[key] = [row for row in datasets[key] if row in owners]


def forbid_flips(
    datasets: CfgNode, class_names: Sequence[str], earlier: Sequence[str], *, flips: bool
) -> None:
    """Let a carried NO_HORIZONTAL_FLIP hold for the training sets, if no class is new.

    Args:
        class_names, earlier: the classes of the data, and those of the checkpoint.
        flips: whether pictures are mirrored at all.
    """
    names = datasets.NO_HORIZONTAL_FLIP
    if not names:
        return
    if set(class_names) <= set(earlier):
        datasets.NO_HORIZONTAL_FLIP = list(datasets.TRAIN)
        return
    if flips:
        logger.warning(
            "pictures may be mirrored, unlike those of %s before: if the new classes tell left "
            "from right, name the data in DATASETS.NO_HORIZONTAL_FLIP",
            ", ".join(names),
        )
    datasets.NO_HORIZONTAL_FLIP = []


def _owner(name: str, rows: Sequence) -> Sequence | None:
    """The entry of DATASETS.FOLDERS or DATASETS.COCO that gives a data set: the longest that fits.

    The splits of a folder follow its name. The catalogue refuses malformed entries.
    """
    found = None
    for row in rows:
        if not (isinstance(row, list | tuple) and row and isinstance(row[0], str) and row[0]):
            continue
        fits = name == row[0] or name.startswith(f"{row[0]}_")
        if fits and (found is None or len(row[0]) > len(found[0])):
            found = row
    return found


def _knows(name: str, class_names_of: ClassNames) -> bool:
    try:
        class_names_of(name)
    except (OSError, UserError):  # Detectron2's own sets are read for their classes
        return False
    return True
