"""Training batches that follow from (seed, iteration) alone, so that a resumed run goes on exactly.

Detectron2's sampler starts its stream again on resume. Here batch `i` is computed from `i`: its
epoch, that epoch's permutation, and its place in it; and each picture's augmentation is drawn from
a generator seeded with (seed, iteration, place in the batch).
"""

import random
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetFromList, build_detection_test_loader
from detectron2.utils import comm

from atto_det.errors import UserError

from .catalog import class_names_of, names_of
from .mapper import AttoDatasetMapper, seed_augmentation

Place = tuple[int, int, int]  # iteration, slot in the batch, index of the picture


class BatchOrder:
    """Which pictures batch `iteration` has.

    Args:
        portrait: bool (N,), which pictures are higher than wide. Within an epoch wide pictures
            share batches, and high ones do, since a batch is padded to its largest height and
            width; pass all False for plain shuffling.
        batch_size: pictures per batch, all processes together.
        seed: of the permutations.

    An epoch has every picture once, save fewer than `batch_size` that are left over; a set smaller
    than a batch is repeated within it.
    """

    def __init__(self, portrait: np.ndarray, batch_size: int, seed: int) -> None:
        self.portrait = portrait
        self.batch_size = batch_size
        self.seed = seed
        self.per_epoch = max(len(portrait) // batch_size, 1)
        self._epoch = lru_cache(maxsize=2)(self._shuffled_epoch)

    def _shuffled_epoch(self, epoch: int) -> np.ndarray:
        generator = np.random.default_rng((self.seed, epoch))
        count = self.per_epoch * self.batch_size
        rounds = -(-count // len(self.portrait))
        order = [generator.permutation(len(self.portrait)) for _ in range(rounds)]
        order = np.concatenate(order)[:count]
        order = order[np.argsort(self.portrait[order], kind="stable")]
        batches = order.reshape(self.per_epoch, self.batch_size)
        return batches[generator.permutation(self.per_epoch)]

    def __call__(self, iteration: int) -> list[int]:
        """Indices of the pictures of batch `iteration` (from 0)."""
        epoch, place = divmod(iteration, self.per_epoch)
        return self._epoch(epoch)[place].tolist()


class _Places(torch.utils.data.Sampler):
    """Endless batches of `Place` from iteration `start` on, this process's share of each."""

    def __init__(self, order: BatchOrder, start: int) -> None:
        self.order = order
        self.start = start

    def __iter__(self) -> Iterator[list[Place]]:
        share = self.order.batch_size // comm.get_world_size()
        first = comm.get_rank() * share
        iteration = self.start
        while True:
            batch = self.order(iteration)
            yield [(iteration, slot, batch[slot]) for slot in range(first, first + share)]
            iteration += 1


class ErrorsAsItems:
    """A mapper that returns a `UserError` instead of raising it.

    Raised in a worker process the sentence would reach the user inside a traceback; `raise_errors`
    raises it in the main process, as it is.
    """

    def __init__(self, mapper: AttoDatasetMapper) -> None:
        self.mapper = mapper

    def __call__(self, dataset_dict: dict) -> dict | UserError:
        try:
            return self.mapper(dataset_dict)
        except UserError as error:
            return error


def raise_errors(batches: Iterable[list]) -> Iterator[list[dict]]:
    """Pass batches on; raise the first `UserError` among their items."""
    for batch in batches:
        for item in batch:
            if isinstance(item, UserError):
                raise item
        yield batch


class _Mapped(torch.utils.data.Dataset):
    """Pictures mapped under the seed of their place in the training."""

    def __init__(self, dicts: list[dict], mapper: AttoDatasetMapper, seed: int) -> None:
        # Serialised, so that workers share the memory instead of copying each Python object.
        self.dicts = DatasetFromList(dicts, copy=False)
        self.mapper = ErrorsAsItems(mapper)
        self.seed = seed

    def __getitem__(self, place: Place) -> dict | UserError:
        iteration, slot, index = place
        # Detectron2's augmentations draw from numpy's and Python's global generators.
        states = np.random.get_state(), random.getstate()  # noqa: NPY002
        seed_augmentation(self.seed, iteration, slot)
        try:
            return self.mapper(self.dicts[index])
        finally:
            np.random.set_state(states[0])  # noqa: NPY002
            random.setstate(states[1])


class TrainLoader:
    """The training batches of a config, each a list of dicts, from iteration `start` on.

    `start` may be set until the first batch is asked for.

    Raises:
        UserError: no pictures with objects, a batch size that the processes cannot share, or a
            sampler of Detectron2 that does not follow from (seed, iteration).
    """

    def __init__(self, cfg: CfgNode) -> None:
        if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
            raise UserError(
                f"DATALOADER.SAMPLER_TRAIN is {cfg.DATALOADER.SAMPLER_TRAIN}, which a resumed run "
                "could not continue exactly: only TrainingSampler is supported"
            )
        batch_size, processes = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
        if batch_size < 1 or batch_size % processes:
            raise UserError(
                f"SOLVER.IMS_PER_BATCH is {batch_size}: {processes} processes need a multiple of "
                f"{processes}"
            )
        dicts = training_dicts(cfg)
        portrait = np.array([item["height"] > item["width"] for item in dicts])
        portrait &= cfg.DATALOADER.ASPECT_RATIO_GROUPING
        self.order = BatchOrder(portrait, batch_size, cfg.SEED)
        self.dataset = _Mapped(dicts, AttoDatasetMapper(cfg, True), cfg.SEED)
        self.num_workers = cfg.DATALOADER.NUM_WORKERS
        self.start = 0

    def __iter__(self) -> Iterator[list[dict]]:
        loader = torch.utils.data.DataLoader(
            self.dataset,
            batch_sampler=_Places(self.order, self.start),
            num_workers=self.num_workers,
            collate_fn=list,
            persistent_workers=self.num_workers > 0,
            # Its own, since an iterator draws a seed for its workers from it when it starts: from
            # the global generator, the first step after a resume would differ.
            generator=torch.Generator(),
        )
        return raise_errors(loader)


class TestLoader:
    """The pictures of a test set, one to a batch, this process's share of them, in order."""

    def __init__(self, cfg: CfgNode, name: str) -> None:
        class_names_of(name)
        self.loader = build_detection_test_loader(
            DatasetCatalog.get(name),
            mapper=ErrorsAsItems(AttoDatasetMapper(cfg, False)),
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[list[dict]]:
        return raise_errors(self.loader)


def training_dicts(cfg: CfgNode) -> list[dict]:
    """The dicts of all training sets, those without objects left out unless the config keeps them.

    Raises:
        UserError: nothing to train on, or a name in DATASETS.NO_HORIZONTAL_FLIP that fits no set.
    """
    if not cfg.DATASETS.TRAIN:
        raise UserError("DATASETS.TRAIN names no data set: add one")
    owners = {entry[0] for entry in [*cfg.DATASETS.FOLDERS, *cfg.DATASETS.COCO]}
    for name in cfg.DATASETS.NO_HORIZONTAL_FLIP:
        if name not in owners and name not in DatasetCatalog:
            raise UserError(
                f"DATASETS.NO_HORIZONTAL_FLIP names {name}, which is no data set and no entry of "
                "DATASETS.FOLDERS or DATASETS.COCO"
            )
    result = []
    for name in cfg.DATASETS.TRAIN:
        class_names_of(name)  # a sentence where there is no such set
        forbidden = not names_of(name).isdisjoint(cfg.DATASETS.NO_HORIZONTAL_FLIP)
        for item in DatasetCatalog.get(name):
            if item["annotations"] or not cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
                result.append(item | {"no_horizontal_flip": forbidden})
    if not result:
        raise UserError(f"no picture of {', '.join(cfg.DATASETS.TRAIN)} has an object to train on")
    return result
