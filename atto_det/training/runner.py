"""From a command line or a config to a folder of results, with either engine.

An `Engine` builds models and trainings; `Runner` does what is the same for both engines: it chooses
the config, checks the output folder, resumes, and evaluates checkpoints.
"""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rich.console import Console
from torch import nn
from yacs.config import CfgNode

from atto_det.config import ConfigReader, check_values, class_head
from atto_det.data.catalog import load_dataset, training_sets
from atto_det.data.catalog import names as known_sets
from atto_det.data.training_report import format_report, training_report
from atto_det.errors import UserError, shown, write_file
from atto_det.training import estimate, run_folder
from atto_det.training.batches import ranks
from atto_det.training.carried_data import forbid_flips, leave_unused
from atto_det.training.estimate import out_of_memory_as_sentence
from atto_det.training.keys import AUTO
from atto_det.training.lock import locked
from atto_det.training.policy import Clock, Training, agreed
from atto_det.training.scoring import report
from atto_det.training.workers import death_as_sentence
from atto_det.weights import checkpoint
from atto_det.weights.detector_file import holds_detector
from atto_det.weights.zoo import find_file

logger = logging.getLogger(__name__)

LOGGERS = ("atto_det", "detectron2", "fvcore")
_handlers: list[tuple[logging.Logger, logging.Handler]] = []  # of the last run in this process


class Job(NamedTuple):
    """The task that a command line describes.

    config_file: YAML experiment; None for the config in the checkpoint MODEL.WEIGHTS.
    options: `KEY VALUE` pairs.
    resume: continue from the last checkpoint.
    eval_only: evaluate MODEL.WEIGHTS.
    allow_pickle: read `.pkl` weights, which can run code.
    processes, machines, machine_rank, dist_url: number of processes on this machine, number of
        machines, number of this machine, and tcp://HOST:PORT of machine 0.
    """

    config_file: str | None = None
    options: Sequence[str] = ()
    resume: bool = False
    eval_only: bool = False
    allow_pickle: bool = False
    processes: int = 1
    machines: int = 1
    machine_rank: int = 0
    dist_url: str = "auto"


class Engine(Protocol):
    """What trains and evaluates.

    Attributes:
        name: "detectron2" or "torchvision".
        processes: the total number of processes.
        is_main: whether this process is the one that writes.
        configs: reads the engine's experiment files, and knows its data sets.
    """

    name: str
    configs: ConfigReader
    processes: int
    is_main: bool

    def set_up(self, cfg: CfgNode, output: Path) -> None:
        """Prepare the process for `cfg`; `output` is the folder of the log."""

    def build_training(self, cfg: CfgNode) -> Training:
        """A training before its first iteration, with random weights; its policy is a `Run`.

        Raises:
            UserError: something this engine cannot train, or data that contradicts the config.
        """

    def load_model(
        self, cfg: CfgNode, content: dict[str, Any], class_names: list[str]
    ) -> nn.Module:
        """The model with all weights of MODEL.WEIGHTS, in evaluation mode.

        Args:
            content: of that file if it is a `.pth`; otherwise empty.
        """

    def evaluate(self, cfg: CfgNode, model: nn.Module, dataset: str) -> dict | None:
        """The result of `model` in the main process; None in the others."""


class Runner:
    """Runs of one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def work(self, job: Job) -> None:
        """What one process does."""
        cfg = self.read_config(job.config_file, job.options, evaluates=job.eval_only)
        with death_as_sentence("DATALOADER.NUM_WORKERS, or SOLVER.IMS_PER_BATCH"):
            if job.eval_only:
                self.evaluate(cfg)
            else:
                self.train(cfg, resume=job.resume)

    def read_config(
        self, config_file: str | None, options: Sequence[str] = (), *, evaluates: bool = False
    ) -> CfgNode:
        """The config in a file, or, without one, that of the checkpoint in option MODEL.WEIGHTS.

        The OUTPUT_DIR in a checkpoint belongs to an earlier time and perhaps another machine, so
        results are written beside the checkpoint unless an option says otherwise. Data that is not
        used is left out (`atto_det.training.carried_data`).

        Args:
            evaluates: whether nothing is trained.

        Raises:
            UserError: neither is given, or raised by `ConfigReader.load_config`.
        """
        configs = self.engine.configs
        if config_file:
            return configs.load_config(config_file, options)
        path, text, earlier = run_folder.carried_config(options)
        where = f"the config in checkpoint {path}"
        options = ["OUTPUT_DIR", run_folder.folder_of(path), *options]
        given, class_names_of = options[::2], configs.catalog.class_names_of
        cfg = configs.config_from_text(text, where, options)
        leave_unused(cfg.DATASETS, given, class_names_of, evaluates=evaluates)
        key, head = class_head(cfg)
        if "DATASETS.TRAIN" in given and cfg.DATASETS.TRAIN and key not in given:
            head.NUM_CLASSES = 0  # taken from the new data
        cfg = configs.completed(cfg)
        is_new = not {"DATASETS.TRAIN", "DATASETS.FOLDERS", "DATASETS.COCO"}.isdisjoint(given)
        if (
            is_new
            and cfg.DATASETS.TRAIN
            and not (evaluates or "DATASETS.NO_HORIZONTAL_FLIP" in given)
        ):
            cfg.defrost()
            names = class_names_of(cfg.DATASETS.TRAIN[0])
            flips = cfg.INPUT.RANDOM_FLIP != "none"
            forbid_flips(cfg.DATASETS, names, earlier, flips=flips)
            cfg.freeze()
        return cfg

    def train(
        self, cfg: CfgNode, *, resume: bool = False, seconds: float | None = None
    ) -> dict[str, dict]:
        """Train to the end in `OUTPUT_DIR`, or for `seconds`.

        Returns:
            The last evaluation, by data set; empty if the run was already complete.

        Raises:
            UserError: the folder holds another run and `resume` is False; another run is using it;
                a mistake in config, data or weights; a loss that is not finite; a full disk.
        """
        check_values(cfg)
        output = Path(cfg.OUTPUT_DIR)
        with self._alone_in(output):
            if not resume:
                run_folder.refuse_used(output)
                _check_that_weights_exist(cfg.MODEL.WEIGHTS)
            self._start(cfg, output)
            used = self._training_data(cfg)
            training = self.engine.build_training(cfg)
            run = training.policy
            run.seconds = seconds
            training.resume_or_load(resume)
            if run.is_over:
                if self.engine.is_main:
                    run_folder.finish(output)
                raised = "TEST.PATIENCE" if run.patience else "SOLVER.MAX_ITER"
                logger.info("this run is complete; raise %s to continue", raised)
                return {}
            memory = self._fit_into_memory(cfg, training)
            if self.engine.is_main:
                self._record(cfg, output, data=used, memory=memory)
            with out_of_memory_as_sentence():
                training.fit()
            return run.results

    def _training_data(self, cfg: CfgNode) -> dict[str, dict]:
        """Print what is trained on and what is left out, for the data sets in `atto_det.data`.

        Returns:
            The same as plain values for JSON.
        """
        if not self.engine.is_main:
            return {}
        sets = training_sets(cfg, cfg.DATASETS.NO_HORIZONTAL_FLIP)
        names = [name for name, _ in sets]
        if kept := [name for name, is_kept in sets if is_kept]:
            logger.info("not mirrored (DATASETS.NO_HORIZONTAL_FLIP): %s", ", ".join(kept))
        found = training_report(
            {name: load_dataset(name) for name in names if name in known_sets()},
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        )
        if found:
            Console().print(format_report(found))
        return found

    def _fit_into_memory(self, cfg: CfgNode, training: Training) -> dict[str, Any]:
        """Estimate memory and time of the steps, and choose the parts of a batch if "auto".

        Returns:
            The estimate as plain values for JSON; empty if it is not known.

        Raises:
            UserError: a step needs more memory than there is.
        """
        run, device = training.policy, cfg.MODEL.DEVICE
        pictures = cfg.SOLVER.IMS_PER_BATCH // self.engine.processes
        automatic = cfg.SOLVER.ACCUMULATE == AUTO
        measured, free = None, None
        # Synchronised batch norms wait for the other processes, which measure as well then.
        measures = self.engine.is_main or ranks()[1] > 1
        if measures and hasattr(training.loader, "sample"):
            network = training.network.to(device)
            free = estimate.free_memory(device)
            sharing = 1 if free is None or device.startswith("cuda") else self.engine.processes
            free = free and free // sharing
            try:
                with out_of_memory_as_sentence():
                    measured = estimate.measure(cfg, training.loader, network, training.try_step)
            except UserError:
                if self.engine.is_main:  # said once
                    raise
            except Exception as error:  # from a user's own model: its first step will show it
                logger.warning("what a step needs could not be measured: %s", shown(error))
        if automatic and not run.parts:
            run.parts = 1
            if measured:
                run.parts = estimate.parts_that_fit(measured, cfg, pictures, free)
            elif not self.engine.is_main and ranks()[1] == 1:  # started by the main process
                run.parts = run_folder.recorded_parts(Path(cfg.OUTPUT_DIR))
            run.parts = agreed(run.parts)
        if automatic:
            training.use_parts(run.parts)
            logger.info("SOLVER.ACCUMULATE auto: %d", run.parts)
        if measured is None or not self.engine.is_main:
            return {"parts": run.parts} if automatic else {}
        steps = training.max_iter - training.start_iter
        parts = run.parts or cfg.SOLVER.ACCUMULATE
        return estimate.check(measured, cfg, pictures, parts, steps, free)

    def evaluate(self, cfg: CfgNode) -> dict[str, dict]:
        """Evaluate `MODEL.WEIGHTS` on each of `DATASETS.TEST`; prints tables, writes JSON.

        Raises:
            UserError: no weights, no test set, other classes, or weights that lack a tensor.
        """
        check_values(cfg)
        path, names = cfg.MODEL.WEIGHTS, list(cfg.DATASETS.TEST)
        if not path or not names:
            raise UserError(
                "--eval-only needs MODEL.WEIGHTS and DATASETS.TEST; one of them is empty"
            )
        _check_that_weights_exist(path)
        file = find_file(path)
        whole = file.suffix == ".pth" or holds_detector(file)
        content = checkpoint.load_checkpoint(file) if whole else {}
        class_names_of = self.engine.configs.catalog.class_names_of
        known = class_names_of(names[0])
        if "atto_det" in content:
            known = checkpoint.read_description(content, path)["class_names"]
        run_folder.check_classes(path, known, {name: class_names_of(name) for name in names})
        output = Path(cfg.OUTPUT_DIR) / "evaluation"  # keeps the training's own files unchanged
        with self._alone_in(output):
            self._start(cfg, output)
            if self.engine.is_main:
                self._record(cfg, output)
            if content:
                content = {"model": content.get("model", content)}
            model = self.engine.load_model(cfg, content, known)
            results = {}
            for name in names:
                result = self.engine.evaluate(cfg, model, name)
                if result is not None:
                    results[name] = result
                    report(result, output / f"{name}.json")
        return results

    def seconds_per_step(self, cfg: CfgNode, steps: int = 8) -> float:
        """Mean time of a training step of `cfg` on this machine, over `steps`, in seconds.

        Two slower steps come first and are not counted. Nothing is written.
        """
        cfg = cfg.clone()
        cfg.defrost()
        cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = steps + 2, ()
        cfg.freeze()
        training = self.engine.build_training(cfg)
        training.policy = clock = Clock(training)
        training.fit()
        return (clock.ends[-1] - clock.ends[1]) / steps

    def _alone_in(self, output: Path) -> AbstractContextManager:
        """Keeps other runs out of the folder; all processes of this run share one lock."""
        return locked(output) if self.engine.is_main else nullcontext()

    def _start(self, cfg: CfgNode, output: Path) -> None:
        """Save the config in folder `output`, and set up logging."""
        logging.raiseExceptions = False  # no traceback if the log cannot be written (full disk)
        if self.engine.is_main:
            write_file(output / "config.yaml", cfg.dump())
        while _handlers:  # a log of this process's run before would go on
            logger, handler = _handlers.pop()
            logger.removeHandler(handler)
            handler.close()
        loggers = [logging.getLogger(name) for name in LOGGERS]
        before = {handler for logger in loggers for handler in logger.handlers}
        self.engine.set_up(cfg, output)
        _handlers.extend(
            (logger, handler)
            for logger in loggers
            for handler in logger.handlers
            if handler not in before
        )

    def _record(self, cfg: CfgNode, output: Path, **more: Any) -> None:
        """Record in folder `output` what its results depend on besides the config."""
        processes = self.engine.processes
        run_folder.record(
            output, seed=cfg.SEED, processes=processes, device=cfg.MODEL.DEVICE, **more
        )


def _check_that_weights_exist(path: str) -> None:
    """Refuse a missing file of weights before any data is read; engines check URLs and pickles.

    Raises:
        UserError: there is no such file, or the zoo has none of that name.
    """
    others = not path or "://" in path or path.endswith(".pkl")
    if not others and not find_file(path).is_file():
        raise UserError(f"MODEL.WEIGHTS {path} does not exist")
