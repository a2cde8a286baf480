"""How long networks take: contestants run alternately, so that a drifting machine affects all
alike.

A contestant is a name and a callable. The callable gets a function `mark` and may call
`mark("backbone")` at the end of each part of its work: the time since the previous mark is assigned
to that part, so that the parts add up to the whole run. Time after the last mark is "other".

On a CPU the clock is `time.perf_counter`. On CUDA every mark is an event in the stream, and each
run begins and ends synchronised, so that a part lasts, on the GPU, from the end of the previous
part to its own end, including the time that the GPU waited.
"""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from atto_det.errors import UserError

Mark = Callable[[str], None]
OTHER = "other"
TURN = 1.0
"""Seconds of a turn: in it, a fast contestant runs several times, first with caches that hold the
others' data, then as if it were running alone."""


class Contestant(NamedTuple):
    """What is timed: a name, and a callable that gets `mark` and returns when its work is done.

    (On CUDA, it returns when its work has been queued in the stream.)
    """

    name: str
    run: Callable[[Mark], Any]


@dataclass
class Timing:
    """The runs of one contestant.

    Attributes:
        name: of the contestant.
        batch: pictures in each run.
        seconds: of each run, in order.
        laps: the same runs by part.
    """

    name: str
    batch: int = 1
    seconds: list[float] = field(default_factory=list)
    laps: list[dict[str, float]] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def p95(self) -> float:
        """Seconds within which 95 of 100 runs stay; interpolated between runs."""
        return float(np.percentile(self.seconds, 95))

    @property
    def throughput(self) -> float:
        """Pictures per second: batch / median."""
        return self.batch / self.median

    @property
    def parts(self) -> dict[str, float]:
        """Seconds by part, in order: the mean over the half of the runs closest to the median.

        They add up to the mean of those runs, which is close to the median.
        """
        order = sorted(range(len(self.seconds)), key=lambda i: abs(self.seconds[i] - self.median))
        middle = [self.laps[i] for i in order[: (len(order) + 1) // 2]]
        names = dict.fromkeys(name for laps in middle for name in laps)
        return {name: sum(laps.get(name, 0.0) for laps in middle) / len(middle) for name in names}


def measure(
    contestants: Sequence[Contestant],
    repeats: int,
    *,
    batch: int = 1,
    warmup: int = 1,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[range], Iterable[int]] = iter,
) -> list[Timing]:
    """Time the contestants, each once in every round, in the given order.

    Args:
        repeats: rounds that count. In each, a contestant's turn lasts for at least one run and
            until `TURN` seconds are over; every run counts.
        batch: pictures per run of each contestant.
        warmup: rounds of one run each before these, which do not count.
        device: where the contestants compute, "cpu" or "cuda…".
        clock: returns seconds, for work on a CPU.
        progress: wraps the rounds, as `rich.progress.track` does.
    """
    watch = _EventWatch(device) if device.startswith("cuda") else _Watch(clock)
    timings = [Timing(contestant.name, batch) for contestant in contestants]
    for number in progress(range(warmup + repeats)):
        for contestant, timing in zip(contestants, timings, strict=True):
            turn = 0.0
            while turn < TURN:
                laps = watch.time(contestant.run)
                turn += sum(laps.values())
                if number < warmup:
                    break
                timing.seconds.append(sum(laps.values()))
                timing.laps.append(laps)
    return timings


class _Watch:
    """Times one run at a time, by part."""

    def __init__(self, clock: Callable[[], Any]) -> None:
        self._clock = clock
        self._marks: list[tuple[str, Any]] = []

    def time(self, run: Callable[[Mark], Any]) -> dict[str, float]:
        """Seconds of each part of one run, always including "other"."""
        self._marks = [("", self._clock())]
        run(self._mark)
        self._mark(OTHER)
        self._finish()
        laps: dict[str, float] = {}
        for (_, begin), (name, end) in zip(self._marks, self._marks[1:], strict=False):
            laps[name] = laps.get(name, 0.0) + self._between(begin, end)
        return laps

    def _mark(self, name: str) -> None:
        self._marks.append((name, self._clock()))

    def _finish(self) -> None:
        """Wait for unfinished work."""

    @staticmethod
    def _between(begin: Any, end: Any) -> float:
        return end - begin


class _EventWatch(_Watch):
    """The same with events in a CUDA stream."""

    def __init__(self, device: str) -> None:
        super().__init__(self._event)
        self._device = torch.device(device)

    def time(self, run: Callable[[Mark], Any]) -> dict[str, float]:
        self._finish()
        with torch.cuda.device(self._device):
            return super().time(run)

    def _event(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _finish(self) -> None:
        torch.cuda.synchronize(self._device)

    @staticmethod
    def _between(begin: torch.cuda.Event, end: torch.cuda.Event) -> float:
        return begin.elapsed_time(end) / 1000


def peak_memory_of(
    make: Callable[[], Contestant],
    *,
    device: str = "cpu",
    imports: Sequence[str] = (),
    runs: int = 2,
) -> int:
    """Peak memory, in bytes, of a contestant that is made and run in a separate process.

    On a CPU: how much the process's highest resident memory (getrusage's ru_maxrss) grows from
    before `make` until after the runs. This includes weights, intermediate results, scratch space,
    what the allocator keeps, and code that is first used then. On CUDA:
    `torch.cuda.max_memory_allocated`, including weights.

    Args:
        make: picklable; a function of a module, or a `functools.partial` of one.
        imports: modules that the process loads before measuring, so that they do not count.
        runs: how often it runs; a first run may allocate less.

    Raises:
        UserError: the process ended early, for example for lack of memory.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(imports))
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_measure_memory, args=(make, device, runs, send))
    process.start()
    send.close()
    try:
        return receive.recv()
    except EOFError:
        process.join()
        raise UserError(
            f"peak memory was not measured: its process ended with status {process.exitcode} "
            "(-9 is a lack of memory); leave it out, or take a smaller input"
        ) from None
    finally:
        process.join()


def _measure_memory(make: Callable[[], Contestant], device: str, runs: int, send: Any) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in KiB on Linux
    contestant = make()
    for _ in range(runs):
        contestant.run(lambda name: None)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if device.startswith("cuda"):
        send.send(torch.cuda.max_memory_allocated(torch.device(device)))
    else:
        send.send((after - before) * 1024)
