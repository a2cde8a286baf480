"""torchvision and Lightning as an engine of `atto_det.training.runner`."""

import logging
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import nn
from yacs.config import CfgNode

from atto_det.errors import UserError
from atto_det.training.runner import Job, Runner

from . import ENGINE
from .config import configs
from .evaluator import evaluate_model
from .model import build_model
from .predictor import load_weights
from .training import DetectorTraining


class Torchvision:
    """An `atto_det.training.runner.Engine` for Atto-MaskRCNN.

    Args:
        processes: each with its own GPU; Lightning starts the additional ones.
    """

    name = ENGINE
    configs = configs
    evaluate = staticmethod(evaluate_model)

    def __init__(self, processes: int = 1) -> None:
        self.processes = processes

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return rank_zero_only.rank == 0

    def set_up(self, cfg: CfgNode, output: Path) -> None:
        """Send our logs to the terminal and to folder `output`."""
        own = logging.getLogger("atto_det")
        own.setLevel(logging.INFO if self.is_main else logging.WARNING)
        own.propagate = False
        handlers = [_Printing()]
        if self.is_main:
            handlers.append(logging.FileHandler(output / "log.txt"))
        for handler in handlers:
            handler.setFormatter(logging.Formatter("[%(asctime)s] %(message)s", "%m-%d %H:%M:%S"))
            own.addHandler(handler)

    def build_training(self, cfg: CfgNode) -> DetectorTraining:
        """Create a `DetectorTraining`."""
        return DetectorTraining(cfg, self.processes)

    def load_model(
        self, cfg: CfgNode, content: dict[str, Any], class_names: list[str]
    ) -> nn.Module:
        """The model with the weights of MODEL.WEIGHTS, in evaluation mode.

        Raises:
            UserError: a file that is not a checkpoint, or weights that lack a tensor.
        """
        path = cfg.MODEL.WEIGHTS
        if not content:
            raise UserError(
                f"{path} is not a checkpoint (.pth) of a whole model: nothing to evaluate yet"
            )
        model = build_model(cfg).to(memory_format=torch.channels_last).eval()
        load_weights(model, cfg, content, path)
        return model


class _Printing(logging.Handler):
    """Prints log lines in a way that does not break a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


_runner = Runner(Torchvision())
read_config, train, evaluate = _runner.read_config, _runner.train, _runner.evaluate
seconds_per_step = _runner.seconds_per_step


def launch(job: Job) -> int:
    """Run a job; Lightning starts further processes with this program's arguments.

    Raises:
        UserError: something this engine does not support, or as `Runner`.
    """
    if job.machines > 1 or job.allow_pickle:
        raise UserError("--num-machines and --allow-pickle need --engine detectron2")
    if job.eval_only and job.processes > 1:
        raise UserError("--eval-only with --num-gpus needs --engine detectron2")
    Runner(Torchvision(job.processes)).work(job)
    return 0
