"""What `tools/train_net.py` does with this engine: a config in, a folder of results out."""

import logging
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy
from yacs.config import CfgNode

from atto_det.data import catalog
from atto_det.errors import UserError
from atto_det.training import run_folder
from atto_det.training.scoring import report
from atto_det.weights import checkpoint

from .config import complete, config_from_text, load_config
from .evaluator import evaluate_model
from .mapper import TrainLoader
from .model import build_model
from .predictor import load_weights
from .training import Detector, RunFolder

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
    cfg: CfgNode, *, resume: bool = False, seconds: float | None = None, processes: int = 1
) -> dict[str, dict]:
    """Train a config to its end in `OUTPUT_DIR`, or for `seconds`; returns the last evaluation.

    Args:
        processes: each with a GPU of its own; further ones run this program with its arguments.

    Raises:
        UserError: the folder holds another run and `resume` is not asked for; a mistake in config,
            data or weights; a loss that is not finite; a full disk.
    """
    output = Path(cfg.OUTPUT_DIR)
    if not resume:
        run_folder.refuse_used(output)
    start(cfg, output, processes)
    if processes > 1 and cfg.MODEL.DEVICE.startswith("cuda"):
        torch.cuda.set_device(rank_zero_only.rank)  # what "cuda" means here
    loader = TrainLoader(cfg, processes)
    catalog.check_split(cfg.DATASETS.TRAIN, cfg.DATASETS.TEST)
    module = Detector(cfg)
    module.resume_or_load(resume)
    folder = RunFolder(cfg, seconds)
    if module.start >= module.max_iter:
        if not (output / "model_final.pth").exists():  # killed just before
            checkpoint.save_checkpoint(output / "model_final.pth", module.resumed)
            run_folder.tag_last(output, "model_final.pth")
        logger.info("this run is complete; raise SOLVER.MAX_ITER to go on")
        return {}
    fit(cfg, module, loader, [folder], processes)
    return folder.results


def fit(
    cfg: CfgNode,
    module: Detector,
    loader: TrainLoader,
    callbacks: list[Callback],
    processes: int = 1,
) -> None:
    """Train `module` from its first iteration on, with Lightning's loop.

    Raises:
        UserError: as `train`.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for passing in (".*LeafSpec", ".*forward_sync_buffers"):  # what libraries say of each other
        warnings.filterwarnings("ignore", passing)
    device = torch.device(cfg.MODEL.DEVICE)
    many = processes > 1
    trainer = Trainer(
        accelerator=device.type,
        devices=processes if many or device.index is None else [device.index],
        strategy=DDPStrategy(broadcast_buffers=False) if many else "auto",
        precision="16-mixed" if cfg.SOLVER.AMP.ENABLED else "32-true",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,  # lines tell progress and time left, and stay in the log
        use_distributed_sampler=False,  # the loader shares its pictures out by itself
        benchmark=cfg.CUDNN_BENCHMARK,
        callbacks=callbacks,
    )
    loader.start = module.start
    try:
        trainer.fit(module, loader)
    except SystemExit:
        if trainer.interrupted:  # Lightning turns the keyboard's interrupt into an exit
            raise KeyboardInterrupt from None
        raise


def evaluate(cfg: CfgNode) -> dict[str, dict]:
    """Evaluate `MODEL.WEIGHTS` on each of `DATASETS.TEST`; prints tables, writes JSON.

    Raises:
        UserError: no weights, no test set, other classes, or weights that lack a tensor.
    """
    path, names = cfg.MODEL.WEIGHTS, list(cfg.DATASETS.TEST)
    if not path or not names:
        raise UserError("--eval-only needs MODEL.WEIGHTS and DATASETS.TEST; one of them is empty")
    if path.endswith(".safetensors"):
        raise UserError(f"{path} holds a backbone alone: there is nothing to evaluate yet")
    content = checkpoint.load_checkpoint(path)
    known = catalog.class_names_of(names[0])
    if "atto_det" in content:
        known = checkpoint.read_description(content, path)["class_names"]
    run_folder.check_classes(path, known, {name: catalog.class_names_of(name) for name in names})
    output = Path(cfg.OUTPUT_DIR) / "evaluation"
    start(cfg, output)  # the files of the training stay as they are
    model = build_model(cfg).to(memory_format=torch.channels_last).eval()
    load_weights(model, cfg, {"model": content.get("model", content)}, path)
    results = {}
    for name in names:
        results[name] = evaluate_model(cfg, model, name)
        report(results[name], output / f"{name}.json")
    return results


def start(cfg: CfgNode, output: Path, processes: int = 1) -> None:
    """Set up logging and record in folder `output` what the results follow from."""
    logging.raiseExceptions = False  # a log that cannot be written (full disk) is no traceback
    own = logging.getLogger("atto_det")
    own.setLevel(logging.INFO if rank_zero_only.rank == 0 else logging.WARNING)
    own.propagate = False
    for handler in own.handlers[:]:
        own.removeHandler(handler)
        handler.close()
    own.addHandler(_Printing())
    if rank_zero_only.rank == 0:
        run_folder.record(
            output, cfg.dump(), seed=cfg.SEED, processes=processes, device=cfg.MODEL.DEVICE
        )
        own.addHandler(logging.FileHandler(output / "log.txt"))
    for handler in own.handlers:
        handler.setFormatter(logging.Formatter("[%(asctime)s] %(message)s", "%m-%d %H:%M:%S"))


class _Printing(logging.Handler):
    """Prints, so that a progress bar moves out of the way."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


class _Clock(Callback):
    """Notes when each step ends."""

    def on_train_start(self, *_: object) -> None:
        self.ends = []

    def on_train_batch_end(self, *_: object) -> None:
        self.ends.append(time.monotonic())


def seconds_per_step(cfg: CfgNode, steps: int = 8) -> float:
    """Seconds that a training step of `cfg` takes on this machine, in the mean of `steps`.

    The first two, slower ones do not count. Nothing is written.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = steps + 2, ()
    cfg.freeze()
    clock = _Clock()
    fit(cfg, Detector(cfg), TrainLoader(cfg), [clock])
    return (clock.ends[-1] - clock.ends[1]) / steps
