"""Timing by a clock that the contestants turn themselves."""

import functools
import json
import os

import pytest

from atto_det.complexity.latency import Contestant, Timing, measure, peak_memory_of
from atto_det.errors import UserError
from atto_det.reports.latency import (
    Latency,
    latency_record,
    latency_tables,
    ratio,
    speedup,
    write_latencies,
)


class Clock:
    """Stands still but for what the contestants take."""

    def __init__(self) -> None:
        self.now, self.order = 0.0, []

    def __call__(self) -> float:
        return self.now

    def contestant(self, name: str, *parts: tuple[str | None, float]) -> Contestant:
        def run(mark) -> None:
            self.order.append(name)
            for part, seconds in parts:
                self.now += seconds
                if part:
                    mark(part)

        return Contestant(name, run)


def test_parts_sum_up_to_the_whole():
    clock = Clock()
    one = clock.contestant("one", ("body", 2.0), ("head", 1.0), ("body", 0.5), (None, 0.25))
    [timing] = measure([one], 3, batch=2, clock=clock)
    assert timing.seconds == [3.75] * 3
    assert timing.parts == {"body": 2.5, "head": 1.0, "other": 0.25}
    assert (timing.median, timing.p95, timing.throughput) == (3.75, 3.75, 2 / 3.75)


def test_contestants_take_turns_and_warm_up_does_not_count():
    clock = Clock()
    slow, quick = clock.contestant("slow", ("x", 1.0)), clock.contestant("quick", ("x", 0.4))
    timings = measure([slow, quick], 2, warmup=1, clock=clock)
    turn = ["slow", "quick", "quick", "quick"]  # a second at least
    assert clock.order == ["slow", "quick", *turn, *turn]
    assert [len(timing.seconds) for timing in timings] == [2, 6]


def test_a_cold_first_run_does_not_count():
    clock = Clock()
    lasts = iter([50.0, 1.0, 1.0])

    def run(mark) -> None:
        clock.now += next(lasts)

    [timing] = measure([Contestant("one", run)], 2, clock=clock)
    assert timing.seconds == [1.0, 1.0]


def test_statistics_by_hand():
    timing = Timing("one", 4, [float(n) for n in range(1, 102)])
    assert (timing.median, timing.p95, timing.throughput) == (51.0, 96.0, 4 / 51)
    timing = Timing("one", 1, [1.0, 2.0, 3.0, 100.0, 2.0])
    timing.laps = [{"a": s - 0.5, "other": 0.5} for s in timing.seconds]
    assert timing.parts == pytest.approx({"a": 3.5 / 3, "other": 0.5})  # of the runs 2, 2 and 1


# Made where it is run: a process of its own cannot import a test module.
FILL = """__import__("atto_det.complexity.latency").complexity.latency.Contestant(
    "fill", lambda mark: __import__("numpy").ones({} << 20, "uint8").sum()
)"""


@pytest.mark.slow
def test_peak_memory_is_what_a_contestant_needs():
    low, high = (
        peak_memory_of(functools.partial(eval, FILL.format(megabytes))) / 2**20
        for megabytes in (1, 150)
    )
    assert low < 20  # the kernel's counts are rounded: no lower bound that always holds
    assert 140 <= high - low < 160


def test_a_process_that_dies_is_a_sentence():
    with pytest.raises(UserError, match="ended with status 3"):
        peak_memory_of(functools.partial(os._exit, 3))


def latency(detector: str, mode: str, seconds: float, memory: int | None = None) -> Latency:
    laps = [{"bottom_up": seconds * 0.75, "new part": seconds * 0.25, "other": 0.0}]
    return Latency(detector, mode, "8x8", 10, 2, Timing(detector, 1, [seconds], laps), memory)


@pytest.fixture
def latencies():
    return [
        latency("own", "eager", 0.2, 3 << 20),
        latency("own", "fast", 0.1),
        latency("other", "eager", 0.5),
        latency("other", "fast", 0.4),
        latency("other", "compile", 0.3),
    ]


def test_ratios_within_a_mode_and_gains_within_a_detector(latencies):
    assert [ratio(one, latencies) for one in latencies] == pytest.approx(
        [1, 1, 2.5, 4, 1.5]
    )  # the last beside eager
    assert [speedup(one, latencies) for one in latencies] == pytest.approx(
        [1, 2, 1, 1.25, 0.5 / 0.3]
    )
    assert speedup(latencies[1], latencies[1:2]) is None


def test_tables(latencies):
    summary, eager, fast, compiled = latency_tables(latencies)
    assert summary.rows[0] == ("own", "8x8", "eager", "200.0", "200.0", "5.00", "3", *["1.00×"] * 2)
    assert summary.rows[4][-3:] == ("–", "1.50×", "1.67×")
    assert eager.header == ("part", "own 8x8", "other 8x8")
    assert eager.rows[0] == ("bottom_up", "150.00", "375.00")
    assert eager.rows[1] == ("new part", "50.00", "125.00")
    assert eager.rows[2] == ("total", "200.00", "500.00")
    assert len(fast.header) == 3
    assert len(compiled.header) == 2


def test_files(latencies, tmp_path):
    files = write_latencies(tmp_path, latencies, {"machine": "m"}, ["A remark."])
    assert [path.name for path in files] == ["latency.md", "latency.json", "latency.png"]
    assert "A remark." in files[0].read_text()
    content = json.loads(files[1].read_text())
    assert content["machine"] == "m"
    assert content["latencies"] == json.loads(json.dumps(latency_record(latencies)))
    assert content["latencies"][2]["ratio_to_first"] == 2.5
    assert content["latencies"][0]["runs_s"] == [0.2]
    assert files[2].read_bytes().startswith(b"\x89PNG")
