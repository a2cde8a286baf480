"""Training batches that depend only on (seed, iteration), so that a resumed run continues exactly.

Detectron2's samplers restart their stream on resume. Here batch `i` is computed from `i`: its
epoch, that epoch's permutation, and its position in it. Random choices for a picture depend on
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
    """The pictures that each batch consists of.

    Args:
        portrait: bool (N,), which pictures are higher than wide. Within an epoch, wide pictures
            share batches and high ones do, since a batch is padded to its largest height and
            width. Pass all False for plain shuffling.
        batch_size: pictures per batch, over all processes.
        seed: of the permutations.
        repeats: float (N,), how often each picture occurs per epoch, on average over the epochs;
            None for once.

    An epoch has every picture once, or as often as `repeats` says, except for a remainder of fewer
    than `batch_size`. A set that is smaller than a batch is repeated within the batch.
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
        """The pictures of an epoch, in random order."""
        order = generator.permutation(len(self.portrait))
        if self.repeats is None:
            return order
        # Systematic sampling: each picture occurs as often as `repeats` says, randomly rounded up
        # or down, and all epochs have the same length.
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
    """How often each picture occurs per epoch, so that rare classes occur more often.

    For a class in a share f of the pictures the factor is max(1, √(threshold / f)); for a picture,
    it is the largest factor of its classes (LVIS, arXiv 1908.03195, Appendix B.2).

    Args:
        classes: those in each picture.
        threshold: DATALOADER.REPEAT_THRESHOLD.
        root: DATALOADER.REPEAT_SQRT; False leaves out the square root.

    Returns:
        float (N,), at least 1.

    Raises:
        UserError: the threshold is not a share, 0 to 1.
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
    """One process's share of endless batches of `BatchSlot`, from iteration `start` on.

    Raises:
        UserError: the batch size is not a multiple of the number of processes.
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
    """Refuse a SOLVER.IMS_PER_BATCH that does not divide evenly by processes and parts.

    Raises:
        UserError: it does not, or `parts` is below 1.
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
    """SOLVER.ACCUMULATE; 1 for "auto", as long as the number of parts is not known."""
    value = cfg["SOLVER"]["ACCUMULATE"]
    return 1 if value == AUTO else value


def parts_of(batch: list, count: int) -> Iterator[list]:
    """Split a process's batch into `count` parts of equal size."""
    size = len(batch) // count
    return (batch[start : start + size] for start in range(0, len(batch), size))


def ranks() -> tuple[int, int]:
    """The rank of this process and the number of processes; (0, 1) without torch.distributed."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def draw_seeds(seed: int, iteration: int, slot: int) -> tuple[int, int]:
    """Seeds of the random choices for the picture in a slot of a batch."""
    first, second = np.random.SeedSequence((seed, iteration, slot)).generate_state(2).tolist()
    return first, second


def seed_step(seed: int, iteration: int, rank: int) -> None:
    """Make the random choices of a model in a step (sampled anchors …) depend on these numbers."""
    sequence = np.random.SeedSequence((seed, iteration, rank))
    torch.manual_seed(int(sequence.generate_state(1)[0]))


@contextmanager
def restored_generators() -> Iterator[None]:
    """Restores numpy's and Python's global generators afterwards; the block may seed them.

    Detectron2's and timm's augmentations use them.
    """
    states = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(states[0])  # noqa: NPY002
        random.setstate(states[1])


class ErrorsAsItems:
    """A mapper that returns a `UserError` instead of raising it.

    If it were raised in a worker process, its message would reach the user inside a traceback;
    `raise_errors` raises it unchanged in the main process.
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
    """The items of `pictures` at `places`, batch by batch, loaded by `workers` processes.

    Raises:
        UserError: the first one among the items.
    """
    loader = DataLoader(
        pictures,
        batch_sampler=places,
        num_workers=workers,
        collate_fn=list,
        persistent_workers=workers > 0,
        # A separate generator, since an iterator draws a seed for its workers when it starts:
        # drawn from the global generator, it would change the first step after a resume.
        generator=torch.Generator(),
    )
    return raise_errors(loader)


class Annotated(NamedTuple):
    """A picture that is not loaded yet: its name, its size in pixels and its objects.

    An object is its category, its box, and its mask (RLE, polygons or None).
    """

    name: str
    height: int
    width: int
    objects: Sequence[tuple[int, Sequence[float], Any]]


def fingerprint(pictures: Iterable[Annotated]) -> int:
    """A 56-bit number from the names, sizes and annotations of pictures, in their order."""
    digest = hashlib.blake2b(digest_size=7)
    for name, height, width, objects in pictures:
        digest.update(f"{name}\0{height} {width} {len(objects)}\0".encode(errors="surrogateescape"))
        for category, box, mask in objects:
            digest.update(array.array("d", (category, *box)).tobytes())
            if isinstance(mask, dict):
                counts = mask["counts"]
                digest.update(counts if isinstance(counts, bytes) else repr(counts).encode())
            for polygon in mask if isinstance(mask, list) else ():
                digest.update(array.array("d", polygon).tobytes())
    return int.from_bytes(digest.digest())


class TrainLoader:
    """The training batches of a config up to SOLVER.MAX_ITER: this process's share of each.

    `start`, the first iteration, may be set until the first batch is requested.

    Args:
        samples: indexed by `BatchSlot`.
        annotated: the pictures, in the same order.
        processes: the number of processes that share the batches; by default those now running.

    Attributes:
        sizes: int (N, 2), height and width of each picture.
        counts: int (N,), the number of objects of each.
        fingerprint: of the names, sizes and annotations of all pictures.

    Raises:
        UserError: a batch size that the processes cannot share, or a Detectron2 sampler that does
            not depend on (seed, iteration) alone.
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
        sets: from `atto_det.data.catalog.training_sets`.
        load: returns the pictures of a set, given its name.
        has_objects: whether a picture has any.

    Raises:
        UserError: there is nothing to train on.
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
