"""The search for a detector: values of its config's keys, judged by training each detector.

Multiply-adds and parameters of a detector are counted before it is trained, and milliseconds are
measured then if they are limited; a detector that misses a requirement is not trained. AP comes
from the training pictures that `DATASETS.HOLD_OUT` holds out. At the end all detectors are timed in
one run, and those on the front are evaluated, once, on the test set.
"""

import hashlib
import json
import math
import random
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from optuna.study import Study
from optuna.trial import Trial, TrialState
from yacs.config import CfgNode

from atto_det.complexity.benchmarking import BenchmarkCase
from atto_det.complexity.latency import Contestant, measure
from atto_det.data.catalog import held_out_set, load_dataset
from atto_det.errors import UserError, write_file
from atto_det.exploration import studies
from atto_det.exploration.detector_settings import SAMPLERS, DetectorSettings
from atto_det.exploration.studies import DONE, TimeIsOver, locked, make_sampler, open_study
from atto_det.export.benchmark import contestant
from atto_det.ops.resize import resized_shape
from atto_det.reports.detector_search import front
from atto_det.training.scoring import judged_by

Point = dict[str, str]
"""A value, as text, for each key of the space."""

MODE = "onnx-int8"  # in which detectors are timed
ROUNDS = 5  # of each timing


class DetectorExploration:
    """One worker. Any number of them can share one study and one output folder.

    Args:
        settings: what to search for.
        output: folder that all workers share.
        storage: of the study; see `open_study`.
        sampler: one of `SAMPLERS`; None for that of the settings.
        seed: of the search. The trainings, which all searches share, have that of the settings.
        seconds_left: until the search should stop; None for no limit.
        say: called with the progress.

    Raises:
        UserError: a value that a key cannot have, a config without DATASETS.HOLD_OUT, or
            requirements that no detector of the space meets.
    """

    def __init__(
        self,
        settings: DetectorSettings,
        *,
        output: Path,
        storage: str,
        sampler: str | None,
        seed: int,
        seconds_left: Callable[[], float | None] = lambda: None,
        say: Callable[[str, int, int, str], None] = lambda stage, done, total, words: None,
    ) -> None:
        import atto_det.detectron2  # which counts and trains

        self.engine = atto_det.detectron2
        self.settings, self.output, self.storage, self.seed = settings, output, storage, seed
        self.seconds_left, self.say = seconds_left, say
        sampler = sampler or settings.search.sampler
        if sampler not in SAMPLERS:
            raise UserError(f"a search for a detector has the samplers {', '.join(SAMPLERS)}")
        self.name = f"{sampler}-{seed}"
        self.results = output / self.name
        count = settings.search.startup
        self.sampler = make_sampler(sampler, population=count, seed=seed)
        self.first = {key: values[0] for key, values in settings.space.items()}
        cfg = self.config(self.first)
        if not held_out_set(cfg):
            raise UserError(
                "DATASETS.HOLD_OUT is 0: give, in options, the number of training pictures that "
                "detectors are judged on"
            )
        self.test_sets = list(cfg.DATASETS.TEST)
        record = load_dataset(cfg.DATASETS.TRAIN[0]).records[0]
        self.picture = (record.height, record.width)
        self._check_space()

    def run(self) -> bool:
        """Go through all stages; returns False if the time ran out first."""
        try:
            if not self.search():
                return False
        except TimeIsOver:
            return False
        self.time_together()
        self.look_at_test()
        return True

    def search(self) -> bool:
        """Train the detectors that the sampler proposes."""
        space = math.prod(map(len, self.settings.space.values()))
        count, study = min(self.settings.search.trials, space), self.study()

        def report(study: Study) -> None:
            found = [trial.value for trial in studies.finished(study) if trial.value is not None]
            words = f"best AP {max(found):.1f}" if found else "none trained yet"
            self.say("detectors", len(studies.finished(study)), count, words)

        return studies.work(
            study,
            partial(self._judge, study),
            trials=count,
            locks=self.output / "locks" / study.study_name,
            is_over=lambda: (self.seconds_left() or 1) < 0,
            report=report,
        )

    def time_together(self) -> None:
        """Time the trained detectors in one run, each in turn."""
        file = self.results / "milliseconds.json"
        with locked(self.output / "locks/milliseconds"):
            if not file.exists():
                points = {self.called(one): one for one in self.trained()}
                runs = []
                for done, (name, point) in enumerate(points.items(), 1):
                    runs.append(self._contestant(point))
                    self.say("exported", done, len(points), name)
                timings = measure(runs, ROUNDS, progress=self._rounds)
                found = {
                    name: 1000 * timing.median for name, timing in zip(points, timings, strict=True)
                }
                _write_json(file, found)

    def _rounds(self, numbers: range) -> Iterator[int]:
        for done, number in enumerate(numbers, 1):
            yield number
            self.say("timed", done, len(numbers), "all detectors in each round")

    def look_at_test(self) -> None:
        """Evaluate the detectors on the front on the test sets, once."""
        file = self.results / "test.json"
        with locked(self.output / "locks/test"):
            if not file.exists():
                found = {}
                for one in front(self.detectors()) if self.test_sets else ():
                    folder = self.folder(one["point"])
                    options = ["MODEL.WEIGHTS", str(folder / "model_final.pth")]
                    cfg = self.config(one["point"], options)
                    found[one["name"]] = {
                        name: {key: result[key] for key in ("AP_d", "AP_m") if key in result}
                        for name, result in self.engine.run.evaluate(cfg).items()
                    }
                _write_json(file, found)

    def study(self) -> Study:
        """The study of this search."""
        wanted = {k: v for k, v in asdict(self.settings).items() if k != "search"}
        definition = json.loads(json.dumps(wanted))
        return open_study(self.storage, self.name, self.sampler, definition)

    def trained(self) -> list[Point]:
        """The points whose detectors are trained, each once, in the order of their trials."""
        found: dict[str, Point] = {}
        for trial in studies.finished(self.study()):
            if trial.state == TrialState.COMPLETE:
                found.setdefault(self.called(trial.params), dict(trial.params))
        return list(found.values())

    def detectors(self) -> list[dict[str, Any]]:
        """Every detector asked for, each once, with its figures, as plain values."""
        times = read_or_empty(self.results / "milliseconds.json")
        found: dict[str, dict[str, Any]] = {}
        for trial in studies.finished(self.study()):
            name = self.called(trial.params)
            figures = {key: trial.user_attrs.get(key) for key in ("parameters", "macs")}
            figures |= {"ap": trial.value, "milliseconds": times.get(name)}
            limits = [value <= 0 for value in trial.constraints.values()]
            found.setdefault(
                name,
                {"name": name, "number": trial.number, "point": dict(trial.params)}
                | {"satisfies": all(limits)}
                | figures,
            )
        return list(found.values())

    def config(self, point: Mapping[str, str], options: list[str] | None = None) -> CfgNode:
        """The config of the detector at a point, which trains into a folder of its own."""
        pairs = {**self.settings.options, **point}
        flat = [text for pair in pairs.items() for text in pair]
        flat += ["OUTPUT_DIR", str(self.folder(point)), "SEED", str(self.settings.seed)]
        return self.engine.run.read_config(self.settings.detector, flat + (options or []))

    def called(self, point: Mapping[str, str]) -> str:
        """A short name, which follows from the point."""
        text = json.dumps(dict(sorted(point.items())))
        return f"detector-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def folder(self, point: Mapping[str, str]) -> Path:
        """Folder of a detector's training, which all searches share."""
        return self.output / "detectors" / self.called(point)

    def cost(self, point: Mapping[str, str]) -> dict[str, float | None]:
        """Parameters and multiply-adds, counted at the size of the first training picture.

        Proposals and detections are as many as the config lets through.
        """
        from atto_det.detectron2.complexity import detector_cost
        from atto_det.detectron2.model import build_model

        cfg = self.config(point)
        height, width = self._size(cfg)
        regions = {"proposals": cfg.MODEL.RPN.POST_NMS_TOPK_TEST}
        regions["detections"] = cfg.TEST.DETECTIONS_PER_IMAGE
        costs = detector_cost(build_model(cfg), height, width, **regions)
        return {
            "parameters": sum(cost.parameters for cost in costs),
            "macs": sum(cost.macs for cost in costs),
        }

    def _size(self, cfg: CfgNode) -> tuple[int, int]:
        """The first training picture's height and width as the network gets it in a test."""
        if not cfg.INPUT.MIN_SIZE_TEST:
            return self.picture
        return resized_shape(*self.picture, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)

    def _check_space(self) -> None:
        """Read every value of every key once, and compare the smallest detector with the limits.

        The values with the fewest multiply-adds, each with the first values of the other keys, make
        the smallest detector.
        """
        smallest = {}
        for key, values in self.settings.space.items():
            macs = {value: self.cost(self.first | {key: value})["macs"] or 0 for value in values}
            smallest[key] = min(values, key=macs.__getitem__)
        figures, wanted = self.cost(smallest), self.settings.requirements
        # A search that has begun is not refused because the machine is busy.
        if wanted.milliseconds is not None and not studies.finished(self.study()):
            figures["milliseconds"] = self._milliseconds(smallest)
        for name, value in wanted.excess(figures).items():
            if value > 0:
                raise UserError(
                    f"no detector of the space meets the requirements: the smallest has "
                    f"{figures[name]:,} {name}, and at most {getattr(wanted, name):,} are asked for"
                )

    def _judge(self, study: Study, trial: Trial) -> None:
        """Finish a trial: count, measure if asked to, train, and score."""
        wanted = self.settings.requirements
        point = {
            key: trial.suggest_categorical(key, values)
            for key, values in self.settings.space.items()
        }
        taken = [
            one.params
            for one in study.get_trials(deepcopy=False)
            if one.number < trial.number or (one.number > trial.number and one.state in DONE)
        ]
        if point in taken:
            # Samplers repeat what is good, which costs nothing but would use up the trials.
            study.enqueue_trial(self._untried(taken, trial.number))
            study.tell(trial, state=TrialState.FAIL)
            return
        figures = self.cost(point)
        for name, value in figures.items():
            trial.set_user_attr(name, value)
        excess = wanted.excess(figures)
        if wanted.milliseconds is not None and all(value <= 0 for value in excess.values()):
            figures["milliseconds"] = self._milliseconds(point)
            excess = wanted.excess(figures)
        if any(value > 0 for value in excess.values()):
            studies.constrain(trial, excess)
            study.tell(trial, state=TrialState.PRUNED)
            return
        figures["ap"] = self._train(point)
        studies.constrain(trial, wanted.excess(figures))
        study.tell(trial, figures["ap"])

    def _untried(self, taken: Container[Point], number: int) -> Point:
        """A random point that is not in `taken`, drawn by the seed and the trial's number."""
        draw = random.Random(f"{self.seed} {number}")
        while True:
            point = {key: draw.choice(values) for key, values in self.settings.space.items()}
            if point not in taken:
                return point

    def _train(self, point: Point) -> float:
        """Train a detector, or read what is trained; returns its AP on the pictures held out.

        Raises:
            TimeIsOver: the time ran out halfway; the next call continues the training.
        """
        folder, name = self.folder(point), self.called(point)
        with locked(self.output / "locks" / name):
            cfg = self.config(point, ["DATASETS.TEST", "()"])
            try:
                self.engine.run.train(
                    cfg, resume=(folder / "last_checkpoint").exists(), seconds=self.seconds_left()
                )
            except UserError as error:
                raise UserError(f"{name} in {folder}: {error}") from error
            # The folder also holds detections, and evaluations of the test sets.
            held_out = f"evaluation/{held_out_set(cfg)}_[0-9]*.json"
            last = max(folder.glob(held_out), default=None)
        ended = last and int(last.stem.rpartition("_")[2]) >= cfg.SOLVER.MAX_ITER
        if last is None or (not ended and (self.seconds_left() or 1) < 0):
            raise TimeIsOver
        return float(judged_by(json.loads(last.read_text())) or 0)

    def _milliseconds(self, point: Point) -> float:
        [timing] = measure([self._contestant(point)], ROUNDS)
        return round(1000 * timing.median, 2)

    def _contestant(self, point: Point) -> Contestant:
        """A detector of random weights as an ONNX file in 8 bits, with its picture."""
        cfg = self.config(point)
        height, width = self._size(cfg)
        file = self.folder(point) / "config.yaml"
        if not file.exists():
            write_file(file, cfg.dump())
        case = BenchmarkCase(str(file), MODE, height, width)
        return Contestant(self.called(point), contestant(case, torch.get_num_threads()).run)


def read_or_empty(path: Path) -> dict[str, Any]:
    """The content of a JSON file; empty if there is none yet."""
    return json.loads(path.read_text()) if path.exists() else {}


def _write_json(path: Path, content: Any) -> None:
    write_file(path, json.dumps(content, indent=1) + "\n")
