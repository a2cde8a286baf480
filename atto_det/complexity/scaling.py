"""How time and memory grow with one quantity of the work, as a power of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Point:
    """What was measured at one value of a quantity.

    Attributes:
        value: of the quantity.
        seconds: by part of the work.
        memory: bytes at the peak; None if not measured.
    """

    value: int
    seconds: dict[str, float]
    memory: int | None = None


@dataclass(frozen=True)
class Curve:
    """Points in increasing order of their values.

    Attributes:
        quantity: what grows, such as "detections".
        work: what does not, in words.
    """

    quantity: str
    work: str
    points: tuple[Point, ...]

    @property
    def parts(self) -> list[str]:
        """The parts of all points, in order."""
        return list(dict.fromkeys(part for point in self.points for part in point.seconds))

    def exponent(self, part: str | None = None) -> float | None:
        """k in time ∝ value^k, of a part or of the whole."""
        times = [
            point.seconds.get(part, 0.0) if part else sum(point.seconds.values())
            for point in self.points
        ]
        return exponent([point.value for point in self.points], times)

    @property
    def memory_exponent(self) -> float | None:
        """k in peak memory ∝ value^k; None if a point has none."""
        measured = [point.memory for point in self.points if point.memory is not None]
        if len(measured) < len(self.points):
            return None
        return exponent([point.value for point in self.points], measured)


def exponent(values: Sequence[float], results: Sequence[float]) -> float | None:
    """k of the power law results ∝ values^k that fits the upper half of the values best.

    Least squares of the logarithms, over the values from the geometric middle of the smallest and
    the largest one on, at least the last two: what is constant counts less there. None for fewer
    than two values, or results that are not positive.
    """
    if len(values) < 2:
        return None
    middle = math.sqrt(values[0] * values[-1])
    first = min(next(i for i, value in enumerate(values) if value >= middle), len(values) - 2)
    x, y = values[first:], results[first:]
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if min(y) > 0 else None
