"""The quality of a backbone's features without further training: nearest class mean."""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from timm.data import create_transform
from torch import Tensor, nn
from torch.utils.data import DataLoader

from atto_det.data.image_folder import ImageFolder, read_splits
from atto_det.errors import UserError
from atto_det.nets import STAGES
from atto_det.weights.backbone_file import Description

from .data import LabelledPictures
from .samples import collate


def nearest_mean_top1(
    backbone: nn.Module,
    description: Description,
    root: str | Path,
    *,
    batch: int = 64,
    progress: Callable[[Iterable], Iterable] = iter,
) -> float:
    """Top-1 in percent on `<root>/val` of the nearest class mean.

    A picture is described by the spatial mean of the last stage's features, normalised to length 1;
    a class by the mean of its pictures in `<root>/train`, normalised to length 1. A picture is
    assigned to the class with the largest scalar product. Nothing is trained, so the figure depends
    only on the file and the pictures.

    Args:
        backbone: returns features by name, as `atto_det.create_backbone` makes it.
        description: of its weights: the size of the pictures and their normalisation.
        root: `<root>/{train,val}/<class>/<picture>`.
        progress: wraps the batches, as `rich.progress.track` does.

    Raises:
        UserError: as `read_splits`, or a picture that cannot be read.
    """
    train, val = read_splits(root)
    describe = _Describe(backbone, description, batch, progress)
    features, labels = describe(train)
    means = torch.zeros(len(train.classes), features.shape[1]).index_add_(0, labels, features)
    features, labels = describe(val)
    nearest = (features @ F.normalize(means, dim=1).T).argmax(1)
    return 100 * (nearest == labels).double().mean().item()


class _Describe:
    """Computes features (N, C) of length 1, and labels (N,), of a folder's pictures."""

    def __init__(
        self,
        backbone: nn.Module,
        description: Description,
        batch: int,
        progress: Callable[[Iterable], Iterable],
    ) -> None:
        self.backbone, self.batch, self.progress = backbone.eval(), batch, progress
        size = (description.input_size, description.input_size)
        self.bgr = description.channel_order == "BGR"
        mean, std = description.mean, description.std
        if self.bgr:
            mean, std = mean[::-1], std[::-1]
        self.transform = create_transform(
            size, crop_pct=1.0, interpolation="bilinear", mean=tuple(mean), std=tuple(std)
        )

    @torch.inference_mode()
    def __call__(self, folder: ImageFolder) -> tuple[Tensor, Tensor]:
        places = [(0, index) for index in range(len(folder.paths))]
        pictures = LabelledPictures(folder, self.transform, seed=0)
        loader = DataLoader(pictures, self.batch, sampler=places, collate_fn=collate)
        features, labels = [], []
        for found in self.progress(loader):
            if isinstance(found, UserError):
                raise found
            images = found[0].flip(1) if self.bgr else found[0]
            last = self.backbone(images)[STAGES[-1]]  # (B, C, h, w)
            features.append(F.normalize(last.mean((2, 3)), dim=1))
            labels.append(found[1])
        return torch.cat(features), torch.cat(labels)
