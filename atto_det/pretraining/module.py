"""The classifier in training: loss, optimizer, schedule, and what its checkpoints contain."""

import dataclasses
import logging
import math
import sys
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import EMAWeightAveraging
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from atto_det.errors import UserError
from atto_det.nets.quantisation import quantised_call
from atto_det.nets.registry import is_backbone, short_name
from atto_det.weights.backbone_file import FORMAT, TRAINING_PART, Description
from atto_det.weights.checkpoint import versions
from atto_det.weights.create import load_weights
from atto_det.weights.transfer import read_backbone
from atto_det.weights.zoo import file_sha256, find_weights

from .answers import Answers, spread
from .callbacks import EpochReport
from .distillation import soft_loss
from .networks import create_network, found_network

logger = logging.getLogger(__name__)


class Diverged(UserError):
    """The loss is no longer a finite number."""


class Classifier(LightningModule):
    """A network of `atto_det.pretraining.networks`, trained by stochastic gradient descent.

    The recipe is that of the residual networks (arXiv 1512.03385) with the additions of arXiv
    1706.02677 (warm-up, learning rate scaled by the batch size) and arXiv 1812.01187 (cosine
    schedule, label smoothing).

    Args:
        network: one of `atto_det.pretraining.networks.list_networks()`, or a file of a network
            (`atto_det.design.find_network`).
        class_names: one per output; taken from the data.
        weights: a backbone file to start from, or the name of one that comes with the package
            (`atto_det.weights.create.create_classifier`); the dense layer is random.
        learning_rate: for a batch of 256, over all processes and accumulated batches; it is scaled
            linearly to the batch size in use.
        momentum: of the gradient descent.
        weight_decay: of weights; norms and biases have none.
        warmup_epochs: in which the rate rises linearly from 0.
        schedule: "cosine" (to 0), or "steps" (times `gamma` at each of `milestones`).
        milestones: epochs.
        gamma: factor.
        label_smoothing: share of the target that is spread evenly over the classes.
        ema_decay: of the moving average of weights, per step; the average is validated and
            exported. 0 for none.
        channels_last: memory layout; faster for most convolutions.
        weight_bits: 8 to train with weights rounded to 8 bits (`atto_det.nets.quantisation`).
        seed: taken from `seed_everything`.
        teacher: name of a timm network whose answers are learned (distillation, arXiv 1503.02531).
            The classes are then the teacher's.
        teacher_weights: its file (`atto_det.pretraining.teacher`).
        teacher_size: side of its input in pixels; default: that of its training.
        temperature: by which both distributions are softened.
        hard_share: share of the cross-entropy with labels, where they are known, in the loss; the
            rest is the divergence from the teacher's answer.

    Raises:
        UserError: an unknown network, or a setting out of range.
    """

    def __init__(
        self,
        network: str,
        class_names: Sequence[str],
        learning_rate: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        warmup_epochs: float = 5,
        schedule: Literal["cosine", "steps"] = "cosine",
        milestones: Sequence[int] = (30, 60, 80),
        gamma: float = 0.1,
        label_smoothing: float = 0.1,
        ema_decay: float = 0.9998,
        channels_last: bool = True,
        weight_bits: Literal[8] | None = None,
        seed: int = 1,
        teacher: str | None = None,
        teacher_weights: str | None = None,
        teacher_size: int | None = None,
        temperature: float = 1.0,
        hard_share: float = 0.0,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        for name, value, top in (
            ("learning_rate", learning_rate, math.inf),
            ("momentum", momentum, 1),
            ("weight_decay", weight_decay, math.inf),
            ("warmup_epochs", warmup_epochs, math.inf),
            ("label_smoothing", label_smoothing, 1),
            ("ema_decay", ema_decay, 1),
        ):
            if not 0 <= value < top:
                raise UserError(f"model.{name} is {value}: it must be at least 0 and below {top}")
        if temperature <= 0 or not 0 <= hard_share <= 1:
            raise UserError("model.temperature must be above 0, and model.hard_share from 0 to 1")
        network = found_network(network, "model.network")
        if weights and not is_backbone(network):
            raise UserError(f"model.weights is for AttoNets and AttendNets, not for {network}")
        self.weights, self.start = weights, None
        self.network, self.class_names = network, tuple(class_names)
        self.learning_rate, self.momentum, self.weight_decay = learning_rate, momentum, weight_decay
        self.warmup_epochs, self.schedule = warmup_epochs, schedule
        self.milestones, self.gamma = tuple(milestones), gamma
        self.label_smoothing, self.ema_decay = label_smoothing, ema_decay
        self.weight_bits, self.seed = weight_bits, seed
        self.teacher, self.temperature, self.hard_share = teacher, temperature, hard_share
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        torch.manual_seed(seed)  # the same weights, whatever random numbers were drawn before
        self.net: nn.Module = create_network(network, len(class_names))
        self.net.to(memory_format=self.layout)
        count = len(class_names)
        # Over all pictures with a label: among all classes, and among those that occur as labels.
        self.top1, self.top5, self.top1_known, self.agreement = (
            MulticlassAccuracy(count, top_k=k, average="micro", ignore_index=-1)
            for k in (1, min(5, count), 1, 1)
        )
        self.recipe = ""  # YAML text, set by the command line

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures (B, 3, H, W) to logits (B, classes)."""
        images = images.to(memory_format=self.layout)
        return quantised_call(self.net, images) if self.weight_bits else self.net(images)

    def configure_callbacks(self) -> list[Callback]:
        """The moving average of the weights, if any, then the report of each epoch.

        In this order, so that the time of averaging counts as part of a step.
        """
        average = [EMAWeightAveraging(decay=self.ema_decay)] if self.ema_decay else []
        return [*average, EpochReport()]

    def setup(self, stage: str) -> None:
        """Set the backbone from `weights`, which a checkpoint that is continued replaces.

        Raises:
            UserError: as `load_weights`, or weights for pictures normalised otherwise.
        """
        if stage != "fit" or not self.weights:
            return
        path, data = find_weights(self.weights, self.network), self.trainer.datamodule
        load_weights(self.net.backbone, self.network, path)
        trained = read_backbone(path).description
        if (list(data.mean), list(data.std)) != (trained.mean, trained.std):
            raise UserError(
                f"{path} was trained with other colours: set data.mean to {trained.mean} and "
                f"data.std to {trained.std} (order {trained.channel_order})"
            )
        self.start = {"file": path.name, "sha256": file_sha256(path)}
        logger.info("the backbone starts from %s", path.name)

    def configure_optimizers(self) -> dict[str, Any]:
        """SGD, and the factor of the learning rate at each step."""
        trainer = self.trainer
        if trainer.max_epochs is None or trainer.max_epochs < 1:
            raise UserError("trainer.max_epochs must be at least 1: the schedule depends on it")
        batch = trainer.datamodule.batch_size * trainer.world_size * trainer.accumulate_grad_batches
        optimizer = torch.optim.SGD(
            param_groups_weight_decay(self.net, self.weight_decay),
            lr=self.learning_rate * batch / 256,
            momentum=self.momentum,
        )
        total = trainer.estimated_stepping_batches
        per_epoch = total / trainer.max_epochs
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.rate_factor(step / per_epoch, trainer.max_epochs)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def rate_factor(self, epoch: float, epochs: float) -> float:
        """The factor of the learning rate, `epoch` (with a fraction) epochs after the start."""
        if epoch < self.warmup_epochs:
            return (epoch + 1e-3) / self.warmup_epochs  # 0 would waste a step
        if self.schedule == "steps":
            return self.gamma ** sum(epoch >= milestone for milestone in self.milestones)
        share = (epoch - self.warmup_epochs) / max(epochs - self.warmup_epochs, 1e-9)
        return 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))

    def on_train_epoch_start(self) -> None:
        """Make random choices of the network (dropout) depend on the epoch, so that runs resume."""
        torch.manual_seed(hash((self.seed, self.current_epoch)) % 2**31)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """The loss of a batch, which is logged."""
        loss = self.batch_loss(batch)
        if not loss.isfinite():
            raise Diverged(
                f"the loss is {loss.item()} at epoch {self.current_epoch}, batch {index}: lower "
                "model.learning_rate, or set trainer.gradient_clip_val"
            )
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True, sync_dist=True)
        return loss

    def batch_loss(self, batch: list[Tensor]) -> Tensor:
        """The loss for pictures (B, 3, S, S), labels (B,), and the teacher's part."""
        images, labels, *taught = batch
        return self.loss(self(images), labels, self.answers(taught) if taught else None)

    def answers(self, taught: list[Tensor]) -> Tensor:
        """The teacher's log-probabilities (B, classes).

        Args:
            taught: the two tensors of a stored answer, or the teacher's view (B, 3, S', S').
        """
        if len(taught) == 2:
            return spread(Answers(*taught), len(self.class_names))
        return self.trainer.datamodule.lessons.teacher.answer(*taught)

    def loss(self, logits: Tensor, labels: Tensor, answers: Tensor | None = None) -> Tensor:
        """Smoothed cross-entropy with labels (B,), and the divergence from a teacher's answers.

        Without answers, only the cross-entropy. With answers, a picture without a label (-1) adds
        nothing to the cross-entropy, which is still a mean over the whole batch.
        """
        hard = F.cross_entropy(
            logits,
            labels,
            label_smoothing=self.label_smoothing,
            ignore_index=-1,
            reduction="sum",
        ) / len(labels)
        if answers is None:
            return hard
        soft = soft_loss(logits, answers, self.temperature)
        return self.hard_share * hard + (1 - self.hard_share) * soft

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        """Loss, top-1 and top-5 (percent) of one batch.

        With a teacher, the loss is the divergence from it, `agreement` is the share of pictures for
        which student and teacher have the same most probable class, and `top1_known` is top-1 among
        only the classes that occur as labels.
        """
        self._evaluate(batch, "val")

    def test_step(self, batch: list[Tensor], index: int) -> None:
        """As `validation_step`."""
        self._evaluate(batch, "test")

    def _evaluate(self, batch: list[Tensor], name: str) -> None:
        images, labels, *taught = batch
        logits = self(images)
        if taught:
            answers = self.answers(taught)
            self.agreement.update(logits, answers.argmax(1))
            loss = soft_loss(logits, answers, self.temperature)
        else:
            loss = F.cross_entropy(logits, labels)
        self.log(f"{name}_loss", loss, batch_size=len(labels), sync_dist=True)
        known = self.trainer.datamodule.known
        if known:
            self.top1.update(logits, labels)
            self.top5.update(logits, labels)
        if known and taught:
            among = torch.full_like(logits, -math.inf)
            among[:, known] = logits[:, known]
            self.top1_known.update(among, labels)

    def on_validation_epoch_end(self) -> None:
        """Log top-1 and top-5 over all pictures, in percent."""
        self._write_accuracy("val")

    def on_test_epoch_end(self) -> None:
        """As `on_validation_epoch_end`."""
        self._write_accuracy("test")

    def _write_accuracy(self, name: str) -> None:
        for key in ("top1", "top5", "top1_known", "agreement"):
            metric = getattr(self, key)
            if metric.update_called:
                share = metric.compute()  # over all processes
                self.log(f"{name}_{key}", 100 * share, prog_bar=key == "top1", sync_dist=True)
                metric.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what other programs need to use the weights."""
        data, top1 = self.trainer.datamodule, self.trainer.callback_metrics.get("val_top1")
        description = Description(
            network=self.network,
            class_names=list(self.class_names),
            mean=list(data.mean),
            std=list(data.std),
            channel_order="RGB",
            input_size=data.image_size,
            weight_bits=self.weight_bits,
            recipe=self.recipe,
            data=data.describe(),
            top1=None if top1 is None else float(top1),
            epoch=self.current_epoch + 1,
            versions=versions(),
            command=" ".join(sys.argv),
        )
        figures = {
            key: float(value)
            for key, value in self.trainer.callback_metrics.items()
            if key.startswith("val_")
        }
        part = {
            "format": FORMAT,
            "figures": figures,
            "start": self.start,
            **dataclasses.asdict(description),
        }
        checkpoint[TRAINING_PART] = part

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another network, other classes or another teacher.

        Raises:
            UserError: it is one of these, or was not written by this class.
        """
        part = checkpoint.get(TRAINING_PART)
        if part is None:
            raise UserError("the checkpoint was not written by atto-det pretrain: it has no recipe")
        if part["network"] != self.network:
            raise UserError(
                f"the checkpoint holds {short_name(part['network'])}, and model.network is "
                f"{short_name(self.network)}"
            )
        if part["class_names"] != list(self.class_names):
            raise UserError(
                f"the checkpoint was trained on other classes ({len(part['class_names'])} of "
                f"{part['data']['root']}) than those of the data ({len(self.class_names)})"
            )
        before, now = (
            {key: data.get(key) for key in ("teacher", "weights_sha256", "size")}
            for data in (part["data"], self.trainer.datamodule.describe())
        )
        if before != now:
            raise UserError(
                "the checkpoint learned from another teacher "
                f"({_of_teacher(before)}; now {_of_teacher(now)}): continue with that one, or "
                "start again in another --trainer.default_root_dir"
            )
        self.start = part.get("start")


def _of_teacher(values: dict[str, Any]) -> str:
    if values["teacher"] is None:
        return "none"
    return f"{values['teacher']} at {values['size']} pixels, sha256 {values['weights_sha256'][:8]}…"
