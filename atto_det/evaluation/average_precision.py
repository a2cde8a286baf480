"""From best overlaps to an average precision: VOC's greedy rule and its two styles."""

from typing import Literal

import numpy as np

from atto_det.evaluation.matching import Overlaps

Style = Literal["area", "11point"]


def class_ap(
    overlaps: Overlaps,
    category: int,
    kind: Literal["box", "mask"],
    *,
    threshold: float,
    difficult_counts: bool,
    style: Style,
) -> float | None:
    """Average precision, in percent, of one class.

    None if it has no object that counts, or for masks if the detections have none.
    """
    if kind not in overlaps.best:
        return None
    wanted = (overlaps.object_classes == category) & ~overlaps.object_crowd
    if not difficult_counts:
        wanted &= ~overlaps.object_difficult
    positives = int(np.count_nonzero(wanted))
    if positives == 0:
        return None

    rows = np.flatnonzero(overlaps.classes == category)
    # Stable: equal scores keep the order of the image list.
    rows = rows[np.argsort(-overlaps.scores[rows], kind="stable")]
    best = overlaps.best[kind][rows]
    hit = (best >= 0) & (overlaps.iou[kind][rows] >= threshold)
    # A detection that finds no object but lies in a crowd region is neither right nor wrong; nor is
    # one that finds a difficult object, if these do not count.
    keep = hit | (overlaps.void[kind][rows] < threshold)
    if not difficult_counts:
        keep[hit] = ~overlaps.object_difficult[best[hit]]
    best, hit = best[keep], hit[keep]

    # The first detection of an object is right; later ones of the same object are wrong.
    right = np.zeros(len(best), dtype=bool)
    _, earliest = np.unique(best[hit], return_index=True)
    right[np.flatnonzero(hit)[earliest]] = True
    return 100 * average_precision(right, positives, style)


def average_precision(right: np.ndarray, positives: int, style: Style) -> float:
    """Average precision, 0 to 1, of detections sorted by decreasing score.

    Args:
        right: bool (M,), whether each detection found an object that was not found before.
        positives: number of objects that can be found, at least 1.
        style: "area" is the area under the precision-recall curve, with precision made
            monotonically decreasing and every point used (VOC 2010 on); "11point" is the mean, over
            the recalls 0, 0.1, …, 1, of the highest precision at that recall or beyond (until VOC
            2009).
    """
    found = np.cumsum(right)
    precision = found / np.arange(1, len(right) + 1)
    # Highest precision at this detection or a later one.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if style == "area":
        return float(envelope[right].sum() / positives)  # each hit adds 1 / positives of recall
    # With integers, since 0.1 · 3 and 3 / 10 are different floating-point numbers.
    starts = np.searchsorted(10 * found, np.arange(11) * positives)
    reached = starts[starts < len(right)]
    return float(envelope[reached].sum() / 11)
