"""The parts of a training step, timed alike in both engines."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

PARTS = ("data_time", "forward_time", "backward_time", "optimizer_time")


class StepTimes:
    """Seconds of a step's forward and backward passes and of the optimiser.

    Work on a GPU is only queued, and time passes where the CPU waits for it; on a CPU the parts are
    what they are called.

    Args:
        network: whose forward passes are those of a step; a step may have several.
    """

    def __init__(self, network: nn.Module, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        network.register_forward_pre_hook(self._forward_begins)
        network.register_forward_hook(self._forward_ends)
        self.begin()

    def begin(self) -> None:
        """A step begins."""
        self._first: float | None = None
        self._forward = 0.0
        self._last = self._updated = 0.0

    def backward_ends(self) -> None:
        """The gradients are there."""
        self._updated = self._clock()

    def end(self) -> dict[str, float]:
        """The step has ended: its parts by name, without the wait for data; none if not seen."""
        if self._first is None or not self._updated:
            return {}
        return {
            "forward_time": self._forward,
            "backward_time": self._updated - self._first - self._forward,
            "optimizer_time": self._clock() - self._updated,
        }

    def _forward_begins(self, *_: Any) -> None:
        self._last = self._clock()
        if self._first is None:
            self._first = self._last

    def _forward_ends(self, *_: Any) -> None:
        self._forward += self._clock() - self._last


def describe_step(row: Mapping[str, float]) -> str:
    """A step's parts in words, of a line of metrics.json; those that it has."""
    parts = (f"{key.removesuffix('_time')} {row[key]:.3f}" for key in PARTS if key in row)
    return f"{', '.join(parts)} s; {row['pictures_per_second']:.1f} pictures a second"
