"""A training run from a program rather than the command line, resumed from its last checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from atto_det.errors import UserError
from atto_det.weights.backbone_file import TRAINING_PART
from atto_det.weights.checkpoint import load_checkpoint

from .cli import AFTER_EPOCH, AtomicIO
from .data import ClassifierData
from .module import Classifier

Stop = Callable[[int, dict[str, float]], bool]
"""Whether to stop after this epoch, which has these figures."""


class Fitted(NamedTuple):
    """The state of a training: epochs done, and figures of the last one such as `val_top1`."""

    epochs: int
    figures: dict[str, float]


class _AfterEpoch(Callback):
    def __init__(self, stop: Stop) -> None:
        self.stop = stop

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Ask whether to stop; the checkpoint of the epoch is still written."""
        figures = {key: float(value) for key, value in trainer.callback_metrics.items()}
        if self.stop(trainer.current_epoch + 1, figures):
            trainer.should_stop = True


def fit(
    module: Classifier,
    data: ClassifierData,
    folder: Path,
    *,
    epochs: int,
    stop: Stop = lambda epochs, figures: False,
    validate: bool = True,
) -> Fitted:
    """Train to the end, or until `stop`, which is called after each epoch, returns true.

    If `folder` has a `last.ckpt`, the training continues from it, with the same result as without
    the interruption.

    Args:
        module: its `recipe` says what the training depends on.
        validate: measure on `data.val` after each epoch.

    Raises:
        UserError: `folder` holds another training; or an error of the training.
    """
    last = folder / "last.ckpt"
    if last.exists():
        part = load_checkpoint(last).get(TRAINING_PART)
        if not isinstance(part, dict) or part["recipe"] != module.recipe:
            raise UserError(f"{last} is of another training: name another folder, or remove it")
        if part["epoch"] >= epochs:
            return Fitted(part["epoch"], part["figures"])
    trainer = Trainer(
        max_epochs=epochs,
        default_root_dir=folder,
        devices=1,
        plugins=[AtomicIO()],
        callbacks=[_AfterEpoch(stop), ModelCheckpoint(folder, "last", **AFTER_EPOCH)],
        logger=False,
        limit_val_batches=1.0 if validate else 0,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, data, ckpt_path=str(last) if last.exists() else None)
    part = load_checkpoint(last)[TRAINING_PART]
    return Fitted(part["epoch"], part["figures"])
