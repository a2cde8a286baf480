"""Parts of plots as SVG text: scales, ticks and axes."""

import math
from collections.abc import Sequence

WIDE, HIGH, LEFT, TOP, BOTTOM = 640, 340, 56, 16, 40  # of a plot, and the room for its axes


class Scale:
    """A linear map from a range of values to positions."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.bounds, self.start, self.end = (low, high), start, end

    def __call__(self, value: float) -> float:
        low, high = self.bounds
        return self.start + (self.end - self.start) * (value - low) / (high - low)


def make_scale(values: Sequence[float], start: float, end: float, margin: float = 0.06) -> Scale:
    """A scale over all `values`, with room of `margin` times their range at both ends."""
    low, high = min(values), max(values)
    room = margin * (high - low) or (0.5 if high == low else 0.0)
    return Scale(low - room, high + room, start, end)


def ticks(scale: Scale, *, whole: bool = False) -> list[tuple[float, str]]:
    """Places and texts of round values; only whole numbers if `whole`."""
    low, high = scale.bounds
    step = 10 ** math.floor(math.log10((high - low) / 3))
    step = next(step * k for k in (1, 2, 5, 10) if (high - low) / (step * k) <= 6)
    step = max(step, 1) if whole else step
    first, last = math.ceil(low / step), math.floor(high / step)
    return [(scale(k * step), f"{k * step:g}") for k in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Up to nine round values of a logarithmic axis."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for steps in ((1, 2, 5), (1, 2, 3, 5, 7), range(1, 10), [k / 10 for k in range(10, 100)]):
        found = [k * 10.0**power for power in powers for k in steps]
        found = [value for value in found if low <= value <= high]
        if len(found) > 2:
            break
    return found[:: -(-len(found) // 9)] if found else []


def axes(
    marks: Sequence[str],
    x_ticks: Sequence[tuple[float, str]],
    y_ticks: Sequence[tuple[float, str]],
    x_name: str,
    y_name: str,
) -> str:
    """A plot of `marks` with a grid at the ticks, which are places and texts."""
    floor = HIGH - BOTTOM
    grid = [
        f'<line class="grid" x1="{a:.1f}" y1="{TOP}" x2="{a:.1f}" y2="{floor}"/>'
        f'<text x="{a:.1f}" y="{floor + 16}" text-anchor="middle">{text}</text>'
        for a, text in x_ticks
    ]
    grid += [
        f'<line class="grid" x1="{LEFT}" y1="{b:.1f}" x2="{WIDE - 12}" y2="{b:.1f}"/>'
        f'<text x="{LEFT - 6}" y="{b + 4:.1f}" text-anchor="end">{text}</text>'
        for b, text in y_ticks
    ]
    names = (
        f'<text x="{(LEFT + WIDE) / 2}" y="{HIGH - 6}" text-anchor="middle">{x_name}</text>'
        f'<text transform="translate(14 {HIGH / 2}) rotate(-90)" text-anchor="middle">{y_name}'
        "</text>"
    )
    return (
        f'<figure class="plot"><svg viewBox="0 0 {WIDE} {HIGH}">{"".join(grid)}{names}'
        f"{''.join(marks)}</svg></figure>"
    )
