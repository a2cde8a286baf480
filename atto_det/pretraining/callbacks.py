"""Reports on a run: a line for each epoch, and how long the network waited for data."""

import logging
import time

from lightning.pytorch import Callback, LightningModule, Trainer

logger = logging.getLogger(__name__)


class EpochReport(Callback):
    """Log a line after each epoch, and record `data_time`, `step_time`, `images_per_second`.

    data_time: seconds between the end of a step and the start of the next one, in which the network
    waits for its batch; step_time: seconds in the step; both are means over the epoch. On a GPU,
    which computes while the next batch is fetched, their sum is exact, but the split is not.
    """

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the clock of the whole run."""
        self.begun, self.first_epoch = time.monotonic(), trainer.current_epoch

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the clocks of the epoch."""
        self.waited = self.worked = 0.0
        self.pictures = 0
        self.mark = time.monotonic()

    def on_train_batch_start(
        self, trainer: Trainer, module: LightningModule, batch: list, index: int
    ) -> None:
        """The batch has arrived."""
        now = time.monotonic()
        self.waited += now - self.mark
        self.mark = now

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: object, batch: list, index: int
    ) -> None:
        """The step has ended."""
        now = time.monotonic()
        self.worked += now - self.mark
        self.mark = now
        self.pictures += len(batch[1]) * trainer.world_size

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Log and record the epoch."""
        steps = max(trainer.num_training_batches, 1)
        speed = self.pictures / max(self.waited + self.worked, 1e-9)
        module.log("data_time", self.waited / steps, sync_dist=True)
        module.log("step_time", self.worked / steps, sync_dist=True)
        module.log("images_per_second", speed, sync_dist=True)
        done = trainer.current_epoch + 1
        spent = time.monotonic() - self.begun
        left = spent / (done - self.first_epoch) * (trainer.max_epochs - done)
        found = trainer.callback_metrics
        values = ", ".join(
            f"{key.replace('_', ' ')} {found[key]:.{digits}f}"
            for key, digits in (
                *(("train_loss_epoch", 3), ("val_loss", 3), ("val_agreement", 1)),
                *(("val_top1", 1), ("val_top1_known", 1)),
            )
            if key in found
        )
        if trainer.is_global_zero:
            logger.info(
                "epoch %d of %d: %s; %.0f images/s, %.1f%% of the time for data; %.0f minutes left",
                done,
                trainer.max_epochs,
                values,
                speed,
                100 * self.waited / max(self.waited + self.worked, 1e-9),
                left / 60,
            )
