"""Training of any Detectron2 model from a config, with exact resume and the best model by AP."""

import logging
import time
import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from math import isfinite
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import (
    AMPTrainer,
    DefaultTrainer,
    HookBase,
    SimpleTrainer,
    TrainerBase,
    create_ddp_model,
    hooks,
)
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, EventWriter
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from atto_det.config import check_values
from atto_det.errors import UserError
from atto_det.training import run_folder
from atto_det.training.batches import parts_in, seed_step
from atto_det.training.finite import finite_outputs
from atto_det.training.policy import PERIOD, Run
from atto_det.training.step_times import StepTimes, describe_step
from atto_det.weights import checkpoint

from .accumulation import Accumulating
from .augmented_test import augmented
from .catalog import check_split, check_test_pictures, class_names_of
from .checkpointer import ENGINE, AttoCheckpointer
from .evaluator import VOCInstanceEvaluator
from .loader import TestLoader, TrainLoader
from .model import build_model
from .pooling import pool_by_gathering

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """A `DefaultTrainer` whose every step depends only on (seed, iteration).

    Random choices in step `i` (pictures, augmentation, sampled anchors and proposals) depend only
    on `cfg.SEED` and `i`, and a checkpoint holds the rest. A run that is killed at any moment and
    resumed therefore ends with the weights of an uninterrupted one (on a CPU, bit by bit).

    Subclasses may override `build_model`, `build_optimizer`, `build_lr_scheduler`,
    `build_train_loader`, `build_test_loader`, `build_evaluator`, `build_hooks` and `build_writers`
    as for `DefaultTrainer`. `atto_det.training.run_folder` lists the files in `OUTPUT_DIR`.

    Attributes:
        policy: the `atto_det.training.policy.Run` that decides what is due after a step.

    Raises:
        UserError: a value that a key cannot have, or the data contradicts other keys of the config.
    """

    engine = ENGINE

    def __init__(self, cfg: CfgNode, *, allow_pickle: bool = False) -> None:
        TrainerBase.__init__(self)
        check_values(cfg)
        # For a loss of NaN, its logger prints a traceback; run_step raises a readable error.
        logging.getLogger("detectron2.engine.train_loop").setLevel(logging.CRITICAL)
        if cfg.TEST.PRECISE_BN.ENABLED:
            raise UserError(
                "TEST.PRECISE_BN.ENABLED is True, but its statistics would not survive a resume; "
                "set it to False"
            )
        self.cfg = cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        loader = self.build_train_loader(cfg)
        self.loader = loader
        self.pictures: int | None = getattr(loader, "fingerprint", None)
        check_split(cfg.DATASETS.TRAIN, cfg.DATASETS.TEST)
        check_test_pictures(cfg.DATASETS.TEST)
        self.class_names = class_names_of(cfg.DATASETS.TRAIN[0])
        for name in cfg.DATASETS.TEST[:1]:
            self.build_evaluator(cfg, name)  # so that it raises its errors now rather than later
        torch.manual_seed(cfg.SEED)
        # The memory layout that convolutions prefer: a fifth faster on a CPU.
        self.network = self.build_model(cfg).to(memory_format=torch.channels_last)
        pool_by_gathering(self.network)
        optimizer = self.build_optimizer(cfg, self.network)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.policy = Run(weakref.proxy(self))
        self.checkpointer = AttoCheckpointer(
            self.network,
            cfg.OUTPUT_DIR,
            cfg=cfg,
            class_names=self.class_names,
            allow_pickle=allow_pickle,
            pictures=self.pictures,
            trainer=weakref.proxy(self),
            run=self.policy,
        )
        device_ids = None if cfg.MODEL.DEVICE == "cpu" else [comm.get_local_rank()]
        model = create_ddp_model(self.network, broadcast_buffers=False, device_ids=device_ids)
        step = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        self._trainer = step(model, loader, optimizer)
        self.times = StepTimes(self.network)
        self._trainer.after_backward = self.times.backward_ends
        self.use_parts(parts_in(cfg))
        self.register_hooks(self.build_hooks())

    def use_parts(self, count: int) -> None:
        """Process each batch in this many parts; called at most once."""
        if count == 1:
            return
        step = self._trainer
        step.model = Accumulating(step.model, count, self._backward)
        step.zero_grad_before_forward = True

    def _backward(self, loss: Tensor) -> None:
        scaler = getattr(self._trainer, "grad_scaler", None)
        (scaler.scale(loss) if scaler else loss).backward()

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The model of a config, with random weights.

        Raises:
            UserError: no model can be built from the config; the message gives the reason.
        """
        return build_model(cfg)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
        """Detectron2's schedule, by the keys of SOLVER.

        Raises:
            UserError: the keys give no schedule.
        """
        try:
            return super().build_lr_scheduler(cfg, optimizer)
        except (ArithmeticError, AssertionError, ValueError) as error:
            raise UserError(f"the keys of SOLVER give no schedule: {error}") from error

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[list[dict]]:
        """Batches that depend only on (seed, iteration)."""
        return TrainLoader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[list[dict]]:
        """The pictures of a test set, one per batch."""
        return TestLoader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """An evaluator for AP_d and AP_m.

        Raises:
            UserError: the model does not detect objects.
        """
        return VOCInstanceEvaluator(cfg, dataset_name)

    def build_hooks(self) -> list[HookBase]:
        """Timing and schedule; what `policy` decides follows after all hooks."""
        return [hooks.IterationTimer(), hooks.LRScheduler()]

    @cached_property
    def writers(self) -> list[EventWriter]:
        """Opened when first used, after lines later than the resumed checkpoint were removed."""
        return self.build_writers()

    def resume_or_load(self, resume: bool = True) -> None:
        """Continue from the last checkpoint in `OUTPUT_DIR`, or else load `MODEL.WEIGHTS`.

        Raises:
            UserError: weights that are missing, damaged, unsafe, or of another model.
        """
        super().resume_or_load(resume)
        if hasattr(self.data_loader, "start"):
            self.data_loader.start = self.start_iter
        elif self.start_iter:
            logger.warning(
                "this loader cannot continue where it was (it has no `start`): pictures start over"
            )

    def train(self) -> dict[str, dict]:
        """Train to the end; returns the last evaluation: data set → result.

        Raises:
            UserError: NaN in the loss, an unreadable picture, or a full disk.
        """
        self.register_hooks([PolicyHook()])
        self._train()
        return self.policy.results

    def try_step(self, network: nn.Module, sample: dict) -> None:
        """Pass one sample of the loader forward and backward through a copy of the network."""
        with EventStorage(), torch.autocast("cuda", enabled=self.cfg.SOLVER.AMP.ENABLED):
            losses = network([sample])
        sum(losses.values()).backward()

    def fit(self) -> None:
        """Train to the end."""
        self.train()

    def _train(self) -> None:
        self.iter = self.start_iter
        with EventStorage(self.start_iter) as self.storage:
            try:
                self.before_train()
                while self.iter < self.max_iter:
                    self.before_step()
                    self.run_step()
                    self.after_step()
                    self.iter += 1
            except BaseException:
                with suppress(Exception):  # closing the writers must not hide the first error
                    self.after_train()
                raise
            self.after_train()

    def run_step(self) -> None:
        """One step, with all random choices seeded by (seed, iteration, process)."""
        seed_step(self.cfg.SEED, self.iter, comm.get_rank())
        self.times.begin()
        begin = time.perf_counter()
        try:
            super().run_step()
        except FloatingPointError:
            raise run_folder.divergence(self.cfg, self.iter) from None
        speed = self.cfg.SOLVER.IMS_PER_BATCH / (time.perf_counter() - begin)
        self.storage.put_scalars(**self.times.end(), pictures_per_second=speed)

    def evaluate(self, name: str) -> dict | None:
        """The result on a data set in the main process; None in the others."""
        return evaluate_model(self.cfg, self.model, name, type(self))

    def write_metrics(self, found: dict[str, float]) -> None:
        """Make the writers write, including `found`."""
        self.storage.put_scalars(**found, smoothing_hint=False)
        for writer in self.writers:
            writer.write()
        latest = self.storage.latest_with_smoothing_hint(PERIOD)
        if "pictures_per_second" in latest:
            logger.info("a step: %s", describe_step({key: v for key, (v, _) in latest.items()}))

    def weights(self) -> dict[str, Tensor]:
        """The model's tensors, on the CPU."""
        return self.checkpointer.weights()

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Set the tensors that `weights` returned.

        Raises:
            UserError: they belong to another model.
        """
        checkpoint.load_weights(self.network, {"model": weights}, self.cfg.OUTPUT_DIR)

    def state(self) -> dict[str, Any]:
        """The state of optimizer and hooks."""
        return {"trainer": self.state_dict()}


class PolicyHook(HookBase):
    """Calls the trainer's `policy`, after all other hooks."""

    def before_train(self) -> None:
        """Start the policy; what it completes from an earlier run belongs to the step before."""
        trainer = self.trainer
        trainer.iter = trainer.storage.iter = trainer.start_iter - 1
        trainer.policy.start()
        trainer.iter = trainer.storage.iter = trainer.start_iter

    def before_step(self) -> None:
        """Tell the policy."""
        self.trainer.policy.before_step(self.trainer.iter)

    def after_step(self) -> None:
        """Tell the policy."""
        self.trainer.policy.after_step(self.trainer.iter)

    def after_train(self) -> None:
        """Close the writers."""
        for writer in vars(self.trainer).pop("writers", ()):
            writer.write()
            writer.close()


def evaluate_model(
    cfg: CfgNode, model: nn.Module, name: str, trainer: type[DefaultTrainer] = Trainer
) -> dict | None:
    """Evaluate `model` on data set `name`; the result in the main process, None in the others.

    Args:
        trainer: its `build_evaluator` and `build_test_loader` are used.

    Returns:
        The whole result of a `VOCInstanceEvaluator`; for another evaluator, what it returns.
    """
    evaluator = trainer.build_evaluator(cfg, name)
    model = augmented(cfg, model)
    with finite_outputs(model):
        found = inference_on_dataset(model, trainer.build_test_loader(cfg, name), evaluator)
    if not comm.is_main_process():
        return None
    return getattr(evaluator, "result", None) or {
        task: {key: float(value) for key, value in own.items() if isfinite(value)}
        for task, own in found.items()
        if isinstance(own, Mapping)
    }
