"""Pictures by class for Lightning: each one's augmentation follows from (seed, epoch, index)."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler, default_collate

from atto_det.data import data_root, image_folder
from atto_det.data.image_folder import ImageFolder
from atto_det.data.images import read_image
from atto_det.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Place = tuple[int, int]  # epoch, picture


class ClassifierData(LightningDataModule):
    """`<root>/{train,val}/<class>/<picture>`, resized, augmented and normalised.

    Args:
        root: folder; a relative one starts at the data root (DETECTRON2_DATASETS, or datasets).
        class_list: file that names the classes, and so their order; default: all folders.
        image_size: side in pixels of what the network sees; smaller pictures are enlarged.
        batch_size: pictures in a batch of one process.
        workers: processes that load pictures, for each process that trains.
        scale: bounds of the share of a picture's area that a training crop covers.
        horizontal_flip: probability.
        color_jitter: strength of random brightness, contrast and saturation.
        auto_augment: a policy of timm's, such as "rand-m7-mstd0.5"; it replaces the colour jitter.
        interpolation: of all resizing.
        crop_share: side of the central crop in validation, by the side of the resized picture.
        mean, std: of red, green, blue in pictures scaled to 0…1.
        seed: what the order and the augmentation follow from, together with the epoch.

    Attributes:
        train, val: `ImageFolder`s.
        classes: folder names; a label is an index into them.

    Raises:
        UserError: as `atto_det.data.image_folder.read_splits`; a size or share out of its range.
    """

    def __init__(
        self,
        root: str,
        class_list: str | None = None,
        image_size: int = 224,
        batch_size: int = 64,
        workers: int = 4,
        scale: tuple[float, float] = (0.08, 1.0),
        horizontal_flip: float = 0.5,
        color_jitter: float = 0.4,
        auto_augment: str | None = None,
        interpolation: Literal["bilinear", "bicubic"] = "bilinear",
        crop_share: float = 0.875,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        seed: int = 1,
    ) -> None:
        super().__init__()
        if min(image_size, batch_size) < 1 or workers < 0:
            raise UserError(
                "data.image_size and data.batch_size must be at least 1, data.workers 0"
            )
        if not 0 < scale[0] <= scale[1] <= 1 or not 0 < crop_share <= 1:
            raise UserError("data.scale and data.crop_share are shares above 0 and up to 1")
        if min(std) <= 0:
            raise UserError("data.std must be above 0 for each colour")
        self.root = data_root() / root
        self.train, self.val = image_folder.read_splits(self.root, class_list)
        self.classes = self.train.classes
        self.image_size, self.batch_size, self.workers = image_size, batch_size, workers
        self.mean, self.std, self.seed = tuple(mean), tuple(std), seed
        size = (image_size, image_size)
        common = {"interpolation": interpolation, "mean": self.mean, "std": self.std}
        try:
            self.augment = create_transform(
                size,
                is_training=True,
                scale=tuple(scale),
                hflip=horizontal_flip,
                color_jitter=color_jitter or None,
                auto_augment=auto_augment,
                **common,
            )
        except (AssertionError, KeyError, ValueError) as error:
            raise UserError(f"data.auto_augment {auto_augment!r} is no policy of timm's") from error
        self.centre = create_transform(size, crop_pct=crop_share, **common)

    def train_dataloader(self) -> DataLoader:
        """Batches of pictures (B, 3, S, S) and labels (B,), in another order each epoch."""
        pictures = Pictures(self.train, self.augment, self.seed)
        ranks = self._ranks()
        if len(self.train.paths) < self.batch_size * ranks["num_replicas"]:
            raise UserError(
                f"{self.root / 'train'} holds {len(self.train.paths)} pictures, fewer than a batch "
                f"of {self.batch_size} for each process: lower data.batch_size"
            )
        order = SeededOrder(pictures, seed=self.seed, drop_last=True, **ranks)
        return self._loader(pictures, order, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        """Batches of the val split; each picture once, over all processes."""
        return self._evaluation(self.val)

    def test_dataloader(self) -> DataLoader:
        """Batches of `<root>/test` where that folder exists, else of val."""
        if (self.root / "test").is_dir():
            return self._evaluation(image_folder.read_image_folder(self.root, "test", self.classes))
        return self._evaluation(self.val)

    def on_before_batch_transfer(self, batch: object, dataloader_idx: int) -> object:
        """Raise the error of a picture here, where no worker's traceback surrounds it."""
        if isinstance(batch, UserError):
            raise batch
        return batch

    def describe(self) -> dict[str, object]:
        """What a result depends on: folder name and number of pictures."""
        return {
            "root": self.root.name,
            "train": len(self.train.paths),
            "val": len(self.val.paths),
        }

    def _evaluation(self, folder: ImageFolder) -> DataLoader:
        ranks = self._ranks()
        # Not a DistributedSampler, which repeats pictures to give each process as many.
        mine = range(ranks["rank"], len(folder.paths), ranks["num_replicas"])
        return self._loader(
            Pictures(folder, self.centre, self.seed), [(0, index) for index in mine]
        )

    def _ranks(self) -> dict[str, int]:
        trainer = self.trainer
        return {
            "num_replicas": trainer.world_size if trainer else 1,
            "rank": trainer.global_rank if trainer else 0,
        }

    def _loader(
        self, pictures: "Pictures", order: object, *, drop_last: bool = False
    ) -> DataLoader:
        return DataLoader(
            pictures,
            self.batch_size,
            sampler=order,
            drop_last=drop_last,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=collate,
            generator=torch.Generator().manual_seed(self.seed),  # the workers' seeds, unused
        )


class Pictures(Dataset):
    """Pictures of one split by (epoch, index), transformed, with their label.

    A picture that cannot be read comes as a `UserError`, since raised in a worker process it would
    reach the user inside a traceback.
    """

    def __init__(
        self, folder: ImageFolder, transform: Callable[[Image.Image], Tensor], seed: int
    ) -> None:
        self.paths = [str(path) for path in folder.paths]
        self.labels = folder.labels
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: Place) -> tuple[Tensor, int] | UserError:
        epoch, index = place
        try:
            picture = Image.fromarray(read_image(self.paths[index]))
        except UserError as error:
            return error
        with _seeded(self.seed, epoch, index):
            return self.transform(picture), self.labels[index]


@contextmanager
def _seeded(*numbers: int) -> Iterator[None]:
    """Random numbers of this process follow from `numbers`; afterwards the former state returns."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    # timm's transforms draw from all three.
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


class SeededOrder(DistributedSampler, Sampler[Place]):
    """This process's share of the pictures in an order that follows from (seed, epoch).

    Yields (epoch, index), so that a worker process knows the epoch too.
    """

    def __iter__(self) -> Iterator[Place]:
        return ((self.epoch, index) for index in super().__iter__())


def collate(samples: list[tuple[Tensor, int] | UserError]) -> list[Tensor] | UserError:
    """Pictures (B, 3, S, S) and labels (B,); the first error, where there is one."""
    errors = (sample for sample in samples if isinstance(sample, UserError))
    return next(errors, None) or default_collate(samples)
