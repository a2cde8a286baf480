"""The trainings of an exploration, which all its searches and workers share.

Each network, and the supernet, has a folder with its checkpoint. A training that is interrupted
continues; one that is done is read.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from atto_det.design.space import Point
from atto_det.exploration.settings import Settings
from atto_det.exploration.studies import TimeIsOver, locked
from atto_det.exploration.supernet import Supernet, SupernetTraining
from atto_det.nets.registry import short_name
from atto_det.nets.spec_file import spec_to_text
from atto_det.pretraining.data import ClassifierData
from atto_det.pretraining.fit import fit
from atto_det.pretraining.module import Classifier, Diverged
from atto_det.weights.checkpoint import load_checkpoint

logger = logging.getLogger(__name__)

Say = Callable[[str, int, int, str], None]
"""Reports progress: name of the stage, units done, units in total, and a remark."""


class Trainings:
    """Trains, on the data of an exploration.

    Args:
        settings: of the exploration.
        data: what they ask for.
        output: folder that all workers share.
        is_over: whether to stop; asked after each epoch, and while another worker trains.
        say: called with the progress.
    """

    def __init__(
        self,
        settings: Settings,
        data: ClassifierData,
        output: Path,
        *,
        is_over: Callable[[], bool],
        say: Say,
    ) -> None:
        self.settings, self.data, self.output = settings, data, output
        self.is_over, self.say = is_over, say

    def supernet(self) -> Supernet:
        """The shared weights.

        Raises:
            TimeIsOver: the time ran out; the next call continues.
        """
        wanted, recipe = self.settings.supernet, dict(self.settings.recipe)
        recipe["learning_rate"] = wanted.learning_rate
        module = SupernetTraining(
            self.settings.space,
            self.data.classes,
            between=wanted.between,
            seed=self.settings.seed,
            **recipe,
        )
        module.recipe = self._recipe(supernet=asdict(wanted), space=self.settings.space.to_dict())
        folder = self.output / "supernet"

        def stop(epoch: int, figures: dict[str, float]) -> bool:
            self.say("supernet", epoch, wanted.epochs, f"loss {figures['train_loss']:.3f}")
            return self.is_over()

        with locked(self.output / "locks/supernet", self.is_over):
            fitted = fit(module, self.data, folder, epochs=wanted.epochs, stop=stop, validate=False)
        if fitted.epochs < wanted.epochs:
            raise TimeIsOver
        state = load_checkpoint(folder / "last.ckpt")["state_dict"]
        own = {k.removeprefix("net."): v for k, v in state.items() if k.startswith("net.")}
        module.net.load_state_dict(own)
        return module.net

    def alone(self, point: Point, epochs: int, until: int | None = None) -> float:
        """Top-1, in percent, on the held-out pictures, of the network at a point, trained alone.

        A network whose training diverges has 0.

        Args:
            epochs: length of the schedule.
            until: the epoch to stop after; None for the last one.

        Raises:
            TimeIsOver: the time ran out; the next call continues.
        """
        until = epochs if until is None else until
        network, name = self.network(point), self.called(point)
        seed, recipe = self.settings.seed, self.settings.recipe
        module = Classifier(network, self.data.classes, seed=seed, **recipe)
        module.recipe = self._recipe(epochs=epochs)

        def stop(epoch: int, figures: dict[str, float]) -> bool:
            self.say(name, epoch, epochs, f"top-1 {figures['val_top1']:.1f}")
            return self.is_over()

        folder = self.folder(point, epochs)
        with locked(self.output / "locks" / folder.name, self.is_over):
            try:
                fitted = fit(module, self.data, folder, epochs=epochs, until=until, stop=stop)
            except Diverged as error:
                logger.warning("%s counts as 0 %%: %s", name, error)
                return 0.0
        if fitted.epochs < until:
            raise TimeIsOver
        return fitted.figures["val_top1"]

    def network(self, point: Point) -> str:
        """The spec at a point, as text."""
        return spec_to_text(self.settings.space.spec(point))

    def called(self, point: Point) -> str:
        """The short name of the network at a point."""
        return short_name(self.network(point))

    def folder(self, point: Point, epochs: int) -> Path:
        """The folder of a network's training alone."""
        return self.output / "alone" / f"{self.called(point)}-{epochs}"

    def _recipe(self, **others: Any) -> str:
        """Everything a training depends on; a training of another recipe is not resumed."""
        settings = self.settings
        common = {"seed": settings.seed, "data": settings.data, "recipe": settings.recipe}
        return yaml.safe_dump(common | others)
