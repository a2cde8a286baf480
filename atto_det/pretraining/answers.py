"""A teacher's answers, stored once: the most probable classes of each crop of each picture.

    <folder>/<split>/description.json    what the answers depend on
    <folder>/<split>/crop0/00000.safetensors    for pictures 0 to 999: classes, log_probabilities

The answer for a crop is the `TOP` most probable classes and, as one more probability, the sum of
all others, which are considered equally probable (as in arXiv 2112.01528).
"""

import json
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from atto_det.errors import UserError, write_file

logger = logging.getLogger(__name__)
TOP = 20
PICTURES_PER_FILE = 1000
_SMALLEST = 1e-7  # minimum for the total probability of the other classes
_EVERY = 30  # seconds between two progress lines


class Answers(NamedTuple):
    """Answers for B crops.

    Attributes:
        classes: (B, TOP) int16, the most probable first; fewer if there are fewer classes.
        log_probabilities: (B, TOP + 1) float16: of these classes, and of all others together.
    """

    classes: Tensor
    log_probabilities: Tensor


def shorten(log_probabilities: Tensor) -> Answers:
    """Answers from log-probabilities (B, C)."""
    best, classes = log_probabilities.topk(min(TOP, log_probabilities.shape[1]), dim=1)
    rest = (1 - best.double().exp().sum(1, keepdim=True)).clamp(min=_SMALLEST).log()
    return Answers(classes.to(torch.int16), torch.cat([best, rest.to(best)], 1).half())


def spread(answers: Answers, classes: int) -> Tensor:
    """Log-probabilities (B, classes), as far as the answers contain them."""
    best, rest = answers.log_probabilities.float().split([answers.classes.shape[1], 1], dim=1)
    others = max(classes - best.shape[1], 1)
    full = (rest - torch.tensor(float(others)).log()).repeat(1, classes)
    return full.scatter_(1, answers.classes.long(), best)


class Store:
    """Answers for `crops` crops of each picture of a split.

    Args:
        folder: of this split.
        key: JSON values that the answers depend on: teacher, crops, pictures.
        pictures: number of pictures.
        crops: number of crops that are needed; more may be stored.

    Raises:
        UserError: the folder holds answers that depend on something else.
    """

    def __init__(self, folder: str | Path, key: dict[str, Any], pictures: int, crops: int) -> None:
        self.folder, self.key = Path(folder), json.loads(json.dumps(key))
        self.pictures, self.crops = pictures, crops
        self._require_same()

    def _require_same(self) -> None:
        path = self.folder / "description.json"
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}): remove {self.folder}") from error
        stored = stored if isinstance(stored, dict) else {}
        keys = stored.keys() | self.key.keys()
        differ = sorted(key for key in keys if stored.get(key) != self.key.get(key))
        if differ:
            raise UserError(
                f"{self.folder} holds a teacher's answers of another {' and '.join(differ)}: "
                "store them elsewhere (data.answers), or remove that folder"
            )

    def missing(self) -> list[tuple[int, range]]:
        """(crop, pictures) of each file that does not exist."""
        return [
            (crop, range(start, min(start + PICTURES_PER_FILE, self.pictures)))
            for crop in range(self.crops)
            for start in range(0, self.pictures, PICTURES_PER_FILE)
            if not self._part(crop, start).exists()
        ]

    def fill(self, answer: Callable[[int, range], Iterable[Answers]]) -> None:
        """Store what is missing; `answer(crop, pictures)` returns it in batches, in order.

        Files are complete or absent: a run that was stopped continues with the next file, and
        several processes may fill one folder.

        Raises:
            UserError: a file cannot be written.
        """
        from safetensors.torch import save

        missing = self.missing()
        if not missing:
            return
        path = self.folder / "description.json"
        if not path.exists():
            write_file(path, json.dumps(self.key, indent=2) + "\n")
        total, every = sum(len(pictures) for _, pictures in missing), self.pictures * self.crops
        logger.info("%s: %d of %d answers are missing", self.folder, total, every)
        progress = _Progress(total)
        for crop, pictures in missing:
            if self._part(crop, pictures.start).exists():  # another process was faster
                progress.add(len(pictures), computed=False)
                continue
            batches = []
            for batch in answer(crop, pictures):
                batches.append(batch)
                progress.add(len(batch.classes))
            answers = Answers(*(torch.cat(parts) for parts in zip(*batches, strict=True)))
            write_file(self._part(crop, pictures.start), save(answers._asdict()))
        logger.info("%s: %d answers stored", self.folder, total)

    def load(self) -> list[Answers]:
        """The answers for all pictures, for each crop.

        Raises:
            UserError: a file is missing, damaged, or of the wrong size.
        """
        return [self._load(crop) for crop in range(self.crops)]

    def _load(self, crop: int) -> Answers:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        parts = []
        for start in range(0, self.pictures, PICTURES_PER_FILE):
            path = self._part(crop, start)
            try:
                parts.append(Answers(**load_file(path)))
            except FileNotFoundError as error:
                raise UserError(
                    f"{path} does not exist: run atto-det pretrain store_answers, with the same "
                    "settings"
                ) from error
            except (SafetensorError, OSError, TypeError) as error:
                raise UserError(
                    f"{path} is damaged ({error}): remove it; it will be stored again"
                ) from error
        answers = Answers(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
        if len(answers.classes) != self.pictures:
            raise UserError(
                f"{self.folder}/crop{crop} holds {len(answers.classes)} answers for "
                f"{self.pictures} pictures: remove it, and run again"
            )
        return answers

    def _part(self, crop: int, start: int) -> Path:
        return self.folder / f"crop{crop}" / f"{start // PICTURES_PER_FILE:05d}.safetensors"


class _Progress:
    """Logs from time to time how much is done, how fast, and how long the rest will take."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.computed = total, 0, 0
        self.begun = self.said = time.monotonic()

    def add(self, number: int, *, computed: bool = True) -> None:
        self.done += number
        self.computed += number * computed
        now = time.monotonic()
        if now - self.said < _EVERY or not self.computed:
            return
        self.said = now
        speed = self.computed / (now - self.begun)
        logger.info(
            "%d of %d answers, %.0f a second, %.0f minutes left",
            self.done,
            self.total,
            speed,
            (self.total - self.done) / speed / 60,
        )
