"""Detectron2 as an engine of `atto_det.training.runner`."""

import sys
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import launch as launch_processes
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch import nn
from torch.multiprocessing import ProcessExitedException

from atto_det.errors import UserError, command_line
from atto_det.training.runner import LOGGERS, Job, Runner
from atto_det.weights import checkpoint

from .checkpointer import ENGINE, AttoCheckpointer
from .config import configs
from .evaluator import check_detector
from .model import build_model
from .trainer import Trainer, evaluate_model


class Detectron2:
    """An `atto_det.training.runner.Engine` for any Detectron2 model.

    Args:
        allow_pickle: read `.pkl` weights, which can run code.
    """

    name = ENGINE
    configs = configs
    evaluate = staticmethod(evaluate_model)

    def __init__(self, allow_pickle: bool = False) -> None:
        self.allow_pickle = allow_pickle

    @property
    def processes(self) -> int:
        """The number of processes that `launch` started."""
        return comm.get_world_size()

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return comm.is_main_process()

    def set_up(self, cfg: CfgNode, output: Path) -> None:
        """Send Detectron2's logs and ours to the terminal and to folder `output`."""
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
        setup_logger.cache_clear()
        for name in LOGGERS:
            setup_logger(str(output), distributed_rank=comm.get_rank(), name=name, abbrev_name=name)

    def build_training(self, cfg: CfgNode) -> Trainer:
        """Create a `Trainer`."""
        return Trainer(cfg, allow_pickle=self.allow_pickle)

    def load_model(
        self, cfg: CfgNode, content: dict[str, Any], class_names: list[str]
    ) -> nn.Module:
        """The model with the weights of MODEL.WEIGHTS, in evaluation mode.

        Raises:
            UserError: a model that does not detect objects, or weights that lack a tensor.
        """
        check_detector(cfg)
        model, path = build_model(cfg).eval(), cfg.MODEL.WEIGHTS
        if content:
            checkpoint.load_weights(model, content, path)
            return model
        loader = AttoCheckpointer(
            model, cfg=cfg, class_names=class_names, allow_pickle=self.allow_pickle
        )
        loader.load(path)
        if loader.lacking:
            raise UserError(
                f"{path} lacks {len(loader.lacking)} tensors of the model, the first being "
                f"{min(loader.lacking)}: there is nothing to evaluate before training"
            )
        return model


_runner = Runner(Detectron2())
read_config, train, evaluate = _runner.read_config, _runner.train, _runner.evaluate
seconds_per_step = _runner.seconds_per_step


def launch(job: Job) -> int:
    """Run a job in this process, or in several; returns the exit status.

    Raises:
        UserError: as `Runner`, or machines that cannot find each other.
    """
    if job.processes * job.machines == 1:
        return _work(job)
    read_config(
        job.config_file, job.options, evaluates=job.eval_only
    )  # so that errors are reported only once
    if job.machines > 1 and job.dist_url == "auto":
        raise UserError("--num-machines needs --dist-url tcp://HOST:PORT of machine 0")
    try:
        launch_processes(
            _process,
            job.processes,
            num_machines=job.machines,
            machine_rank=job.machine_rank,
            dist_url=job.dist_url,
            args=(job,),
        )
    except ProcessExitedException as error:
        return error.exit_code or 1
    return 0


def _work(job: Job) -> int:
    Runner(Detectron2(job.allow_pickle)).work(job)
    return 0


def _process(job: Job) -> None:
    """What one of several processes does; it prints its own error."""
    sys.exit(command_line(_work)(job))
