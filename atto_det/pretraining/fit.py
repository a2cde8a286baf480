"""A training run from a program rather than the command line, resumed from its last checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

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
    """Stops after an epoch; the checkpoints keep the figures of each."""

    def __init__(self, until: int, stop: Stop) -> None:
        self.until, self.stop = until, stop
        self.history: dict[int, dict[str, float]] = {}

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Ask whether to stop; the checkpoint of the epoch is still written."""
        epoch = trainer.current_epoch + 1
        self.history[epoch] = {
            key: float(value)
            for key, value in trainer.callback_metrics.items()
            if key.startswith(("train_", "val_"))  # no times, which no training repeats
        }
        if self.stop(epoch, self.history[epoch]) or epoch >= self.until:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """The figures of each epoch."""
        return {"history": self.history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `state_dict` gave it."""
        self.history = dict(state["history"])


def fit(
    module: Classifier,
    data: ClassifierData,
    folder: Path,
    *,
    epochs: int,
    until: int | None = None,
    stop: Stop = lambda epochs, figures: False,
    validate: bool = True,
) -> Fitted:
    """Train to the end, or until `stop`, which is called after each epoch, returns true.

    If `folder` has a `last.ckpt`, the training continues from it, with the same result as without
    the interruption. What is already trained is only read, even if another caller has trained
    further.

    Args:
        module: its `recipe` says what the training depends on.
        epochs: length of the schedule.
        until: the epoch to end with; None for the last one.
        validate: measure on `data.val` after each epoch.

    Raises:
        UserError: `folder` holds another training; or an error of the training.
    """
    until = epochs if until is None else until
    last, after = folder / "last.ckpt", _AfterEpoch(until, stop)
    if last.exists():
        content = load_checkpoint(last)
        part, state = content.get(TRAINING_PART), content.get("callbacks", {}).get(after.state_key)
        if not isinstance(part, dict) or part["recipe"] != module.recipe or state is None:
            raise UserError(f"{last} is of another training: name another folder, or remove it")
        if until in state["history"]:
            return Fitted(until, state["history"][until])
    trainer = Trainer(
        max_epochs=epochs,
        default_root_dir=folder,
        devices=1,
        plugins=[AtomicIO()],
        callbacks=[after, ModelCheckpoint(folder, "last", **AFTER_EPOCH)],
        logger=False,
        limit_val_batches=1.0 if validate else 0,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, data, ckpt_path=str(last) if last.exists() else None)
    epoch = max(after.history)
    return Fitted(epoch, after.history[epoch])
