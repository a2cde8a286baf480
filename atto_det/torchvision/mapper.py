"""From a record to the model's training input, in torchvision's form."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from yacs.config import CfgNode

from atto_det import data
from atto_det.data import catalog
from atto_det.errors import UserError
from atto_det.training import batches
from atto_det.training.augmentation import Augmentation, TrainingPicture
from atto_det.training.batches import (
    Annotated,
    BatchSlot,
    ErrorsAsItems,
    draw_seeds,
    training_items,
)
from atto_det.training.packing import packed_in_transit
from atto_det.training.scene import Scene

Sample = tuple[Tensor, dict[str, Tensor]]  # picture and target


class Mapper:
    """Makes training samples by the keys of INPUT.

    Raises:
        UserError: a key has an invalid value.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.augmentation = Augmentation(cfg)
        self.has_masks = cfg.MODEL.MASK_ON
        self.channels = slice(None, None, -1 if cfg.INPUT.FORMAT == "BGR" else 1)

    def __call__(self, pictures: Sequence[TrainingPicture], index: int, seed: int) -> Sample:
        """Picture `index` of a training set and its objects.

        Args:
            seed: of all random choices.

        Returns:
            uint8 (3, H, W) in the channel order of INPUT.FORMAT; boxes float (M, 4), x1 y1 x2 y2 in
            its pixels, labels int64 (M,) from 1, and for a detector with masks masks uint8
            (M, H, W). Objects of which nothing is left are dropped.

        Raises:
            UserError: a picture is unreadable, truncated or not of the annotated size.
        """
        scene = self.augmentation(pictures, index, seed)
        pixels = scene.image[:, :, self.channels].transpose(2, 0, 1)
        target = {
            "boxes": torch.as_tensor(scene.boxes, dtype=torch.float32),
            "labels": torch.as_tensor(scene.classes + 1),
        }
        if self.has_masks:
            target["masks"] = packed_in_transit(torch.as_tensor(scene.masks))
        return torch.as_tensor(np.ascontiguousarray(pixels)), target


class _Samples(Dataset):
    """Samples by their place in the training."""

    def __init__(self, pictures: list[TrainingPicture], cfg: CfgNode) -> None:
        self.pictures, self.seed = pictures, cfg.SEED
        self.mapper = ErrorsAsItems(Mapper(cfg))

    def __getitem__(self, place: BatchSlot) -> Sample | UserError:
        iteration, slot, index = place
        return self.mapper(self.pictures, index, draw_seeds(self.seed, iteration, slot)[0])


class TrainLoader(batches.TrainLoader):
    """The training batches of a config, from iteration `start` on.

    Args:
        processes: number of processes that share the batches.

    Raises:
        UserError: no pictures with objects, or a batch size that the processes cannot share.
    """

    def __init__(self, cfg: CfgNode, processes: int = 1) -> None:
        pictures = training_pictures(cfg)
        annotated = (_annotated(picture.record) for picture in pictures)
        super().__init__(cfg, _Samples(pictures, cfg), annotated, processes)

    def sample(self, index: int, cfg: CfgNode) -> Sample | UserError:
        """Picture `index` as the training gets it, by the keys of INPUT in `cfg`."""
        return _Samples([self.samples.pictures[index]], cfg)[(0, 0, 0)]


def training_scenes(cfg: CfgNode) -> Iterator[tuple[str, Scene]]:
    """What the network sees in training: the name of each picture, and its `Scene`.

    The channels of the scene's picture are in the order of INPUT.FORMAT.

    Raises:
        UserError: as `TrainLoader`, or an unreadable picture.
    """
    loader = TrainLoader(cfg)
    for iteration, batch in enumerate(loader):
        for index, (pixels, target) in zip(loader.order(iteration), batch, strict=True):
            image = pixels.permute(1, 2, 0).numpy()
            yield (
                Path(loader.samples.pictures[index].record.file_name).stem,
                Scene(
                    np.ascontiguousarray(image),
                    target["boxes"].numpy(),
                    target["labels"].numpy() - 1,
                    target["masks"].numpy() if "masks" in target else None,
                ),
            )


def training_pictures(cfg: CfgNode) -> list[TrainingPicture]:
    """The pictures of all training sets.

    Pictures without objects are left out unless the config keeps them.

    Raises:
        UserError: no training data, or a name in DATASETS.NO_HORIZONTAL_FLIP matches no set.
    """
    items = training_items(cfg, catalog.training_sets(cfg), _load, _has_objects)
    return [TrainingPicture(*item) for item in items]


def _annotated(record: data.ImageRecord) -> Annotated:
    objects = [(item.category, item.box, item.rle) for item in record.instances]
    return Annotated(record.image_id, record.height, record.width, objects)


def _load(name: str) -> tuple[data.ImageRecord, ...]:
    return catalog.load_dataset(name).records


def _has_objects(record: data.ImageRecord) -> bool:
    return bool(record.instances)
