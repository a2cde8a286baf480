"""Training batches that follow from (seed, iteration) alone, so that a resumed run goes on exactly.

Detectron2's samplers start their stream again on resume. Here batch `i` is computed from `i`: its
epoch, that epoch's permutation, and its place in it; and what is drawn for a picture follows from
(seed, iteration, slot in the batch).
"""

import array
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import distributed
from torch.utils.data import DataLoader, Dataset, Sampler

from atto_det.errors import UserError
from atto_det.training.keys import AUTO, REPEATING, SAMPLERS

BatchSlot = tuple[int, int, int]  # iteration, slot in the batch, index of the picture


class BatchOrder:
    """Which pictures batch `iteration` has.

    Args:
        portrait: bool (N,), which pictures are higher than wide. Within an epoch wide pictures
            share batches, and high ones do, since a batch is padded to its largest height and
            width; pass all False for plain shuffling.
        batch_size: pictures per batch, all processes together.
        seed: of the permutations.
        repeats: float (N,), how often each picture comes in an epoch, on average over the epochs;
            None for once.

    An epoch has every picture once, or as `repeats` says, save fewer than `batch_size` that are
    left over; a set smaller than a batch is repeated within it.
    """

    def __init__(
        self,
        portrait: np.ndarray,
        batch_size: int,
        seed: int,
        repeats: np.ndarray | None = None,
    ) -> None:
        self.portrait = portrait
        self.batch_size = batch_size
        self.seed = seed
        self.repeats = repeats
        self.length = len(portrait) if repeats is None else int(repeats.sum())  # of an epoch
        self.per_epoch = max(self.length // batch_size, 1)
        self._epoch = lru_cache(maxsize=2)(self._shuffled_epoch)

    def _shuffled_epoch(self, epoch: int) -> np.ndarray:
        generator = np.random.default_rng((self.seed, epoch))
        count = self.per_epoch * self.batch_size
        rounds = -(-count // self.length)
        order = [self._round(generator) for _ in range(rounds)]
        order = np.concatenate(order)[:count]
        order = order[np.argsort(self.portrait[order], kind="stable")]
        batches = order.reshape(self.per_epoch, self.batch_size)
        return batches[generator.permutation(self.per_epoch)]

    def _round(self, generator: np.random.Generator) -> np.ndarray:
        """The pictures of an epoch in random order."""
        order = generator.permutation(len(self.portrait))
        if self.repeats is None:
            return order
        # Systematic sampling: each picture comes as often as `repeats` says, rounded up or down at
        # random, and every epoch has the same length.
        ends = self.repeats[order].cumsum()
        marks = (np.arange(self.length) + generator.uniform()) * (ends[-1] / self.length)
        drawn = order[np.searchsorted(ends, marks, side="right").clip(max=len(order) - 1)]
        return generator.permutation(drawn)

    def __call__(self, iteration: int) -> list[int]:
        """Indices of the pictures of batch `iteration` (from 0)."""
        epoch, place = divmod(iteration, self.per_epoch)
        return self._epoch(epoch)[place].tolist()


def repeat_factors(
    classes: Sequence[Collection[int]], threshold: float, *, root: bool = True
) -> np.ndarray:
    """How often each picture comes in an epoch, so that rare classes come more often.

    Of a class in the share f of the pictures the factor is max(1, √(threshold / f)), of a picture
    the largest of its classes' (LVIS, arXiv 1908.03195, Appendix B.2).

    Args:
        classes: of each picture.
        threshold: DATALOADER.REPEAT_THRESHOLD.
        root: DATALOADER.REPEAT_SQRT; without it the square root is not taken.

    Returns:
        float (N,), at least 1.

    Raises:
        UserError: a threshold that no share of the pictures can be.
    """
    if not 0 <= threshold <= 1:
        raise UserError(
            f"DATALOADER.REPEAT_THRESHOLD is {threshold}: it is a share of the pictures, 0 to 1"
        )
    count = Counter(number for own in classes for number in set(own))
    factors = {number: threshold * len(classes) / found for number, found in count.items()}
    if root:
        factors = {number: factor**0.5 for number, factor in factors.items()}
    return np.array([max([1.0, *(factors[number] for number in set(own))]) for own in classes])


class BatchSlots(Sampler[list[BatchSlot]]):
    """Endless batches of `BatchSlot` from iteration `start` on: the share of one of the processes.

    Raises:
        UserError: a batch size that the processes cannot share.
    """

    def __init__(
        self, order: BatchOrder, start: int = 0, rank: int = 0, processes: int = 1
    ) -> None:
        check_batch_size(order.batch_size, processes)
        self.order, self.start = order, start
        share = order.batch_size // processes
        self.slots = range(rank * share, (rank + 1) * share)

    def __iter__(self) -> Iterator[list[BatchSlot]]:
        iteration = self.start
        while True:
            batch = self.order(iteration)
            yield [(iteration, slot, batch[slot]) for slot in self.slots]
            iteration += 1


def check_batch_size(batch_size: int, processes: int, parts: int = 1) -> None:
    """Refuse a SOLVER.IMS_PER_BATCH that the processes cannot share, each in so many equal parts.

    Raises:
        UserError: it is one.
    """
    if parts < 1:
        raise UserError(f"SOLVER.ACCUMULATE is {parts}: it must be at least 1")
    if batch_size < 1 or batch_size % (processes * parts):
        each = f" with SOLVER.ACCUMULATE {parts}" if parts > 1 else ""
        raise UserError(
            f"SOLVER.IMS_PER_BATCH is {batch_size}: {processes} processes{each} need a multiple of "
            f"{processes * parts}"
        )


def parts_in(cfg: Mapping[str, Any]) -> int:
    """SOLVER.ACCUMULATE; 1 for "auto", until it is known how many parts are needed."""
    value = cfg["SOLVER"]["ACCUMULATE"]
    return 1 if value == AUTO else value


def parts_of(batch: list, count: int) -> Iterator[list]:
    """A process's batch in `count` parts of as many pictures each."""
    size = len(batch) // count
    return (batch[start : start + size] for start in range(0, len(batch), size))


def ranks() -> tuple[int, int]:
    """The number of this process, and how many there are, where torch.distributed is at work."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def draw_seeds(seed: int, iteration: int, slot: int) -> tuple[int, int]:
    """Seeds of what is drawn for the picture in a slot of a batch."""
    first, second = np.random.SeedSequence((seed, iteration, slot)).generate_state(2).tolist()
    return first, second


def seed_step(seed: int, iteration: int, rank: int) -> None:
    """Make what a model draws in a step (sampled anchors …) follow from these three numbers."""
    sequence = np.random.SeedSequence((seed, iteration, rank))
    torch.manual_seed(int(sequence.generate_state(1)[0]))


@contextmanager
def restored_generators() -> Iterator[None]:
    """Within it numpy's and Python's global generators may be seeded; then they are as before.

    Detectron2's and timm's augmentations draw from them.
    """
    states = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(states[0])  # noqa: NPY002
        random.setstate(states[1])


class ErrorsAsItems:
    """A mapper that returns a `UserError` instead of raising it.

    Raised in a worker process the sentence would reach the user inside a traceback; `raise_errors`
    raises it in the main process, as it is.
    """

    def __init__(self, mapper: Callable[..., Any]) -> None:
        self.mapper = mapper

    def __call__(self, *arguments: Any) -> Any:
        try:
            return self.mapper(*arguments)
        except UserError as error:
            return error


def raise_errors(batches: Iterable[list]) -> Iterator[list]:
    """Pass batches on; raise the first `UserError` among their items."""
    for batch in batches:
        for item in batch:
            if isinstance(item, UserError):
                raise item
        yield batch


def load_batches(pictures: Dataset, places: Iterable[list], workers: int) -> Iterator[list]:
    """The items of `pictures` at `places`, batch by batch, loaded by so many processes.

    Raises:
        UserError: the first among the items.
    """
    loader = DataLoader(
        pictures,
        batch_sampler=places,
        num_workers=workers,
        collate_fn=list,
        persistent_workers=workers > 0,
        # Its own, since an iterator draws a seed for its workers from it when it starts: from
        # the global generator, the first step after a resume would differ.
        generator=torch.Generator(),
    )
    return raise_errors(loader)


class Annotated(NamedTuple):
    """A picture before it is read: its name, its size in pixels, its objects.

    An object is its category, its box, and its mask as RLE, as polygons, or None.
    """

    name: str
    height: int
    width: int
    objects: Sequence[tuple[int, Sequence[float], Any]]


def fingerprint(pictures: Iterable[Annotated]) -> int:
    """A number of 56 bits from the names, sizes and annotations of pictures, in their order."""
    digest = hashlib.blake2b(digest_size=7)
    for name, height, width, objects in pictures:
        digest.update(f"{name}\0{height} {width} {len(objects)}\0".encode())
        for category, box, mask in objects:
            digest.update(array.array("d", (category, *box)).tobytes())
            if isinstance(mask, dict):
                counts = mask["counts"]
                digest.update(counts if isinstance(counts, bytes) else repr(counts).encode())
            for polygon in mask if isinstance(mask, list) else ():
                digest.update(array.array("d", polygon).tobytes())
    return int.from_bytes(digest.digest())


class TrainLoader:
    """The training batches of a config, this process's share of each, up to SOLVER.MAX_ITER.

    `start`, the first iteration, may be set until the first batch is asked for.

    Args:
        samples: by `BatchSlot`.
        annotated: what is known of each picture, in their order.
        processes: that will share the batches; by default those that are at work.

    Attributes:
        sizes: int (N, 2), height and width of each picture.
        counts: int (N,), its objects.
        fingerprint: of names, sizes and annotations of all pictures.

    Raises:
        UserError: a batch size that the processes cannot share, or a sampler of Detectron2 that
            does not follow from (seed, iteration).
    """

    def __init__(
        self,
        cfg: Mapping[str, Any],
        samples: Dataset,
        annotated: Iterable[Annotated],
        processes: int | None = None,
    ) -> None:
        annotated = list(annotated)
        classes = [{category for category, _, _ in item.objects} for item in annotated]
        self.sizes = np.array([(item.height, item.width) for item in annotated])
        self.counts = np.array([len(item.objects) for item in annotated])
        self.fingerprint = fingerprint(annotated)
        solver, loading = cfg["SOLVER"], cfg["DATALOADER"]
        sampler, repeats = loading["SAMPLER_TRAIN"], None
        if sampler not in SAMPLERS:
            raise UserError(
                f"DATALOADER.SAMPLER_TRAIN is {sampler}, which a resumed run could not continue "
                f"exactly: choose {' or '.join(SAMPLERS)}"
            )
        if sampler == REPEATING:
            repeats = repeat_factors(
                classes, loading["REPEAT_THRESHOLD"], root=loading["REPEAT_SQRT"]
            )
        check_batch_size(solver["IMS_PER_BATCH"], processes or ranks()[1], parts_in(cfg))
        grouped = (self.sizes[:, 0] > self.sizes[:, 1]) & loading["ASPECT_RATIO_GROUPING"]
        self.order = BatchOrder(grouped, solver["IMS_PER_BATCH"], cfg["SEED"], repeats)
        self.samples, self.workers = samples, loading["NUM_WORKERS"]
        self.start, self.end = 0, solver["MAX_ITER"]

    def __len__(self) -> int:
        return self.end - self.start

    def __iter__(self) -> Iterator[list]:
        return load_batches(
            self.samples, BatchSlots(self.order, self.start, *ranks()), self.workers
        )


Item = TypeVar("Item")


def training_items(
    cfg: Mapping[str, Any],
    sets: Iterable[tuple[str, bool]],
    load: Callable[[str], Iterable[Item]],
    has_objects: Callable[[Item], bool],
) -> list[tuple[Item, bool]]:
    """The pictures of all training sets, and whether each may be mirrored.

    Those without objects are left out unless the config keeps them.

    Args:
        sets: of `atto_det.data.catalog.training_sets`.
        load: from the name of a set to its pictures.
        has_objects: whether a picture has some.

    Raises:
        UserError: nothing to train on.
    """
    keeps_all = not cfg["DATALOADER"]["FILTER_EMPTY_ANNOTATIONS"]
    result = [
        (item, not forbidden)
        for name, forbidden in sets
        for item in load(name)
        if keeps_all or has_objects(item)
    ]
    if not result:
        names = ", ".join(cfg["DATASETS"]["TRAIN"])
        raise UserError(f"no picture of {names} has an object to train on")
    return result
