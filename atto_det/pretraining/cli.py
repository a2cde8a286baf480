"""The command line of classification training: Lightning's own, with this project's defaults."""

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from atto_det.config import find_config
from atto_det.errors import UserError, write_file
from atto_det.training.workers import death_as_sentence
from atto_det.weights.checkpoint import load_checkpoint, run_record, save_checkpoint

from .data import ClassifierData
from .lessons import SPLITS
from .module import Classifier

logger = logging.getLogger(__name__)

# Checkpoints are written after the epoch, so that a resumed run starts with the next epoch.
AFTER_EPOCH = {"save_on_train_epoch_end": True, "enable_version_counter": False}


class AtomicIO(TorchCheckpointIO):
    """Writes checkpoints completely or not at all, and reads them without running code."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str, storage_options: Any | None = None
    ) -> None:
        """Write to a temporary name, then rename."""
        save_checkpoint(path, checkpoint)

    def load_checkpoint(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read only tensors and plain values.

        Raises:
            UserError: a missing, damaged or unsafe file.
        """
        return load_checkpoint(path)


class PretrainingTrainer(Trainer):
    """Lightning's trainer, which can also store a teacher's answers."""

    def store_answers(self, model: Classifier, datamodule: ClassifierData) -> None:
        """Store the teacher's answers; `fit` also does this before it starts."""
        datamodule.store_answers(SPLITS, self.strategy.root_device)


class PretrainingCLI(LightningCLI):
    """LightningCLI of `Classifier` and `ClassifierData`."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The available commands, each with the arguments that are not settings."""
        known = LightningCLI.subcommands()
        kept = {name: known[name] for name in ("fit", "validate", "test")}
        return kept | {"store_answers": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Take class names from the data, and all randomness from one seed."""
        parser.link_arguments("data.classes", "model.class_names", apply_on="instantiate")
        parser.link_arguments("seed_everything", "data.seed")
        parser.link_arguments("seed_everything", "model.seed")
        for name in ("teacher", "teacher_weights", "teacher_size"):
            parser.link_arguments(f"model.{name}", f"data.{name}")

    def _parse_ckpt_path(self) -> None:
        """Take no settings from a checkpoint, which Lightning would read before it is checked."""

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Create the trainer; logs and checkpoints go into `trainer.default_root_dir`."""
        config = self.config[self.subcommand].trainer
        output = Path(config.default_root_dir)
        self._find_checkpoint(output)
        if self.subcommand == "fit":
            best = "val_agreement" if self.config.fit.model.teacher else "val_top1"
            kwargs["logger"] = [TensorBoardLogger(output, "tensorboard"), CSVLogger(output, "csv")]
            kwargs["callbacks"] = [
                *(config.callbacks or []),
                ModelCheckpoint(output, "best", monitor=best, mode="max", **AFTER_EPOCH),
                ModelCheckpoint(output, "last", **AFTER_EPOCH),
                LearningRateMonitor("step"),
            ]
        else:
            kwargs["logger"] = False
        return super().instantiate_trainer(plugins=[AtomicIO()], **kwargs)

    def _find_checkpoint(self, output: Path) -> None:
        """Replace "last" and "best" by the files in folder `output`.

        Lightning would look for "last" only where it writes checkpoints, and validate random
        weights. A training that is continued before its first checkpoint starts.

        Raises:
            UserError: there is no such file, or a new run would overwrite that in `output`.
        """
        if self.subcommand == "store_answers":
            return
        own, last = self.config[self.subcommand], output / "last.ckpt"
        path = own.ckpt_path and Path(own.ckpt_path)
        if own.ckpt_path in ("last", "best"):
            path = output / f"{own.ckpt_path}.ckpt"
        if path and self.subcommand == "fit" and own.ckpt_path == "last" and not path.exists():
            logger.info("%s does not exist: the training begins", path)
            path = None
        if path and not path.is_file():
            raise UserError(f"--ckpt_path {own.ckpt_path}: {path} does not exist")
        if not path and self.subcommand != "fit":
            raise UserError(f"{self.subcommand} needs --ckpt_path and a checkpoint")
        if self.subcommand == "fit" and last.exists():
            if not path:
                raise UserError(
                    f"{output} already holds a run: continue it with --ckpt_path last, or set "
                    "trainer.default_root_dir elsewhere"
                )
            if path.resolve().parent != output.resolve():
                raise UserError(
                    f"{output} already holds a run, which {path} would overwrite: set "
                    "trainer.default_root_dir elsewhere"
                )
        self.config_init[self.subcommand].ckpt_path = path and str(path)

    def before_fit(self) -> None:
        """Record what the run depends on, in its folder and in its checkpoints."""
        self.model.recipe = self._parser(self.subcommand).dump(self.config.fit)
        output = Path(self.trainer.default_root_dir)
        if not self.trainer.is_global_zero:
            return
        record = run_record(
            seed=self.config.fit.seed_everything,
            processes=self.trainer.world_size,
            device=str(self.trainer.strategy.root_device),
        )
        # One record per start, so that a run with interruptions keeps all of them.
        number = len(list(output.glob("run*.json"))) + 1
        write_file(output / f"run{number}.json", json.dumps(record, indent=2) + "\n")
        write_file(output / "config.yaml", self.model.recipe)


def run(arguments: ArgsType = None) -> PretrainingCLI:
    """Parse the command line (by default that of this process) and run it.

    Raises:
        UserError: a mistake in data, settings or checkpoint.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if isinstance(arguments, list):
        arguments = _with_shipped_configs(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    warnings.filterwarnings("ignore", "The '.*_dataloader' does not have many workers")
    warnings.filterwarnings("ignore", "LightningCLI's args parameter")  # sys.argv has a verb first
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
    with death_as_sentence("data.workers or data.batch_size"), _errors_as_sentences(arguments):
        return PretrainingCLI(
            Classifier,
            ClassifierData,
            trainer_class=PretrainingTrainer,
            save_config_callback=None,
            seed_everything_default=1,
            trainer_defaults={
                "default_root_dir": "output/pretrain",
                "enable_progress_bar": sys.stderr.isatty(),
                "use_distributed_sampler": False,  # the data is already distributed
            },
            auto_configure_optimizers=False,
            parser_kwargs={"exit_on_error": False},  # which would print all settings first
            load_from_checkpoint_support=False,
            args=arguments,
        )


@contextmanager
def _errors_as_sentences(arguments: ArgsType) -> Iterator[None]:
    """Turn errors of the command line's parser into one sentence each."""
    try:
        yield
    except argparse.ArgumentError as error:
        says = " ".join(str(error).split())
        words = arguments if isinstance(arguments, list) else []
        verb = next((word for word in words if word in PretrainingCLI.subcommands()), "fit")
        raise UserError(f"{says}; atto-det pretrain {verb} --help lists all settings") from error


def _with_shipped_configs(arguments: list[str]) -> list[str]:
    """The arguments with names of shipped configs replaced by their paths."""
    found = list(arguments)
    for place, word in enumerate(arguments):
        if place and arguments[place - 1] in ("-c", "--config"):
            found[place] = str(find_config(word))
        elif word.startswith("--config="):
            found[place] = f"--config={find_config(word.removeprefix('--config='))}"
    return found
