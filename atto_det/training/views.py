"""The views of a picture that test-time augmentation uses, by the keys of TEST.AUG."""

import logging
from typing import Any, NamedTuple

from atto_det.errors import UserError

logger = logging.getLogger(__name__)


class View(NamedTuple):
    """A picture resized to a shorter side of `short` pixels, its longer one at most `longest`."""

    short: int
    longest: int
    mirrored: bool


def may_mirror(cfg: Any) -> bool:
    """Whether TEST.AUG.FLIP asks for mirrored views and the classes allow them.

    They do not if DATASETS.NO_HORIZONTAL_FLIP says that they tell left from right; this is logged.
    """
    wanted, forbidden = cfg.TEST.AUG.FLIP, cfg.DATASETS.NO_HORIZONTAL_FLIP
    if wanted and forbidden:
        logger.info("TEST.AUG.FLIP: no mirrored views, since NO_HORIZONTAL_FLIP is %s", forbidden)
    return bool(wanted and not forbidden)


def views_of(cfg: Any) -> list[View]:
    """The views that the keys of TEST.AUG ask for.

    Raises:
        UserError: there are none.
    """
    sizes, longest = list(cfg.TEST.AUG.MIN_SIZES), cfg.TEST.AUG.MAX_SIZE
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes) or longest < 1:
        raise UserError(
            f"TEST.AUG.MIN_SIZES is {sizes} and MAX_SIZE {longest}: give shorter sides and the "
            "limit of the longer side in pixels, such as (640, 800) and 1333"
        )
    turns = (False, True) if may_mirror(cfg) else (False,)
    return [View(size, longest, mirrored) for size in sizes for mirrored in turns]
