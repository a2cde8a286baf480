"""Detectron2's pictures in the batches of `atto_det.training.batches`, and those of test sets."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetFromList, build_detection_test_loader
from detectron2.structures import BitMasks, PolygonMasks

from atto_det.data import catalog
from atto_det.errors import UserError
from atto_det.training import augmentation, batches
from atto_det.training.batches import (
    Annotated,
    BatchSlot,
    ErrorsAsItems,
    draw_seeds,
    raise_errors,
    restored_generators,
    training_items,
)
from atto_det.training.scene import Scene

from .augmented_test import unresized
from .catalog import class_names_of
from .mapper import AttoDatasetMapper, RecipeMapper, seed_augmentation


class _Mapped(torch.utils.data.Dataset):
    """Pictures mapped with the seed of their place in the training."""

    def __init__(self, dicts: list[dict], cfg: CfgNode) -> None:
        # Serialised, so that workers share the memory instead of copying each Python object.
        self.dicts = DatasetFromList(dicts, copy=False)
        self.seed = cfg.SEED
        self.recipe = augmentation.is_on(cfg.INPUT)
        mapper = RecipeMapper(cfg) if self.recipe else AttoDatasetMapper(cfg, True)
        self.mapper = ErrorsAsItems(mapper)

    def __getitem__(self, place: BatchSlot) -> dict | UserError:
        iteration, slot, index = place
        if self.recipe:
            return self.mapper(self.dicts, index, draw_seeds(self.seed, iteration, slot)[0])
        with restored_generators():
            seed_augmentation(self.seed, iteration, slot)
            return self.mapper(self.dicts[index])


class TrainLoader(batches.TrainLoader):
    """The training batches of a config, each a list of dicts, from iteration `start` on.

    Raises:
        UserError: no pictures with objects, a batch size that the processes cannot share, or a
            Detectron2 sampler that does not depend on (seed, iteration) alone.
    """

    def __init__(self, cfg: CfgNode) -> None:
        dicts = training_dicts(cfg)
        super().__init__(cfg, _Mapped(dicts, cfg), map(_annotated, dicts))

    def sample(self, index: int, cfg: CfgNode) -> dict | UserError:
        """Picture `index` as the training gets it, by the keys of INPUT in `cfg`."""
        return _Mapped([self.samples.dicts[index]], cfg)[(0, 0, 0)]


class TestLoader:
    """This process's share of the pictures of a test set, one per batch, in order.

    Raises:
        UserError: there are none.
    """

    def __init__(self, cfg: CfgNode, name: str) -> None:
        class_names_of(name)
        pictures = DatasetCatalog.get(name)
        if not pictures:
            raise UserError(f"{name} has no image to evaluate on; check its image list")
        self.loader = build_detection_test_loader(
            pictures,
            mapper=ErrorsAsItems(AttoDatasetMapper(unresized(cfg), False)),
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[list[dict]]:
        return raise_errors(self.loader)


def training_scenes(cfg: CfgNode) -> Iterator[tuple[str, Scene]]:
    """What the network sees in training: the name of each picture, and its `Scene`.

    The channels of the scene's picture are in the order of INPUT.FORMAT.

    Raises:
        UserError: as `TrainLoader`, or an unreadable picture.
    """
    for item in itertools.chain.from_iterable(TrainLoader(cfg)):
        objects, image = item["instances"], item["image"].permute(1, 2, 0).numpy()
        masks = None
        if objects.has("gt_masks"):
            masks = objects.gt_masks
            if isinstance(masks, PolygonMasks):
                masks = BitMasks.from_polygon_masks(masks, *image.shape[:2])
            masks = masks.tensor.numpy().astype(np.uint8)
        yield (
            Path(item["file_name"]).stem,
            Scene(
                np.ascontiguousarray(image),
                objects.gt_boxes.tensor.numpy(),
                objects.gt_classes.numpy(),
                masks,
            ),
        )


def training_dicts(cfg: CfgNode) -> list[dict]:
    """The dicts of all training sets; without those that lack objects, unless the config keeps
    them.

    Raises:
        UserError: no training data, or a name in DATASETS.NO_HORIZONTAL_FLIP matches no set.
    """
    items = training_items(cfg, catalog.training_sets(cfg, DatasetCatalog), _load, _has_objects)
    return [item | {"no_horizontal_flip": not may_mirror} for item, may_mirror in items]


def _annotated(item: dict) -> Annotated:
    objects = [(a["category_id"], a["bbox"], a.get("segmentation")) for a in item["annotations"]]
    return Annotated(str(item["image_id"]), item["height"], item["width"], objects)


def _load(name: str) -> list[dict]:
    class_names_of(name)  # raises an error if there is no such set
    return DatasetCatalog.get(name)


def _has_objects(item: dict) -> bool:
    return bool(item["annotations"])
