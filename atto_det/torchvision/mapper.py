"""From a record to what the model trains on: decode, resize, mirror. As Detectron2's mapper.

From one seed both draw the same size and the same flip, so that both engines train on the same
pictures.
"""

from collections.abc import Iterator

import numpy as np
import torch
from pycocotools import mask as mask_utils
from torch import Tensor
from torch.utils.data import Dataset
from yacs.config import CfgNode

from atto_det import data
from atto_det.data import catalog
from atto_det.errors import UserError
from atto_det.ops.resize import resize, resized_shape
from atto_det.training.batches import (
    BatchOrder,
    ErrorsAsItems,
    Place,
    Places,
    check_batch_size,
    draw_seeds,
    load_batches,
    ranks,
)

Sample = tuple[Tensor, dict[str, Tensor]]  # picture and target
EMPTY = 1e-5  # pixels; a box with a shorter side is none


class Mapper:
    """Training samples by the keys of INPUT.

    Raises:
        UserError: INPUT.MIN_SIZE_TRAIN is no interval, and its sampling "range".
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.sizes, self.longest = list(cfg.INPUT.MIN_SIZE_TRAIN), cfg.INPUT.MAX_SIZE_TRAIN
        self.is_range = cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range"
        if not self.sizes or (self.is_range and len(self.sizes) != 2):
            raise UserError(
                f"INPUT.MIN_SIZE_TRAIN is {self.sizes}: give sizes to choose from, or two with "
                "INPUT.MIN_SIZE_TRAIN_SAMPLING range"
            )
        self.mirrors = cfg.INPUT.RANDOM_FLIP == "horizontal"
        self.channels = slice(None, None, -1 if cfg.INPUT.FORMAT == "BGR" else 1)

    def __call__(self, record: data.ImageRecord, may_mirror: bool, seed: int) -> Sample:
        """One picture and its objects.

        Args:
            may_mirror: whether it makes sense when left and right are exchanged.
            seed: of all that is drawn.

        Returns:
            uint8 (3, H, W) in the channel order of INPUT.FORMAT; boxes float (M, 4), x1 y1 x2 y2 in
            its pixels, labels int64 (M,) from 1, masks uint8 (M, H, W). Objects of which nothing is
            left are dropped.

        Raises:
            UserError: the picture is unreadable, truncated, or of another size than annotated.
        """
        # Detectron2 draws from numpy's global generator, of the same kind.
        random = np.random.RandomState(seed)
        if self.is_range:
            short = random.randint(self.sizes[0], self.sizes[1] + 1)
        else:
            short = random.choice(self.sizes)
        mirrored = self.mirrors and may_mirror and random.uniform() < 0.5
        image = read_picture(record)
        shape = image.shape[:2]
        if short:  # 0 leaves it as it is
            shape = resized_shape(*shape, short, self.longest)
        columns = slice(None, None, -1 if mirrored else 1)
        pixels = resize(image, *shape)[:, columns, self.channels].transpose(2, 0, 1)
        masks = [
            resize(mask_utils.decode(instance.rle), *shape, smooth=False)[:, columns]
            for instance in record.instances
        ]
        boxes = self._boxes(record, shape, mirrored)
        kept = [
            index
            for index, (box, mask) in enumerate(zip(boxes, masks, strict=True))
            if (box[2:] - box[:2] > EMPTY).all() and mask.any()
        ]
        labels = [record.instances[index].category + 1 for index in kept]
        target = {
            "boxes": torch.as_tensor(boxes[kept], dtype=torch.float32),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "masks": torch.as_tensor(np.array([masks[k] for k in kept]).reshape(-1, *shape)),
        }
        return torch.as_tensor(np.ascontiguousarray(pixels)), target

    @staticmethod
    def _boxes(record: data.ImageRecord, shape: tuple[int, int], mirrored: bool) -> np.ndarray:
        """The objects' boxes (M, 4) in the picture of height and width `shape`."""
        height, width = shape
        boxes = np.array([instance.box for instance in record.instances]).reshape(-1, 4)
        boxes = boxes * np.tile([width / record.width, height / record.height], 2)
        if mirrored:
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        return boxes.clip(0, [width, height, width, height])


def read_picture(record: data.ImageRecord) -> np.ndarray:
    """The pixels of a record, uint8 RGB (H, W, 3).

    Raises:
        UserError: the picture is unreadable, truncated, or of another size than annotated.
    """
    image = data.read_image(record.file_name)
    if image.shape[:2] != (record.height, record.width):
        raise UserError(
            f"{record.file_name} measures {image.shape[1]}×{image.shape[0]} pixels, but its "
            f"annotation says {record.width}×{record.height}"
        )
    return image


class _Pictures(Dataset):
    """Samples by their place in the training."""

    def __init__(self, records: list[tuple[data.ImageRecord, bool]], cfg: CfgNode) -> None:
        self.records, self.seed = records, cfg.SEED
        self.mapper = ErrorsAsItems(Mapper(cfg))

    def __getitem__(self, place: Place) -> Sample | UserError:
        iteration, slot, index = place
        record, may_mirror = self.records[index]
        return self.mapper(record, may_mirror, draw_seeds(self.seed, iteration, slot)[0])


class TrainLoader:
    """The training batches of a config, this process's share of each, up to SOLVER.MAX_ITER.

    `start`, the first iteration, may be set until the first batch is asked for.

    Args:
        processes: that will share the batches.

    Raises:
        UserError: no pictures with objects, or a batch size that the processes cannot share.
    """

    def __init__(self, cfg: CfgNode, processes: int = 1) -> None:
        check_batch_size(cfg.SOLVER.IMS_PER_BATCH, processes)
        records = training_records(cfg)
        portrait = np.array([record.height > record.width for record, _ in records])
        portrait &= cfg.DATALOADER.ASPECT_RATIO_GROUPING
        self.order = BatchOrder(portrait, cfg.SOLVER.IMS_PER_BATCH, cfg.SEED)
        self.pictures = _Pictures(records, cfg)
        self.workers = cfg.DATALOADER.NUM_WORKERS
        self.start, self.end = 0, cfg.SOLVER.MAX_ITER

    def __len__(self) -> int:
        return self.end - self.start

    def __iter__(self) -> Iterator[list[Sample]]:
        return load_batches(self.pictures, Places(self.order, self.start, *ranks()), self.workers)


def training_records(cfg: CfgNode) -> list[tuple[data.ImageRecord, bool]]:
    """The records of all training sets, and whether each may be mirrored.

    Those without objects are left out unless the config keeps them.

    Raises:
        UserError: nothing to train on, or a name in DATASETS.NO_HORIZONTAL_FLIP that fits no set.
    """
    result = [
        (record, not forbidden)
        for name, forbidden in catalog.training_sets(cfg)
        for record in catalog.load_dataset(name).records
        if record.instances or not cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    ]
    if not result:
        raise UserError(f"no picture of {', '.join(cfg.DATASETS.TRAIN)} has an object to train on")
    return result
