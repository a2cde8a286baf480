"""How often classifiers are right on pictures that were modified to mislead them.

The AttendNet paper (arXiv 2009.14385) names adversarial robustness as future work. The attacks are
those of the Adversarial Robustness Toolbox.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from torch import nn
from torch.utils.data import DataLoader

from atto_det.errors import UserError
from atto_det.pretraining.measured import val_data
from atto_det.pretraining.samples import collate
from atto_det.weights.backbone_file import Description

CLEAN = "clean"


@dataclass(frozen=True)
class Attack:
    """A change of at most `epsilon`/255 per pixel and colour that raises the cross-entropy.

    Attributes:
        epsilon: in grey levels of 255.
        steps: 1 for the fast gradient sign method (FGSM, arXiv 1412.6572); more for projected
            gradient descent (PGD, arXiv 1706.06083) from a random start, each of 2.5 · epsilon /
            steps, so that every point within epsilon can be reached.

    Raises:
        UserError: a value is out of range.
    """

    epsilon: float
    steps: int

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= 255 or self.steps < 1:
            raise UserError(
                f"an attack by {self.epsilon}/255 in {self.steps} steps: epsilon must be above 0 "
                "and at most 255, and there must be a step"
            )

    def __str__(self) -> str:
        method = "FGSM" if self.steps == 1 else f"PGD-{self.steps}"
        return f"{method} {self.epsilon:g}/255"

    def on(self, classifier: PyTorchClassifier) -> Callable[..., np.ndarray]:
        """A function from pictures and labels to modified pictures, both (N, 3, S, S) in 0..1."""
        size = self.epsilon / 255
        if self.steps == 1:
            return FastGradientMethod(classifier, eps=size, batch_size=1024).generate
        return ProjectedGradientDescent(
            classifier,
            eps=size,
            eps_step=2.5 * size / self.steps,
            max_iter=self.steps,
            num_random_init=1,
            batch_size=1024,
            verbose=False,
        ).generate


def top1_under_attack(
    network: nn.Module,
    description: Description,
    root: str,
    attacks: Sequence[Attack],
    *,
    pictures: int | None = None,
    batch: int = 64,
    seed: int = 1,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> dict[str, float]:
    """Top-1 in percent without an attack ("clean") and under each, by its name.

    An attack knows the network, its normalisation and the label. It modifies the network's input,
    that is, the picture after resizing.

    Args:
        network: from pictures to logits, in evaluation mode.
        description: of its weights: classes, size and normalisation.
        root: folder of pictures by class; those of its val split are attacked.
        pictures: the number to use, drawn from `seed`; default: all.
        batch: pictures at once.
        seed: of that choice, and of PGD's random starts, for which numpy's global generator is set.
        progress: wraps the batches, as `rich.progress.track` does.

    Raises:
        UserError: no such pictures, different classes, or fewer pictures than requested.
    """
    data = val_data(root, description, mean=(0, 0, 0), std=(1, 1, 1))
    dataset = data.val_dataloader().dataset
    count = len(dataset) if pictures is None else pictures
    if not 1 <= count <= len(dataset):
        raise UserError(f"{count} pictures of {root}/val are asked for, which has {len(dataset)}")
    chosen = np.random.default_rng(seed).permutation(len(dataset))[:count]
    order = [(0, int(index)) for index in np.sort(chosen)]
    mean, std = (np.float32(v).reshape(3, 1, 1) for v in (description.mean, description.std))
    classifier = PyTorchClassifier(
        network,
        nn.CrossEntropyLoss(),
        (3, description.input_size, description.input_size),
        len(description.class_names),
        clip_values=(0.0, 1.0),
        preprocessing=(mean, std),
        device_type="gpu" if torch.cuda.is_available() else "cpu",
    )
    ways = {str(attack): attack.on(classifier) for attack in attacks}
    np.random.seed(seed)  # noqa: NPY002  (the toolbox draws from this generator)
    right = dict.fromkeys((CLEAN, *ways), 0)
    for found in progress(DataLoader(dataset, batch, sampler=order, collate_fn=collate)):
        images, labels = data.on_before_batch_transfer(found, 0)
        clean, labels = images.numpy(), labels.numpy()
        for name in right:
            given = clean if name == CLEAN else ways[name](clean, labels)
            right[name] += int((classifier.predict(given).argmax(1) == labels).sum())
    return {name: 100 * hits / count for name, hits in right.items()}
