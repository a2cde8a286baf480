"""Pictures by class for Lightning: their augmentation depends only on (seed, epoch, index)."""

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from atto_det.data import data_root, image_folder
from atto_det.data.image_folder import ImageFolder
from atto_det.data.images import read_image
from atto_det.errors import UserError
from atto_det.nets.normalisation import IMAGENET_MEAN, IMAGENET_STD

from .distillation import CropRule, CropView
from .lessons import SPLITS, Lessons
from .samples import SampleKey, collate, seeded
from .teacher import Teacher


class ClassifierData(LightningDataModule):
    """`<root>/{train,val}/<class>/<picture>`, resized, augmented and normalised.

    Args:
        root: folder; a relative path starts at the data root (DETECTRON2_DATASETS, or datasets).
        class_list: file with the classes, in their order; default: all folders.
        image_size: side, in pixels, of the network's input; smaller pictures are enlarged.
        batch_size: pictures in a batch of one process.
        workers: processes that load pictures, for each process that trains.
        scale: bounds of the share of a picture's area that a training crop covers.
        horizontal_flip: probability.
        color_jitter: strength of random brightness, contrast and saturation.
        auto_augment: one of timm's policies, such as "rand-m7-mstd0.5"; replaces the colour jitter.
        interpolation: of all resizing.
        crop_share: side of the central crop in validation, relative to the resized picture.
        mean, std: of red, green, blue in pictures scaled to 0…1.
        hold_out: share of each class's training pictures, drawn by the seed, that is validated on
            instead of trained on. The val split is then not used. 0: val is validated on.
        seed: determines, together with the epoch, the order and the augmentation.
        teacher, teacher_weights, teacher_size: taken from the model. With a teacher, any folder of
            pictures can be used (`atto_det.data.picture_tree`): the classes are the teacher's, and
            labels are known if a folder is named after one of them, such as n01443537.
        answers: folder in which the teacher's answers are stored, once, before training starts;
            default: the teacher runs at each step.
        crops: number of crops of each picture for stored answers; epochs use them in turn.

    Attributes:
        train, val: `ImageFolder`s.
        classes: the network's classes: folder names, or the teacher's classes. A label is an index
            into them.
        known: the classes that occur as labels.
        lessons: the teacher and its answers, or None.

    Raises:
        UserError: as `atto_det.data.image_folder.read_splits`; a size or share out of range;
            settings that cannot be combined.
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
        hold_out: float = 0.0,
        seed: int = 1,
        teacher: str | None = None,
        teacher_weights: str | None = None,
        teacher_size: int | None = None,
        answers: str | None = None,
        crops: int = 4,
    ) -> None:
        super().__init__()
        if min(image_size, batch_size, crops, teacher_size or 1) < 1 or workers < 0:
            raise UserError(
                "data.image_size, data.batch_size, data.crops and model.teacher_size must be at "
                "least 1, data.workers 0"
            )
        if not 0 < scale[0] <= scale[1] <= 1 or not 0 < crop_share <= 1:
            raise UserError("data.scale and data.crop_share are shares above 0 and up to 1")
        if not 0 <= horizontal_flip <= 1 or color_jitter < 0:
            raise UserError(
                "data.horizontal_flip is a probability from 0 to 1, data.color_jitter at least 0"
            )
        if not 0 <= hold_out < 1:
            raise UserError(f"data.hold_out is {hold_out}: give a share from 0 and below 1")
        if hold_out and teacher:
            raise UserError("data.hold_out cannot be combined with model.teacher")
        if min(std) <= 0:
            raise UserError("data.std must be above 0 for each colour")
        if bool(teacher) != bool(teacher_weights):
            raise UserError("give both model.teacher and model.teacher_weights, or neither")
        if answers and not teacher:
            raise UserError("data.answers are a teacher's: name it with model.teacher")
        if teacher and (class_list or auto_augment):
            raise UserError(
                "data.class_list and data.auto_augment cannot be combined with model.teacher: the "
                "classes are the teacher's, and its answers are for plain crops"
            )
        self.root = data_root() / root
        self.image_size, self.batch_size, self.workers = image_size, batch_size, workers
        self.mean, self.std, self.seed = tuple(mean), tuple(std), seed
        view = CropView(image_size, self.mean, self.std, interpolation)
        self.lessons = None
        if teacher:
            self.lessons = Lessons(
                Teacher(teacher, teacher_weights, teacher_size),
                self.root,
                student=view,
                rule=CropRule(tuple(scale), horizontal_flip, seed),
                crop_share=crop_share,
                color_jitter=color_jitter,
                folder=answers,
                crops=crops,
            )
            self.train, self.val = self.lessons.train, self.lessons.val
        elif hold_out:
            names = list(image_folder.read_class_list(class_list)) if class_list else None
            whole = image_folder.read_image_folder(self.root, "train", names)
            self.train, self.val = image_folder.held_out(whole, hold_out, seed)
        else:
            self.train, self.val = image_folder.read_splits(self.root, class_list)
        self.classes = self.train.classes
        self.known = tuple(sorted({*self.train.labels, *self.val.labels} - {-1}))
        try:
            self.augment = create_transform(
                (image_size, image_size),
                is_training=True,
                scale=tuple(scale),
                hflip=horizontal_flip,
                color_jitter=color_jitter or None,
                auto_augment=auto_augment,
                interpolation=interpolation,
                mean=self.mean,
                std=self.std,
            )
        except (AssertionError, KeyError, ValueError) as error:
            raise UserError(
                f"data.auto_augment {auto_augment!r} is not a policy of timm's"
            ) from error
        self.centre = view.centre(crop_share)

    def prepare_data(self) -> None:
        """Store the teacher's missing answers, if they are to be stored."""
        if self.lessons and self.lessons.folder:
            fitting = self.trainer is None or self.trainer.state.fn == TrainerFn.FITTING
            device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
            self.store_answers(SPLITS if fitting else ("val",), device)

    def store_answers(self, splits: tuple[str, ...], device: torch.device) -> None:
        """Store the teacher's missing answers for `splits`; `device` computes them.

        Raises:
            UserError: no teacher or folder is named, or as `Lessons.store`.
        """
        if not self.lessons:
            raise UserError("there are no answers to store without model.teacher")
        self.lessons.store(splits, self.batch_size, self.workers, device)

    def train_dataloader(self) -> DataLoader:
        """Batches of pictures (B, 3, S, S) and labels (B,), in a different order each epoch.

        With a teacher, its part follows (`atto_det.pretraining.distillation`).
        """
        if self.lessons:
            pictures = self.lessons.pictures("train")
        else:
            pictures = LabelledPictures(self.train, self.augment, self.seed)
        ranks = self._ranks()
        if len(self.train.paths) < self.batch_size * ranks["num_replicas"]:
            raise UserError(
                f"{self.root / 'train'} holds {len(self.train.paths)} pictures, fewer than a batch "
                f"of {self.batch_size} for each process: lower data.batch_size"
            )
        order = SeededOrder(pictures, seed=self.seed, drop_last=True, **ranks)
        return self._loader(pictures, order, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        """Batches of the val split; each picture occurs once, over all processes."""
        if self.lessons:
            return self._evaluation(self.lessons.pictures("val"))
        return self._evaluation(self._central(self.val))

    def test_dataloader(self) -> DataLoader:
        """Batches of `<root>/test` if that folder exists, else of val."""
        if (self.root / "test").is_dir() and not self.lessons:
            folder = image_folder.read_image_folder(self.root, "test", self.classes)
            return self._evaluation(self._central(folder))
        return self.val_dataloader()

    def on_before_batch_transfer(self, batch: object, dataloader_idx: int) -> object:
        """Raise the error of a picture here, where it is not inside a worker's traceback."""
        if isinstance(batch, UserError):
            raise batch
        return batch

    def describe(self) -> dict[str, object]:
        """What a result depends on: folder name, number of pictures, and the teacher if any."""
        found = {
            "root": self.root.name,
            "train": len(self.train.paths),
            "val": len(self.val.paths),
        }
        return found | (self.lessons.teacher.describe() if self.lessons else {})

    def _central(self, folder: ImageFolder) -> "LabelledPictures":
        return LabelledPictures(folder, self.centre, self.seed)

    def _evaluation(self, pictures: Dataset) -> DataLoader:
        ranks = self._ranks()
        # Not a DistributedSampler, which repeats pictures so that all processes have as many.
        mine = range(ranks["rank"], len(pictures), ranks["num_replicas"])
        return self._loader(pictures, [(0, index) for index in mine])

    def _ranks(self) -> dict[str, int]:
        trainer = self.trainer
        return {
            "num_replicas": trainer.world_size if trainer else 1,
            "rank": trainer.global_rank if trainer else 0,
        }

    def _loader(self, pictures: Dataset, order: object, *, drop_last: bool = False) -> DataLoader:
        return DataLoader(
            pictures,
            self.batch_size,
            sampler=order,
            drop_last=drop_last,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=collate,
            generator=torch.Generator().manual_seed(self.seed),  # for the workers' unused seeds
        )


class LabelledPictures(Dataset):
    """The transformed pictures of a split, with labels, by (epoch, index).

    A picture that cannot be read is returned as a `UserError`: if it were raised in a worker
    process, its message would reach the user inside a traceback.
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

    def __getitem__(self, key: SampleKey) -> tuple[Tensor, int] | UserError:
        epoch, index = key
        try:
            picture = Image.fromarray(read_image(self.paths[index]))
        except UserError as error:
            return error
        with seeded(self.seed, epoch, index):
            return self.transform(picture), self.labels[index]


class SeededOrder(DistributedSampler, Sampler[SampleKey]):
    """This process's share of the pictures, in an order that depends on (seed, epoch).

    Yields (epoch, index), so that a worker process knows the epoch, too.
    """

    def __iter__(self) -> Iterator[SampleKey]:
        return ((self.epoch, index) for index in super().__iter__())
