"""Training with Lightning: every step depends only on (seed, iteration)."""

import json
import logging
import statistics
import time
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR
from yacs.config import CfgNode

from atto_det.config import check_values
from atto_det.data import catalog
from atto_det.training import run_folder
from atto_det.training.batches import parts_in, parts_of, seed_step
from atto_det.training.policy import PERIOD, Run
from atto_det.training.step_times import StepTimes, describe_step

from . import ENGINE
from .evaluator import evaluate_model
from .mapper import Sample, TrainLoader
from .mapping import to_detectron2, to_torchvision
from .model import build_model
from .predictor import load_weights
from .pretrained import load_initial
from .solver import build_optimizer, clip_gradients, rate_factor

logger = logging.getLogger(__name__)


class DetectorTraining(LightningModule):
    """The model of a config in training: an `atto_det.training.policy.Training`.

    Random choices in step `i` depend only on `cfg.SEED` and `i`, and a checkpoint holds the rest. A
    run that is killed at any moment and resumed therefore ends with the weights of an uninterrupted
    one (on a CPU, bit by bit).

    Args:
        processes: each with its own GPU; the additional ones run this program with its arguments.

    With SOLVER.ACCUMULATE, the parts of a batch are batches to Lightning, which accumulates their
    gradients; a step here is a batch with all its parts.

    Attributes:
        network: torchvision's model, with random weights until `resume_or_load`.
        policy: decides what is due after a step.
        losses: of the last step, by name, including "total_loss".

    Raises:
        UserError: a value that a key cannot have, keys from which no model or no schedule can be
            built, or data that contradicts them.
    """

    engine = ENGINE

    def __init__(self, cfg: CfgNode, processes: int = 1) -> None:
        super().__init__()
        check_values(cfg)
        self.cfg, self.processes = cfg, processes
        if processes > 1 and cfg.MODEL.DEVICE.startswith("cuda"):
            torch.cuda.set_device(rank_zero_only.rank)  # what "cuda" means here
        self.loader = TrainLoader(cfg, processes)
        self.pictures = self.loader.fingerprint
        catalog.check_split(cfg.DATASETS.TRAIN, cfg.DATASETS.TEST)
        catalog.check_test_pictures(cfg.DATASETS.TEST)
        self.class_names = catalog.class_names_of(cfg.DATASETS.TRAIN[0])
        self.factor = rate_factor(cfg)
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        self.resumed: dict[str, Any] = {}
        self.parts = parts_in(cfg)  # of a batch; Lightning sees each as a batch
        self.losses: dict[str, Tensor] = {}
        self.meter = Meter(Path(cfg.OUTPUT_DIR) / "metrics.json")
        self.policy = Run(self)
        torch.manual_seed(cfg.SEED)
        # The memory layout that convolutions prefer: a fifth faster on a CPU.
        self.network = build_model(cfg).to(memory_format=torch.channels_last)
        # Tensors without a counterpart in Detectron2, which nothing reads, are zero from the start,
        # since a checkpoint does not contain them.
        self.network.load_state_dict(to_torchvision(self.weights(), cfg))
        self.times = StepTimes(self.network)

    def weights(self) -> dict[str, Tensor]:
        """The model's tensors, on the CPU, under Detectron2's names."""
        return to_detectron2({k: v.cpu() for k, v in self.network.state_dict().items()}, self.cfg)

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Set the tensors that `weights` returned.

        Raises:
            UserError: they belong to another model.
        """
        load_weights(self.network, self.cfg, {"model": weights}, self.cfg.OUTPUT_DIR)

    def resume_or_load(self, resume: bool) -> None:
        """Continue from the last checkpoint in `OUTPUT_DIR`, or else load `MODEL.WEIGHTS`.

        Raises:
            UserError: weights that are missing, damaged, unsafe, or of another model; a run of the
                other engine or on other classes.
        """
        output = Path(self.cfg.OUTPUT_DIR)
        if not resume or not (output / "last_checkpoint").exists():
            load_initial(self.network, self.cfg, self.cfg.MODEL.WEIGHTS, self.class_names)
            return
        path, self.resumed = run_folder.read_last(
            output, ENGINE, self.class_names, self.cfg, self.pictures
        )
        load_weights(self.network, self.cfg, self.resumed, path)
        self.policy.load_state_dict(self.resumed["run"])
        self.loader.start = self.start_iter = self.resumed["iteration"] + 1
        logger.info("resumed from %s", path)

    def use_parts(self, count: int) -> None:
        """Process each batch in this many parts."""
        self.parts = count

    def try_step(self, network: nn.Module, sample: Sample) -> None:
        """Pass one sample of the loader forward and backward through a copy of the network."""
        device = torch.device(self.cfg.MODEL.DEVICE)
        image, target = sample
        target = {key: value.to(device) for key, value in target.items()}
        with torch.autocast("cuda", torch.float16, enabled=self.cfg.SOLVER.AMP.ENABLED):
            losses = network([image.to(device).float()], [target])
        torch.stack(list(losses.values())).sum().backward()

    def fit(self) -> None:
        """Train from `start_iter` to `max_iter` with Lightning's loop.

        Raises:
            UserError: an unreadable picture, a loss that is not finite, a full disk.
        """
        if self.start_iter >= self.max_iter:  # only an evaluation may be missing
            self.network.to(self.cfg.MODEL.DEVICE)
            self.iteration = self.start_iter - 1
            self.policy.start()
            return
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.WARNING)
        for message in (".*LeafSpec", ".*forward_sync_buffers"):  # about other libraries' code
            warnings.filterwarnings("ignore", message)
        device = torch.device(self.cfg.MODEL.DEVICE)
        many = self.processes > 1
        trainer = Trainer(
            accelerator=device.type,
            devices=self.processes if many or device.index is None else [device.index],
            strategy=DDPStrategy(broadcast_buffers=False) if many else "auto",
            precision="16-mixed" if self.cfg.SOLVER.AMP.ENABLED else "32-true",
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,  # log lines show progress and time left, and are kept
            use_distributed_sampler=False,  # the loader already distributes its pictures
            benchmark=self.cfg.CUDNN_BENCHMARK,
            accumulate_grad_batches=self.parts,
        )
        try:
            trainer.fit(self, _Parts(self.loader, self.parts))
        except SystemExit:
            if trainer.interrupted:  # Lightning turns Ctrl-C into a normal exit
                raise KeyboardInterrupt from None
            raise

    def configure_optimizers(self) -> dict[str, Any]:
        """SGD in the state of the checkpoint, and the learning rate of each iteration."""
        optimizer = build_optimizer(self.cfg, self.network)
        if self.resumed:
            with run_folder.resuming(f"the last checkpoint in {self.cfg.OUTPUT_DIR}"):
                optimizer.load_state_dict(self.resumed["optimizer"])
                self.trainer.precision_plugin.load_state_dict(self.resumed["scaler"])
        schedule = LambdaLR(optimizer, lambda step: self.factor(self.start_iter + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """Start the policy; what it completes from an earlier run belongs to the step before."""
        self.iteration = self.start_iter - 1
        self.policy.start()
        self.meter.begin()

    def on_train_batch_start(self, part: list[Sample], index: int) -> int | None:
        """The batch has arrived; returns -1 if it is one too many."""
        if self.start_iter >= self.max_iter:  # a completed evaluation ended the training
            return -1
        if index % self.parts == 0:
            self.iteration = self.start_iter + index // self.parts
            self.losses = {}
            self.meter.batch_has_come(self.trainer.optimizers[0].param_groups[0]["lr"])
            self.times.begin()
            self.policy.before_step(self.iteration)
            seed_step(self.cfg.SEED, self.iteration, self.global_rank)
        return None

    def training_step(self, part: list[Sample], index: int) -> Tensor:
        """The sum of the losses of a part of a batch, with all random choices seeded.

        Raises:
            UserError: it is not finite.
        """
        images, targets = [image.float() for image, _ in part], [target for _, target in part]
        losses = self.network(images, targets)
        total = torch.stack(list(losses.values())).sum()
        if not total.isfinite():
            raise run_folder.divergence(self.cfg, self.iteration)
        for key, value in (losses | {"total_loss": total}).items():
            self.losses[key] = self.losses.get(key, 0) + value.detach() / self.parts
        return total

    def configure_gradient_clipping(self, optimizer: SGD, **_: object) -> None:
        """Clip each parameter's gradient separately."""
        self.times.backward_ends()
        clip_gradients(self.cfg, self.network.parameters())

    def on_train_batch_end(self, outputs: object, part: list[Sample], index: int) -> None:
        """Record the step, and do what is due."""
        if (index + 1) % self.parts:
            return
        parts = self.times.end()
        own = torch.stack(list(self.losses.values()))
        means = self.trainer.strategy.reduce(own, reduce_op="mean")
        losses = dict(zip(self.losses, means.tolist(), strict=True))
        self.meter.note(losses, parts, self.cfg.SOLVER.IMS_PER_BATCH)
        self.policy.after_step(self.iteration)
        if self.iteration + 1 >= self.max_iter:
            self.trainer.should_stop = True
        self.meter.begin()

    def evaluate(self, name: str) -> dict | None:
        """The result on a data set in the main process; None in the others."""
        return evaluate_model(self.cfg, self.network, name)

    def write_metrics(self, found: dict[str, float]) -> None:
        """Add a line to metrics.json, and log it."""
        self.meter.write(found, self.iteration, self.max_iter)

    def state(self) -> dict[str, Any]:
        """The state of optimizer and loss scale."""
        if self._trainer is None:  # the training has ended
            return {key: self.resumed[key] for key in ("optimizer", "scaler")}
        return {
            "optimizer": self.trainer.optimizers[0].state_dict(),
            "scaler": self.trainer.precision_plugin.state_dict(),
        }


class _Parts:
    """The batches of a loader, each split into `count` parts."""

    def __init__(self, loader: TrainLoader, count: int) -> None:
        self.loader, self.count = loader, count

    def __len__(self) -> int:
        return len(self.loader) * self.count

    def __iter__(self) -> Iterator[list[Sample]]:
        return (part for batch in self.loader for part in parts_of(batch, self.count))


class Meter:
    """Losses and times of the last steps, whose medians become lines of metrics.json.

    If the package tensorboard is installed, they are also written as TensorBoard events, in
    Detectron2's form.

    Args:
        path: of metrics.json; it has Detectron2's keys.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.board: Any = None
        self.recent: dict[str, deque[float]] = {}

    def begin(self) -> None:
        """Called when waiting for a batch begins."""
        self.mark = time.monotonic()

    def batch_has_come(self, rate: float) -> None:
        """Called when the batch has arrived; `rate` is the learning rate of the step."""
        self.waited, self.rate = time.monotonic() - self.mark, rate

    def note(self, losses: dict[str, float], parts: dict[str, float], pictures: int) -> None:
        """The step ends, with parts of its time, on so many pictures."""
        self.names = sorted(losses)
        step = time.monotonic() - self.mark
        times = {"time": step, "data_time": self.waited, "pictures_per_second": pictures / step}
        for key, value in (losses | times | parts).items():
            self.recent.setdefault(key, deque(maxlen=PERIOD)).append(value)

    def write(self, found: dict[str, float], iteration: int, max_iter: int) -> None:
        """Add a line, with `found`, for the steps up to `iteration`.

        If there was no step yet, after a resume, the line only has `found`.
        """
        if not self.recent:
            self._add(found | {"iteration": iteration})
            return
        row = {key: statistics.median(values) for key, values in self.recent.items()}
        eta = row["time"] * (max_iter - iteration - 1)
        row |= found | {"iteration": iteration, "lr": self.rate, "eta_seconds": eta}
        self._add(row)
        logger.info(
            "iteration %d of %d: %s, lr %.3g, %.3f s a step (%s), %.0f minutes left",
            iteration + 1,
            max_iter,
            ", ".join(f"{key} {row[key]:.3f}" for key in self.names),
            *(row["lr"], row["time"], describe_step(row), eta / 60),
        )

    def _add(self, row: dict[str, float]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(row, sort_keys=True) + "\n")
        step = int(row["iteration"])
        if self.board is None:
            self.board = _tensorboard(self.path.parent, step)
        if self.board:
            for key in row.keys() - {"iteration"}:
                self.board.add_scalar(key, row[key], step)
            self.board.flush()


def _tensorboard(folder: Path, step: int) -> Any:
    """A writer of events in `folder` that hides older events from `step` on; False without one."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return False
    return SummaryWriter(str(folder), purge_step=step)
