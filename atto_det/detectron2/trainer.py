"""Training of any Detectron2 model from a config: exact resume, whole checkpoints, best by AP."""

import errno
import logging
import time
import weakref
from contextlib import suppress
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.engine import (
    AMPTrainer,
    DefaultTrainer,
    HookBase,
    SimpleTrainer,
    TrainerBase,
    create_ddp_model,
    default_writers,
    hooks,
)
from detectron2.evaluation import inference_on_dataset
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, JSONWriter
from torch import nn

from atto_det.config import class_head
from atto_det.errors import UserError, write_error
from atto_det.training import run_folder
from atto_det.training.batches import seed_step
from atto_det.training.scoring import report

from .catalog import check_split, class_names_of
from .checkpointer import AttoCheckpointer
from .evaluator import VOCInstanceEvaluator, check_detector
from .loader import TestLoader, TrainLoader
from .model import build_model

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """`DefaultTrainer` whose every step follows from (seed, iteration).

    What is drawn in step `i` (pictures, augmentation, sampled anchors and proposals) depends on
    `cfg.SEED` and `i` alone, and a checkpoint holds the rest, so that a run killed at any moment
    and resumed ends with the weights of an uninterrupted one (on a CPU, bit by bit).

    `OUTPUT_DIR` gets metrics.json (a line per 20 steps, and per evaluation),
    evaluation/<data set>_<iteration>.json, model_best.pth (by AP_m of the first test set),
    model_final.pth, and the last two checkpoints.

    Raises:
        UserError: data that the config's other keys contradict.
    """

    def __init__(self, cfg: CfgNode, *, allow_pickle: bool = False) -> None:
        TrainerBase.__init__(self)
        # Its logger prints a traceback for a loss of NaN, which run_step turns into a sentence.
        logging.getLogger("detectron2.engine.train_loop").setLevel(logging.CRITICAL)
        if cfg.TEST.PRECISE_BN.ENABLED:
            raise UserError(
                "TEST.PRECISE_BN.ENABLED is True, but its statistics would not survive a resume; "
                "set it to False"
            )
        self.cfg = cfg
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        self.last_results: dict[str, dict] = {}  # data set → result of the last evaluation
        loader = TrainLoader(cfg)
        check_split(cfg.DATASETS.TRAIN, cfg.DATASETS.TEST)
        if cfg.DATASETS.TEST:
            check_detector(cfg)  # now, not when the first evaluation is due
        torch.manual_seed(cfg.SEED)
        # The order of numbers in memory that convolutions prefer: a fifth faster on a CPU.
        model = build_model(cfg).to(memory_format=torch.channels_last)
        optimizer = build_optimizer(cfg, model)
        try:
            self.scheduler = build_lr_scheduler(cfg, optimizer)
        except (ArithmeticError, AssertionError, ValueError) as error:
            raise UserError(f"the keys of SOLVER give no schedule: {error}") from error
        self.checkpointer = AttoCheckpointer(
            model,
            cfg.OUTPUT_DIR,
            cfg=cfg,
            class_names=class_names_of(cfg.DATASETS.TRAIN[0]),
            allow_pickle=allow_pickle,
            trainer=weakref.proxy(self),
        )
        device_ids = None if cfg.MODEL.DEVICE == "cpu" else [comm.get_local_rank()]
        model = create_ddp_model(model, broadcast_buffers=False, device_ids=device_ids)
        step = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        self._trainer = step(model, loader, optimizer)
        self.register_hooks(self.build_hooks())

    def build_hooks(self) -> list[HookBase]:
        """Timing, schedule, evaluation; what writes comes when training starts."""
        return [hooks.IterationTimer(), hooks.LRScheduler(), EvaluationHook()]

    def writing_hooks(self) -> list[HookBase]:
        """Metrics and checkpoints.

        The checkpoint of a step comes last, so that a run killed before it repeats the evaluation
        and the metrics of that step instead of losing them.
        """
        output = Path(self.cfg.OUTPUT_DIR)
        run_folder.forget_after(output / "metrics.json", self.start_iter)
        writers = default_writers(str(output), self.max_iter)
        self.metrics = next(writer for writer in writers if isinstance(writer, JSONWriter))
        period = self.cfg.SOLVER.CHECKPOINT_PERIOD
        checkpoints = hooks.PeriodicCheckpointer(self.checkpointer, period, max_to_keep=2)
        checkpoints.recent_checkpoints += map(
            str, run_folder.old_checkpoints(output, self.start_iter)
        )
        return [hooks.PeriodicWriter(writers, period=20), checkpoints]

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the last checkpoint in `OUTPUT_DIR`, or else load `MODEL.WEIGHTS`.

        Raises:
            UserError: weights that are missing, damaged, unsafe, or another model's.
        """
        super().resume_or_load(resume)
        self.data_loader.start = self.start_iter

    def train(self) -> dict[str, dict]:
        """Train to the end; returns the last evaluation: data set → result.

        Raises:
            UserError: NaN in the loss, an unreadable picture, a full disk.
        """
        if comm.is_main_process():
            self.register_hooks(self.writing_hooks())
        logger.info("training from iteration %d to %d", self.start_iter, self.max_iter)
        try:
            self._train()
        except OSError as error:  # of Detectron2's writers; ours raise sentences
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise write_error(error.filename or self.cfg.OUTPUT_DIR, error) from error
        return self.last_results

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
                with suppress(Exception):  # closing the writers must not hide the reason
                    self.after_train()
                raise
            self.after_train()

    def run_step(self) -> None:
        """One step, all its random draws seeded by (seed, iteration, process)."""
        seed_step(self.cfg.SEED, self.iter, comm.get_rank())
        try:
            super().run_step()
        except FloatingPointError:
            raise run_folder.divergence(self.cfg, self.iter) from None


def evaluate_model(cfg: CfgNode, model: nn.Module, name: str) -> dict | None:
    """Evaluate `model` on data set `name`; the result in the main process, None in the others."""
    check_detector(cfg)
    evaluator = VOCInstanceEvaluator(
        name,
        score_floor=class_head(cfg)[1].SCORE_THRESH_TEST,
        detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
    )
    result = inference_on_dataset(model, TestLoader(cfg, name), evaluator)
    return result if comm.is_main_process() else None


class EvaluationHook(HookBase):
    """Evaluates every `TEST.EVAL_PERIOD` steps and after the last; keeps the best model."""

    def __init__(self) -> None:
        self.best = -1.0

    def state_dict(self) -> dict[str, float]:
        """The best AP so far, so that a resumed run does not overwrite a better model."""
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take over the best AP of a checkpoint."""
        self.best = state["best"]

    def after_step(self) -> None:
        """Evaluate if it is time to."""
        cfg, done = self.trainer.cfg, self.trainer.iter + 1
        period = cfg.TEST.EVAL_PERIOD
        if done == self.trainer.max_iter or (period > 0 and done % period == 0):
            self._evaluate(cfg, done)

    def _evaluate(self, cfg: CfgNode, done: int) -> None:
        results = {}
        _share_buffers(self.trainer.model)
        for name in cfg.DATASETS.TEST:
            result = evaluate_model(cfg, self.trainer.model, name)
            if result is None:
                continue
            results[name] = result
            report(result, Path(cfg.OUTPUT_DIR) / "evaluation" / f"{name}_{done:07d}.json")
            for key in ("AP_d", "AP_m"):
                if result[key] is not None:
                    self.trainer.storage.put_scalar(
                        f"{name}/{key}", result[key], smoothing_hint=False
                    )
        comm.synchronize()
        self.trainer.last_results = results
        if results:
            # Now: a kill before the next lot would lose it, if a checkpoint lay in between.
            self.trainer.metrics.write()
            first = next(iter(results.values()))
            # A model without masks is judged by its boxes.
            ap = first["AP_d"] if first["AP_m"] is None else first["AP_m"]
            if ap is not None and ap > self.best:
                self.best = float(ap)
                self.trainer.checkpointer.save_weights("model_best", iteration=done - 1)


def _share_buffers(model: nn.Module) -> None:
    """Give all processes the main one's batch norm statistics, which the checkpoint will hold."""
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)


class Deadline(HookBase):
    """Makes the step that begins after `seconds` the last one, so that it is evaluated."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def before_train(self) -> None:
        """Start the clock."""
        self.end = time.monotonic() + self.seconds

    def before_step(self) -> None:
        """Look at it."""
        if time.monotonic() > self.end and self.trainer.iter + 1 < self.trainer.max_iter:
            logger.info(
                "time is up: stopping %d iterations early",
                self.trainer.max_iter - 1 - self.trainer.iter,
            )
            self.trainer.max_iter = self.trainer.iter + 1
