"""The memory and time that a step of a training needs, estimated before the first step.

The picture of the training set that is largest after resizing is passed forward and backward
through a copy of the model, so that the run's weights, statistics and random numbers do not change.
A large picture is measured at a quarter and at half of its side lengths and extrapolated along the
line through the two: the cost of the layers grows with the area, that of the heads does not. Memory
and time of a batch are proportional to its number of pictures. Gradients, the optimizer, and the
batches that the loader's workers keep ready are added to the memory.
"""

import copy
import ctypes
import logging
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import nn
from yacs.config import CfgNode

from atto_det.errors import UserError, shown
from atto_det.nets.recomputation import recomputing

logger = logging.getLogger(__name__)
_DEAR = 400 * 400  # pixels; larger pictures are measured at reduced sizes
_PREFETCHED = 2  # batches that each worker of a DataLoader keeps ready
_SPARE = 0.85  # share of the memory that "auto" may fill, since allocators leave gaps


class Pictures(Protocol):
    """The loader of a training, as far as the estimate needs it.

    Attributes:
        sizes: int (N, 2), height and width of each picture.
        counts: int (N,), the number of objects of each.
    """

    sizes: np.ndarray
    counts: np.ndarray

    def sample(self, index: int, cfg: CfgNode) -> Any:
        """Picture `index` as the training gets it, by the keys of INPUT in `cfg`."""


class Measured(NamedTuple):
    """What one picture needs.

    Attributes:
        size: height and width of the largest training picture, in pixels, after resizing.
        share: area of the mean training picture divided by that of the largest.
        picture: bytes that a step needs for each picture.
        fixed: bytes of gradients, momentum and averaged weights, whatever the batch.
        sample: bytes of a picture that waits in the loader.
        seconds: forward and backward.
        keeps: whether the backbone keeps activations that it could recompute.
    """

    size: tuple[int, int]
    share: float
    picture: int
    fixed: int
    sample: int
    seconds: float
    keeps: bool = False

    def need(self, cfg: CfgNode, pictures: int, parts: int) -> int:
        """Bytes that a process's step on so many pictures needs if it is split into `parts`."""
        waiting = (_PREFETCHED * cfg.DATALOADER.NUM_WORKERS + 1) * pictures * self.sample
        on_device = 0 if cfg.MODEL.DEVICE.startswith("cuda") else waiting
        return self.fixed + -(-pictures // parts) * self.picture + on_device


def resized(cfg: CfgNode, sizes: np.ndarray) -> np.ndarray:
    """Training heights and widths, float (S, N, 2), for each of the S sizes in INPUT."""
    inputs = cfg.INPUT
    if inputs.LSJ.ENABLED:
        return np.broadcast_to(np.array(inputs.LSJ.SIZE, float), (1, *sizes.shape))
    shorts = np.array(inputs.MIN_SIZE_TRAIN, float)
    if inputs.MIN_SIZE_TRAIN_SAMPLING == "range":
        shorts = np.linspace(shorts.min(), shorts.max(), 9)
    if shorts.max() == 0:  # Detectron2's convention: pictures keep their size
        return sizes[None].astype(float)
    scale = shorts[:, None] / sizes.min(1)
    longest = scale * sizes.max(1)
    scale *= np.minimum(1, inputs.MAX_SIZE_TRAIN / longest)
    return np.round(sizes * scale[..., None]).clip(1)  # strips keep a pixel


def measure(
    cfg: CfgNode,
    loader: Pictures,
    network: nn.Module,
    step: Callable[[nn.Module, Any], None],
) -> Measured:
    """Measure one picture.

    Args:
        network: the one in training, on its device.
        step: passes one sample forward and backward through a network.

    Raises:
        UserError: the measured picture is unreadable.
    """
    all_sizes = resized(cfg, loader.sizes)
    areas = all_sizes.prod(-1)
    largest = areas.max(0)
    # Of the pictures near the largest size, take the one with the most objects: masks need memory.
    near = np.flatnonzero(largest >= 0.98 * largest.max())
    index = int(near[loader.counts[near].argmax()])
    height, width = (int(side) for side in all_sizes[areas[:, index].argmax(), index])
    weights = sum(p.numel() * p.element_size() for p in network.parameters() if p.requires_grad)
    device = next(network.parameters()).device
    devices = [device] if device.type == "cuda" else []
    with _quiet(), torch.random.fork_rng(devices):
        probe = copy.deepcopy(network).train()
        watch = _MemoryWatch(device)

        def one(scale: float) -> np.ndarray:
            """Bytes and seconds of a step, and bytes of a sample, with sides scaled by `scale`."""
            sample = loader.sample(index, _scaled(cfg, scale))
            if isinstance(sample, UserError):
                raise sample
            with watch:
                step(probe, sample)
            return np.array([watch.peak, watch.seconds, len(pickle.dumps(sample))])

        if height * width < _DEAR:
            found = one(1.0)
        else:
            one(0.25)  # the first step is slower
            quarter, half = one(0.25), one(0.5)
            found = quarter + 5 * (half - quarter)  # (1 - 1/16) / (1/4 - 1/16)
    peak, seconds, sample = found.tolist()
    return Measured(
        (height, width),
        float(areas.mean() / areas.max()),
        max(int(peak) - weights, 0),
        weights * (3 if cfg.SOLVER.EMA.DECAY else 2),
        int(sample),
        seconds,
        not all(part.recomputes for part in recomputing(network)),
    )


def _scaled(cfg: CfgNode, scale: float) -> CfgNode:
    """The config for the largest of its training sizes, scaled by `scale`."""
    own = cfg.clone()
    own.defrost()
    own.INPUT.MIN_SIZE_TRAIN = (round(scale * max(own.INPUT.MIN_SIZE_TRAIN)),)
    own.INPUT.MIN_SIZE_TRAIN_SAMPLING = "choice"
    own.INPUT.MAX_SIZE_TRAIN = round(scale * own.INPUT.MAX_SIZE_TRAIN)
    own.INPUT.LSJ.SIZE = tuple(round(scale * side) for side in own.INPUT.LSJ.SIZE)
    return own


class _MemoryWatch:
    """Measures the peak rise of memory in use while it is active, and the time taken.

    On a CPU, the time is the process's CPU time divided by its threads, so that other processes do
    not affect it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.on_gpu = device, device.type == "cuda"
        _trim()
        self.start = torch.cuda.memory_allocated(device) if self.on_gpu else _resident()

    def __enter__(self) -> None:
        self.done, self.highest = threading.Event(), 0
        if self.on_gpu:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            _trim()
            self.thread = threading.Thread(target=self._look, daemon=True)
            self.thread.start()
        self.begin = self._now()

    def _now(self) -> float:
        return time.monotonic() if self.on_gpu else time.process_time() / torch.get_num_threads()

    def _look(self) -> None:
        while not self.done.wait(0.002):
            self.highest = max(self.highest, _resident())

    def __exit__(self, *_: object) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)
            self.highest = torch.cuda.max_memory_allocated(self.device)
        self.seconds = self._now() - self.begin
        self.done.set()
        if not self.on_gpu:
            self.thread.join()
            self.highest = max(self.highest, _resident())
        self.peak = self.highest - self.start


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what libraries log about a second loader."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)


def _trim() -> None:
    """Make the C library return freed memory, so that it is not counted again."""
    with suppress(AttributeError, OSError):  # not the GNU C library
        ctypes.CDLL(None).malloc_trim(0)


def _resident() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):  # not Linux
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def free_memory(device: str) -> int | None:
    """Bytes that a training can still use: of the GPU, or of the machine within its cgroup.

    None if the system does not tell.
    """
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    found = [_of_machine(), *_of_groups(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))]
    return min((value for value in found if value is not None), default=None)


def _of_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if "MemAvailable" in line)
    except (OSError, StopIteration, ValueError):
        return None


def _of_groups(root: Path, own: Path) -> Iterator[int]:
    """What the limits of this process's control groups (v1 and v2) and their parents leave."""
    try:
        groups = [line.split(":", 2)[1:] for line in own.read_text().splitlines()]
    except OSError:
        return
    for controllers, name in groups:
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "memory" if controllers else root
        files = ("memory.max", "memory.current", "inactive_file")
        if controllers:
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        place = Path(name.lstrip("/"))
        for part in [place, *place.parents]:
            folder = base / part
            try:
                limit, used = (int((folder / file).read_text()) for file in files[:2])
                stat = dict(line.split() for line in (folder / "memory.stat").open())
            except (OSError, ValueError):  # a limit of "max", or no such group
                continue
            yield limit - used + int(stat.get(files[2], 0))


def parts_that_fit(measured: Measured, cfg: CfgNode, pictures: int, free: int | None) -> int:
    """The smallest number of equal parts of a process's batch with which a step fits.

    If not even single pictures fit, as many parts as pictures.
    """
    counts = [parts for parts in range(1, pictures + 1) if pictures % parts == 0]
    if free is None:
        return 1
    fits = (parts for parts in counts if measured.need(cfg, pictures, parts) <= _SPARE * free)
    return next(fits, counts[-1])


def check(
    measured: Measured, cfg: CfgNode, pictures: int, parts: int, steps: int, free: int | None
) -> dict[str, Any]:
    """Log what a step needs and how long the run takes.

    Args:
        pictures: per process and step.
        steps: remaining.
        free: bytes; None skips the comparison.

    Returns:
        The same as plain values for JSON.

    Raises:
        UserError: a step needs more than there is; it names the keys that reduce the need.
    """
    height, width = measured.size
    need, seconds = measured.need(cfg, pictures, parts), measured.seconds * pictures
    whole = seconds * measured.share * steps
    each = f" in parts of {pictures // parts}" if parts > 1 else ""
    several = "picture" if pictures == 1 else "pictures"
    step = f"a step of {pictures} {several}{each}, the largest {width}x{height},"
    if free is not None and need > free:
        raise UserError(
            f"{step} needs about {_gib(need)}, and {_gib(free)} are free: "
            f"{_advice(measured, cfg, pictures, free)}"
        )
    of = f" of the {_gib(free)} that are free" if free is not None else ""
    logger.info(
        "%s needs about %s%s and takes about %s; the %d steps of this run take about %s "
        "on an otherwise idle machine (one picture was measured)",
        *(step, _gib(need), of, _duration(seconds), steps, _duration(whole)),
    )
    return {
        "largest_picture": [height, width],
        "pictures_per_step": pictures,
        "parts": parts,
        "bytes_per_picture": measured.picture,
        "bytes_per_step": need,
        "bytes_free": free,
        "seconds_per_step": seconds,
        "seconds_of_run": whole,
    }


def _advice(measured: Measured, cfg: CfgNode, pictures: int, free: int) -> str:
    ways = []
    parts = parts_that_fit(measured, cfg, pictures, free)
    if measured.need(cfg, pictures, parts) <= free:
        ways.append(f"set SOLVER.ACCUMULATE to {parts}, or to auto")
    if measured.keeps:
        ways.append("set MODEL.BACKBONE.GRADIENT_CHECKPOINTING to True")
    ways.append("lower SOLVER.IMS_PER_BATCH (with SOLVER.BASE_LR in proportion)")
    ways.append("INPUT.MIN_SIZE_TRAIN")
    if cfg.DATALOADER.NUM_WORKERS:
        ways.append("DATALOADER.NUM_WORKERS")
    return ", or ".join([", ".join(ways[:-1]), ways[-1]])


@contextmanager
def out_of_memory_as_sentence() -> Iterator[None]:
    """Turn an out-of-memory error of the GPU or of the CPU's allocator into a `UserError`.

    Raises:
        UserError: it names the keys that reduce the need.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        where = "the GPU has" if isinstance(error, torch.OutOfMemoryError) else "there is"
        raise UserError(
            f"{where} not enough memory for a step ({shown(str(error).partition('. ')[0], 120)}): "
            "raise SOLVER.ACCUMULATE (auto: as much as necessary), set "
            "MODEL.BACKBONE.GRADIENT_CHECKPOINTING to True, or lower SOLVER.IMS_PER_BATCH or "
            "INPUT.MIN_SIZE_TRAIN; --resume continues from the last checkpoint"
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "can't allocate memory" in str(error)


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**29 else f"{size / 2**20:.0f} MiB"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} seconds"
