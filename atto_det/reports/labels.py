"""Places names in a plot where they hide least of what is already drawn."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class LabelPlace(NamedTuple):
    """A possible place of a name: its offset from its point, in points, and its alignment."""

    dx: float
    dy: float
    horizontal: str
    vertical: str


def place_label(
    text: Any, places: Sequence[LabelPlace], taken: Sequence[Any], axes: Any
) -> LabelPlace:
    """Move a name to the first of the `places` where it hides least; returns that place.

    Args:
        text: an annotation of `axes`.
        taken: boxes in pixels that should stay visible. Parts outside `axes` count as hidden.
    """
    hidden = []
    for place in places:
        box = _put(text, place)
        outside = box.width * box.height - _common_area(box, axes.bbox)
        hidden.append(round(outside + sum(_common_area(box, other) for other in taken)))
    best = places[hidden.index(min(hidden))]
    _put(text, best)
    return best


def _put(text: Any, place: LabelPlace) -> Any:
    """Move a name; returns the box that it occupies, in pixels."""
    text.xyann = (place.dx, place.dy)
    text.set(ha=place.horizontal, va=place.vertical)
    return text.get_window_extent()


def _common_area(one: Any, other: Any) -> float:
    """The area that two boxes share, in square pixels."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0) * max(height, 0)
