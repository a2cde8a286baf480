"""What happens before and after each step of a training, and in which order; for both engines.

An engine's loop calls `start` before its first step, and `before_step` and `after_step` around
each. All periodic work (evaluation, keeping the best, checkpoints, the deadline) is decided here
alone; what only an engine can do, it provides as a `Training`.
"""

import errno
import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import Tensor, distributed, nn
from yacs.config import CfgNode

from atto_det.data.catalog import held_out_set
from atto_det.errors import UserError, write_error
from atto_det.training import run_folder
from atto_det.training.averaging import WeightAverage
from atto_det.training.batches import ranks
from atto_det.training.scoring import judged_by, metrics_of, report

logger = logging.getLogger(__name__)
PERIOD = 20  # steps per line of metrics.json, and the window of its medians


class Training(Protocol):
    """A training as implemented by an engine.

    Attributes:
        engine: the name written into its checkpoints.
        cfg: its config.
        class_names: of the data.
        loader: of the training pictures.
        pictures: the fingerprint of the training pictures; None if it is not known.
        start_iter, max_iter: the first iteration, and the one after the last.
        policy: called by the training loop.
    """

    engine: str
    cfg: CfgNode
    class_names: list[str]
    loader: Any
    pictures: int | None
    start_iter: int
    max_iter: int
    policy: "Run"

    @property
    def network(self) -> nn.Module:
        """The model that is trained, on its device."""

    def resume_or_load(self, resume: bool) -> None:
        """Continue from the last checkpoint in the folder, or else load `MODEL.WEIGHTS`."""

    def use_parts(self, count: int) -> None:
        """Process each batch in this many parts; called at most once, before `fit`."""

    def try_step(self, network: nn.Module, sample: Any) -> None:
        """Pass one sample of the loader forward and backward through a copy of `network`."""

    def fit(self) -> None:
        """Train from `start_iter` to `max_iter`, calling `policy`."""

    def evaluate(self, name: str) -> dict | None:
        """The result on a data set in the main process; None in the others."""

    def write_metrics(self, found: dict[str, float]) -> None:
        """Write the figures of the last steps, and `found`; in the main process."""

    def weights(self) -> dict[str, Tensor]:
        """The model's tensors, on the CPU, under Detectron2's names."""

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Set the tensors that `weights` returned."""

    def state(self) -> dict[str, Any]:
        """What else the engine needs to resume a run."""


class Run:
    """The policy of a run in its folder `OUTPUT_DIR`.

    After a step, whatever is due is done in this order: evaluation, metrics, the best model, the
    checkpoint. If an evaluation is due, a checkpoint that says so ("owes") is written before it, so
    that no weights are lost if it fails, and again after it. A run that is resumed in between first
    completes the evaluation and metrics of that step. With SOLVER.EMA.DECAY, the moving average of
    the weights is evaluated and saved as "model"; the weights themselves are saved beside it, to
    resume from.

    Args:
        training: the training that this policy controls.

    Attributes:
        seconds: the step that begins after this time is the last one; None for no limit.
        best: the best AP so far on the held-out pictures, or else on the first test set: AP_m, or
            AP_d for a model without masks.
        waited: the number of evaluations since then.
        parts: of each batch, where SOLVER.ACCUMULATE is "auto" and they are known; else 0.
        owes: whether the step before the next one must still be evaluated.
        results: of the last evaluation, by data set; in the main process.

    Raises:
        UserError: TEST.PATIENCE without an evaluation before the last step.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self.seconds: float | None = None
        self.output = Path(training.cfg.OUTPUT_DIR)
        self.best, self.waited, self.results = -1.0, 0, {}
        self.owes, self.parts = False, 0
        self.kept: list[Path] = []  # checkpoints to resume from, oldest first
        self.average: WeightAverage | None = None
        self.decay, self.patience = training.cfg.SOLVER.EMA.DECAY, training.cfg.TEST.PATIENCE
        test_sets, held_out = list(training.cfg.DATASETS.TEST), held_out_set(training.cfg)
        # Data sets of each evaluation, which select the best model; and those evaluated at the end.
        self.chosen_by, self.reported = test_sets, []
        if held_out:
            self.chosen_by, self.reported = [held_out], test_sets
        if self.patience and not (self.chosen_by and training.cfg.TEST.EVAL_PERIOD > 0):
            raise UserError(
                f"TEST.PATIENCE is {self.patience} evaluations, but there is none before the last "
                "step: set TEST.EVAL_PERIOD and DATASETS.HOLD_OUT or TEST, or PATIENCE to 0"
            )
        if self.patience and not held_out:
            logger.warning(
                "TEST.PATIENCE stops the training by the result on %s, which is then also the one "
                "that is reported: DATASETS.HOLD_OUT separates the two",
                test_sets[0],
            )

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do, after a resume."""
        first, end = self.training.start_iter, self.training.max_iter
        if self.owes and self._evaluates(first):
            return False
        return first >= end or self._has_waited_enough()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know, such as the best AP so far."""
        state: dict[str, Any] = {"best": self.best, "waited": self.waited}
        if self.training.pictures:
            state["pictures"] = self.training.pictures
        if self.parts:
            state["parts"] = self.parts
        if self.owes:
            state["owes"] = True
        if self.average:
            state |= {"updates": self.average.count, "weights": self.training.weights()}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state in a checkpoint, whose "model" is already loaded into the network.

        Raises:
            UserError: only one of the two runs has a moving average of the weights.
        """
        self.best, self.waited = float(state["best"]), int(state.get("waited", 0))
        self.owes, self.parts = bool(state.get("owes", False)), int(state.get("parts", 0))
        if (self.decay > 0) != ("updates" in state):
            had = "had a" if "updates" in state else "had no"
            raise UserError(
                f"SOLVER.EMA.DECAY is {self.decay}, but the run {had} moving average of its "
                "weights: resume it with its own config"
            )
        if self.decay:
            self.average = WeightAverage(self.training.network, self.decay, state["updates"])
            self.training.load_weights(state["weights"])

    def start(self) -> None:
        """Bring the folder to the state of the resumed checkpoint, and start the clock.

        Raises:
            UserError: the disk is full.
        """
        first = self.training.start_iter
        self.owes = self.owes and self._evaluates(first)
        if ranks()[0] == 0:
            run_folder.forget_after(self.output / "metrics.json", first - self.owes)
            self.kept = run_folder.old_checkpoints(self.output, first)
        if self.decay and self.average is None:
            self.average = WeightAverage(self.training.network, self.decay)
        if self.owes:
            logger.info("iteration %d still has to be evaluated: doing this first", first - 1)
            with full_disk_as_sentence(self.output):
                self._finish(first - 1)
        logger.info("training from iteration %d to %d", first, self.training.max_iter)
        self.end = time.monotonic() + (self.seconds or 0)

    def before_step(self, iteration: int) -> None:
        """Make this step the last one if the time is up, so that it is evaluated and saved."""
        left = self.training.max_iter - iteration - 1
        if self.seconds is not None and agreed(left > 0 and time.monotonic() > self.end):
            logger.info("time is up: stopping %d iterations early", left)
            self.training.max_iter = iteration + 1

    def after_step(self, iteration: int) -> None:
        """Do what is due after a step.

        Raises:
            UserError: the disk is full.
        """
        with full_disk_as_sentence(self.output):
            self._after_step(iteration)

    def _after_step(self, iteration: int) -> None:
        if self.average:
            self.average.update()
        self.owes = self._evaluates(iteration + 1)
        if self.owes and ranks()[0] == 0:
            self._write_resumable(iteration, last=iteration + 1 == self.training.max_iter)
        self._finish(iteration)

    def _finish(self, iteration: int) -> None:
        """Do what must wait until the weights of a step are saved."""
        training, done = self.training, iteration + 1
        found, is_best = {}, False
        if self.owes:
            self.results = {}
            found = self._evaluate(self.chosen_by, done)
            is_best = self._is_best()
            if agreed(done < training.max_iter and self._has_waited_enough()):
                logger.info("no better AP in %d evaluations: stopping", self.waited)
                training.max_iter = done
        last = done == training.max_iter
        if last and self.reported:
            found |= self._evaluate(self.reported, done)
        evaluated, self.owes = self.owes, False
        if ranks()[0] > 0:
            return
        if found or last or done % PERIOD == 0:
            training.write_metrics(found)
        if is_best:
            self._write("model_best", iteration)
        periodic = _is_due(done, training.cfg.SOLVER.CHECKPOINT_PERIOD)
        if periodic or (evaluated and not last):
            self._write_resumable(iteration)
        if last:
            self._write_resumable(iteration, last=True)

    def _evaluates(self, done: int) -> bool:
        """Whether an evaluation is due after so many steps."""
        last = done == self.training.max_iter
        due = _is_due(done, self.training.cfg.TEST.EVAL_PERIOD)
        return bool(self.chosen_by) and done > 0 and (last or due)

    def _write_resumable(self, iteration: int, last: bool = False) -> None:
        """Write a checkpoint to resume from; only the last two periodic ones are kept."""
        if last:
            self._write("model_final", iteration, resumable=True)
            return
        path = self._write(f"model_{iteration:07d}", iteration, resumable=True)
        self.kept = [*(other for other in self.kept if other != path), path]
        for old in self.kept[:-2]:
            old.unlink(missing_ok=True)
        self.kept = self.kept[-2:]

    def _averaged(self) -> AbstractContextManager:
        """While active, the network has the weights that are evaluated and saved."""
        return self.average.in_place() if self.average else nullcontext()

    def _has_waited_enough(self) -> bool:
        return 0 < self.patience <= self.waited

    def _evaluate(self, names: list[str], done: int) -> dict[str, float]:
        """Evaluate on data sets; returns, in the main process, the metrics to write."""
        share_buffers(self.training.network)
        found = {}
        for name in names:
            with self._averaged():
                share_buffers(self.training.network)
                result = self.training.evaluate(name)
            if result is not None:
                self.results[name] = result
                report(result, self.output / "evaluation" / f"{name}_{done:07d}.json")
                found |= {f"{name}/{key}": value for key, value in metrics_of(result).items()}
        return found

    def _is_best(self) -> bool:
        """Whether the first result is the best so far; updates `best` and `waited`."""
        value = judged_by(next(iter(self.results.values()), {}))
        better = value is not None and value > self.best
        if better:
            self.best = float(value)
        self.waited = 0 if better else self.waited + bool(self.results)
        return better

    def _write(self, name: str, iteration: int, resumable: bool = False) -> Path:
        """Write the model and, if `resumable`, everything needed to resume the run."""
        training = self.training
        state = {"iteration": iteration}
        if resumable:
            state |= {"engine": training.engine, "run": self.state_dict()} | training.state()
        with self._averaged():
            weights = training.weights()
        return run_folder.write_checkpoint(
            self.output / f"{name}.pth",
            weights,
            training.cfg.dump(),
            training.class_names,
            **state,
        )


class Clock(Run):
    """A policy that only times steps: nothing is evaluated or written.

    Attributes:
        ends: the time at which each step ended, in seconds.
    """

    def start(self) -> None:
        """Start an empty list."""
        self.ends: list[float] = []

    def after_step(self, iteration: int) -> None:
        """Record the time."""
        self.ends.append(time.monotonic())


Decision = TypeVar("Decision", bool, int)


def agreed(decision: Decision) -> Decision:
    """The main process's decision, in all processes, since all must stop after the same step."""
    if ranks()[1] == 1:
        return decision
    decisions = [decision]
    distributed.broadcast_object_list(decisions, src=0)
    return decisions[0]


def share_buffers(model: nn.Module) -> None:
    """Copy the main process's batch-norm statistics, which checkpoints hold, to all processes."""
    if ranks()[1] > 1:
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)


def _is_due(done: int, period: int) -> bool:
    """Whether periodic work is due after so many iterations; never if `period` is 0."""
    return period > 0 and done % period == 0


@contextmanager
def full_disk_as_sentence(output: str | Path) -> Iterator[None]:
    """Turn the error of a library that found the disk full into a `UserError`.

    Raises:
        UserError: it names the file, or `output` if the error does not name one.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise write_error(error.filename or output, error) from error
