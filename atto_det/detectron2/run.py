"""What `tools/train_net.py` does in each process: a config in, a folder of results out."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.engine import launch as launch  # handed on to the command line
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from detectron2.utils.logger import setup_logger

from atto_det.errors import UserError
from atto_det.training import run_folder
from atto_det.training.scoring import report
from atto_det.weights import checkpoint

from .catalog import class_names_of
from .checkpointer import AttoCheckpointer
from .config import complete, config_from_text, load_config
from .evaluator import check_detector
from .model import build_model
from .trainer import Deadline, Trainer, evaluate_model

logger = logging.getLogger(__name__)


def read_config(config_file: str | None, options: Sequence[str]) -> CfgNode:
    """The config of a file, or without one that of the checkpoint in option MODEL.WEIGHTS.

    Raises:
        UserError: neither is given, or what `load_config` raises.
    """
    if config_file:
        return load_config(config_file, options)
    weights, text = run_folder.carried_config(options)
    cfg = config_from_text(text, f"the config in checkpoint {weights}", options)
    complete(cfg)
    cfg.freeze()
    return cfg


def train(
    cfg: CfgNode,
    *,
    resume: bool = False,
    allow_pickle: bool = False,
    seconds: float | None = None,
) -> dict[str, dict]:
    """Train a config to its end in `OUTPUT_DIR`, or for `seconds`; returns the last evaluation.

    Raises:
        UserError: the folder holds another run and `resume` is not asked for; all of `Trainer`.
    """
    output = Path(cfg.OUTPUT_DIR)
    if not resume:
        run_folder.refuse_used(output)
    start(cfg, output)
    trainer = Trainer(cfg, allow_pickle=allow_pickle)
    trainer.resume_or_load(resume)
    if seconds is not None:
        trainer.register_hooks([Deadline(seconds)])
    if trainer.start_iter >= trainer.max_iter:
        if not trainer.checkpointer.get_checkpoint_file().endswith("model_final.pth"):
            trainer.checkpointer.save("model_final", iteration=trainer.iter)  # killed just before
        logger.info("this run is complete; raise SOLVER.MAX_ITER to go on")
        return {}
    return trainer.train()


def evaluate(cfg: CfgNode, *, allow_pickle: bool = False) -> dict[str, dict]:
    """Evaluate `MODEL.WEIGHTS` on each of `DATASETS.TEST`; prints tables, writes JSON.

    Raises:
        UserError: no weights, no test set, other classes, or weights that lack a tensor.
    """
    path = cfg.MODEL.WEIGHTS
    if not path or not cfg.DATASETS.TEST:
        raise UserError("--eval-only needs MODEL.WEIGHTS and DATASETS.TEST; one of them is empty")
    check_detector(cfg)
    class_names = class_names_of(cfg.DATASETS.TEST[0])
    content = checkpoint.load_checkpoint(path) if str(path).endswith(".pth") else {}
    if "atto_det" in content:
        class_names = checkpoint.read_description(content, path)["class_names"]
    run_folder.check_classes(path, class_names, {n: class_names_of(n) for n in cfg.DATASETS.TEST})
    start(cfg, Path(cfg.OUTPUT_DIR) / "evaluation")  # that of the training stays as it is
    model = build_model(cfg).eval()
    if content:
        checkpoint.load_weights(model, {"model": content.get("model", content)}, path)
    else:
        loader = AttoCheckpointer(
            model, cfg=cfg, class_names=class_names, allow_pickle=allow_pickle
        )
        loader.load(path)
        if loader.lacking:
            raise UserError(
                f"{path} lacks {len(loader.lacking)} tensors of the model, the first being "
                f"{min(loader.lacking)}: there is nothing to evaluate before training"
            )
    results = {}
    for name in cfg.DATASETS.TEST:
        result = evaluate_model(cfg, model, name)
        if result is not None:
            results[name] = result
            report(result, Path(cfg.OUTPUT_DIR) / "evaluation" / f"{name}.json")
    return results


def start(cfg: CfgNode, output: Path) -> None:
    """Set up logging and record in folder `output` what the results follow from."""
    logging.raiseExceptions = False  # a log that cannot be written (full disk) is no traceback
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    if comm.is_main_process():
        own = {"seed": cfg.SEED, "processes": comm.get_world_size(), "device": cfg.MODEL.DEVICE}
        run_folder.record(output, cfg.dump(), **own)
    for name in ("fvcore", "detectron2", "atto_det"):
        setup_logger(str(output), distributed_rank=comm.get_rank(), name=name, abbrev_name=name)


def seconds_per_step(cfg: CfgNode, steps: int = 8) -> float:
    """Seconds that a training step of `cfg` takes on this machine, in the mean of `steps`.

    The first two, slower ones do not count. Nothing is written but logs.
    """
    trainer = Trainer(cfg)
    with EventStorage(0) as trainer.storage:
        for trainer.iter in range(steps + 2):
            if trainer.iter == 2:
                begin = time.monotonic()
            trainer.run_step()
    return (time.monotonic() - begin) / steps
