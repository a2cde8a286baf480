"""Training with Lightning: every step follows from (seed, iteration), as in `atto_det.detectron2`.

`Detector` is what is trained; `RunFolder` writes what `atto_det.training.run_folder` lists.
"""

import errno
import json
import logging
import statistics
import time
from collections import deque
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR
from yacs.config import CfgNode

from atto_det.data import catalog
from atto_det.errors import UserError, write_error
from atto_det.training import run_folder
from atto_det.training.batches import ranks, seed_step
from atto_det.training.scoring import report
from atto_det.weights import checkpoint

from .evaluator import evaluate_model
from .mapper import Sample
from .mapping import to_detectron2, to_torchvision
from .model import build_model
from .predictor import load_weights
from .pretrained import load_initial
from .solver import build_optimizer, clip_gradients, rate_factor

logger = logging.getLogger(__name__)
ENGINE = "torchvision"
PERIOD = 20  # iterations between two lines of metrics.json, and what its medians are over


class Detector(LightningModule):
    """The model of a config under training.

    What is drawn in step `i` depends on `cfg.SEED` and `i` alone, and a checkpoint holds the rest,
    so that a run killed at any moment and resumed ends with the weights of an uninterrupted one (on
    a CPU, bit by bit).

    Attributes:
        model: of torchvision, with random weights until `resume_or_load`.
        iteration: the one at work, from 0.
        start, max_iter: the first iteration, and the one behind the last.
        losses: of the last step, by name, "total_loss" among them.

    Raises:
        UserError: keys that no model or no schedule can be built from.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.cfg = cfg
        self.class_names = catalog.class_names_of(cfg.DATASETS.TRAIN[0])
        self.factor = rate_factor(cfg)
        self.iteration = self.start = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.resumed: dict[str, Any] = {}
        self.losses: dict[str, Tensor] = {}
        torch.manual_seed(cfg.SEED)
        # The order of numbers in memory that convolutions prefer: a fifth faster on a CPU.
        self.model = build_model(cfg).to(memory_format=torch.channels_last)
        # What Detectron2 has no names for, and nothing reads, is zero from the start: a checkpoint
        # does not hold it.
        self.model.load_state_dict(to_torchvision(self.weights(), cfg))

    def weights(self) -> dict[str, Tensor]:
        """The model's tensors on the CPU under Detectron2's names."""
        return to_detectron2({k: v.cpu() for k, v in self.model.state_dict().items()}, self.cfg)

    def resume_or_load(self, resume: bool) -> None:
        """Go on from the last checkpoint in `OUTPUT_DIR`, or else load `MODEL.WEIGHTS`.

        Raises:
            UserError: weights that are missing, damaged, unsafe, or another model's; a run of the
                other engine or on other classes.
        """
        output = Path(self.cfg.OUTPUT_DIR)
        if not resume or not (output / "last_checkpoint").exists():
            load_initial(self.model, self.cfg, self.cfg.MODEL.WEIGHTS)
            return
        path, self.resumed = run_folder.read_last(output, ENGINE, self.class_names)
        load_weights(self.model, self.cfg, self.resumed, path)
        self.start = self.resumed["iteration"] + 1
        logger.info("resumed from %s", path)

    def configure_optimizers(self) -> dict[str, Any]:
        """Gradient descent as the checkpoint left it, and the learning rate at each iteration."""
        optimizer = build_optimizer(self.cfg, self.model)
        if self.resumed:
            try:
                optimizer.load_state_dict(self.resumed["optimizer"])
                self.trainer.precision_plugin.load_state_dict(self.resumed["scaler"])
            except (KeyError, RuntimeError, TypeError, ValueError) as error:
                raise UserError(
                    f"the last checkpoint in {self.cfg.OUTPUT_DIR} cannot be resumed from with "
                    f"this config ({error}): use the one of its run"
                ) from error
        schedule = LambdaLR(optimizer, lambda step: self.factor(self.start + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: list[Sample], index: int) -> Tensor:
        """The sum of the losses of one batch, all random draws seeded.

        Raises:
            UserError: it is not finite.
        """
        self.iteration = self.start + index
        seed_step(self.cfg.SEED, self.iteration, self.global_rank)
        images, targets = [image.float() for image, _ in batch], [target for _, target in batch]
        losses = self.model(images, targets)
        total = torch.stack(list(losses.values())).sum()
        if not total.isfinite():
            raise run_folder.divergence(self.cfg, self.iteration)
        self.losses = {key: value.detach() for key, value in losses.items()}
        self.losses["total_loss"] = total.detach()
        return total

    def configure_gradient_clipping(self, optimizer: SGD, **_: object) -> None:
        """Clip each parameter's gradient by itself."""
        clip_gradients(self.cfg, self.model.parameters())


class RunFolder(Callback):
    """Writes metrics, evaluations and checkpoints of a run, from the main process.

    The checkpoint of a step comes last, so that a run killed before it repeats the evaluation and
    the metrics of that step instead of losing them.

    Args:
        seconds: the step that begins after so many is the last one.

    Attributes:
        results: of the last evaluation, by data set.
    """

    def __init__(self, cfg: CfgNode, seconds: float | None = None) -> None:
        self.cfg, self.output = cfg, Path(cfg.OUTPUT_DIR)
        self.seconds, self.end = seconds, float("inf")
        self.best, self.results = -1.0, {}
        self.recent: dict[str, deque[float]] = {}

    def on_train_start(self, trainer: Trainer, module: Detector) -> None:
        """Take up the folder where the resumed checkpoint left it."""
        self.best = module.resumed.get("best", -1.0)
        if trainer.is_global_zero:
            run_folder.forget_after(self.output / "metrics.json", module.start)
            self.kept = deque(run_folder.old_checkpoints(self.output, module.start))
        logger.info("training from iteration %d to %d", module.start, module.max_iter)
        if self.seconds is not None:
            self.end = time.monotonic() + self.seconds
        self.mark = time.monotonic()

    def on_train_batch_start(
        self, trainer: Trainer, module: Detector, batch: list[Sample], index: int
    ) -> None:
        """The batch has come; is the time up?"""
        self.waited = time.monotonic() - self.mark
        self.rate = trainer.optimizers[0].param_groups[0]["lr"]
        done = module.start + index + 1
        if time.monotonic() > self.end and done < module.max_iter:
            logger.info("time is up: stopping %d iterations early", module.max_iter - done)
            module.max_iter = done

    def on_train_batch_end(
        self,
        trainer: Trainer,
        module: Detector,
        outputs: object,
        batch: list[Sample],
        index: int,
    ) -> None:
        """Note the step, and write what is due."""
        done = module.iteration + 1
        last = done == module.max_iter
        names = list(module.losses)
        own = torch.stack([module.losses[name] for name in names])
        means = trainer.strategy.reduce(own, reduce_op="mean")
        values = dict(zip(names, means.tolist(), strict=True))
        times = {"time": time.monotonic() - self.mark, "data_time": self.waited}
        for key, value in (values | times).items():
            self.recent.setdefault(key, deque(maxlen=PERIOD)).append(value)
        found = {}
        if last or _is_due(done, self.cfg.TEST.EVAL_PERIOD):
            found = self._evaluate(module, done)
        if trainer.is_global_zero:
            if found or last or done % PERIOD == 0:
                self._write_metrics(module, found)
            if self._is_best(found):
                self._save("model_best", module, {})
            if _is_due(done, self.cfg.SOLVER.CHECKPOINT_PERIOD):
                name = f"model_{module.iteration:07d}"
                self._save(name, module, self._state(trainer))
                self.kept.append(self.output / f"{name}.pth")
                while len(self.kept) > 2:
                    self.kept.popleft().unlink(missing_ok=True)
            if last:
                self._save("model_final", module, self._state(trainer))
        trainer.should_stop = trainer.should_stop or last
        self.mark = time.monotonic()

    def _evaluate(self, module: Detector, done: int) -> dict[str, float]:
        """Evaluate on each test set; what there is to write about it, in the main process."""
        share_buffers(module.model)
        found, self.results = {}, {}
        for name in self.cfg.DATASETS.TEST:
            result = evaluate_model(self.cfg, module.model, name)
            if result is not None:
                self.results[name] = result
                report(result, self.output / "evaluation" / f"{name}_{done:07d}.json")
                scores = {f"{name}/{key}": result[key] for key in ("AP_d", "AP_m")}
                found |= {key: value for key, value in scores.items() if value is not None}
        return found

    def _is_best(self, found: dict[str, float]) -> bool:
        """Whether AP_m of the first test set is the best so far; notes it."""
        value = found.get(f"{next(iter(self.cfg.DATASETS.TEST), '')}/AP_m", -1.0)
        better = value > self.best
        self.best = max(float(value), self.best)
        return better

    def _write_metrics(self, module: Detector, found: dict[str, float]) -> None:
        """Add a line to metrics.json: medians of the last iterations, under Detectron2's keys."""
        row = {key: statistics.median(values) for key, values in self.recent.items()}
        left = module.max_iter - module.iteration - 1
        row |= found | {
            "iteration": module.iteration,
            "lr": self.rate,
            "eta_seconds": row["time"] * left,
        }
        path = self.output / "metrics.json"
        try:
            with path.open("a") as file:
                file.write(json.dumps(row, sort_keys=True) + "\n")
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise write_error(path, error) from error
        losses = ", ".join(f"{key} {row[key]:.3f}" for key in sorted(module.losses))
        logger.info(
            "iteration %d of %d: %s, lr %.3g, %.3f s a step (%.3f s for data), %.0f minutes left",
            *(module.iteration + 1, module.max_iter, losses, row["lr"], row["time"]),
            *(row["data_time"], row["eta_seconds"] / 60),
        )

    def _state(self, trainer: Trainer) -> dict[str, Any]:
        """What a resumed run needs beside the weights."""
        return {
            "optimizer": trainer.optimizers[0].state_dict(),
            "scaler": trainer.precision_plugin.state_dict(),
            "best": self.best,
            "engine": ENGINE,
        }

    def _save(self, name: str, module: Detector, state: dict[str, Any]) -> None:
        """Write a checkpoint; with `state` it becomes the one to resume from."""
        path = self.output / f"{name}.pth"
        content = {
            "model": module.weights(),
            "atto_det": checkpoint.description(self.cfg.dump(), module.class_names),
            "iteration": module.iteration,
        }
        checkpoint.save_checkpoint(path, content | state)
        logger.info("wrote %s", path)
        if state:
            run_folder.tag_last(self.output, path.name)


def _is_due(done: int, period: int) -> bool:
    """Whether something is to be done after so many iterations; never where `period` is 0."""
    return period > 0 and done % period == 0


def share_buffers(model: torch.nn.Module) -> None:
    """Give all processes the main one's batch norm statistics, which the checkpoint will hold."""
    if ranks()[1] > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)
