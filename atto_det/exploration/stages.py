"""The stages of an exploration, from requirements to networks, cheapest first.

1. Train a supernet; train the prototype alone, with the short and with the final schedule.
2. Give networks drawn from G_0 the short training: this measures how well the supernet ranks.
3. Search: parameters and multiply-adds are exact, top-1 is estimated by the supernet.
4. Give the best networks the short training, stopping the worse half early at each halving.
5. Give the best of these the final training, which alone decides the requirement on top-1.
6. Evaluate on the val split, once.

All trainings use the pretraining code, and are scored on the same held-out part of the training
split.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.study import Study
from optuna.trial import Trial

from atto_det.design.generator import Generator
from atto_det.design.networks import find_network
from atto_det.design.requirements import PROTOTYPE, performance
from atto_det.design.space import Point
from atto_det.errors import UserError, atomic_path
from atto_det.exploration import studies
from atto_det.exploration.latency import milliseconds
from atto_det.exploration.proxies import proxies
from atto_det.exploration.sampler import GeneratorSampler
from atto_det.exploration.settings import Settings
from atto_det.exploration.studies import TimeIsOver, locked, make_sampler, open_study
from atto_det.exploration.supernet import (
    Judges,
    Supernet,
    SupernetTraining,
    build,
    read_judges,
    score_part,
)
from atto_det.nets.registry import get_spec, short_name
from atto_det.nets.spec_file import spec_to_text
from atto_det.pretraining.data import ClassifierData
from atto_det.pretraining.fit import fit
from atto_det.pretraining.measured import measure_top1
from atto_det.pretraining.module import Classifier
from atto_det.weights.backbone_file import read_pretraining
from atto_det.weights.checkpoint import load_checkpoint

Say = Callable[[str, int, int, str], None]
"""Reports progress: name of the stage, units done, units in total, and a remark."""

RANKING_SEEDS = 500_000  # the first seed of the ranking, between those of U and of the searches


class Exploration:
    """One worker. Any number of them can share one study and one output folder.

    Args:
        settings: what to explore.
        output: folder that all workers share.
        storage: of the studies; see `open_study`.
        sampler: "generator", "random", "tpe" or "nsga2".
        seed: of the search. The trainings, which all searches share, have that of the settings.
        is_over: whether to stop; asked after each scored network and each epoch of training.
        say: called with the progress.

    Raises:
        UserError: the data has one class, or no network of the space meets the requirements.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        output: Path,
        storage: str,
        sampler: str,
        seed: int,
        is_over: Callable[[], bool] = lambda: False,
        say: Say = lambda stage, done, total, words: None,
    ) -> None:
        self.settings, self.output, self.storage, self.seed = settings, output, storage, seed
        self.asked = settings.requirements  # as they were given
        self.is_over, self.say = is_over, say
        self.name = f"{sampler}-{seed}"
        self.results = output / self.name
        self.val_file = self.results / "val.json"
        self.data = ClassifierData(**settings.data, seed=settings.seed)
        if len(self.data.classes) < 2:
            raise UserError(f"{self.data.root} has one class: there is nothing to tell apart")
        prototype = get_spec(find_network(settings.prototype, key="prototype"))
        self.prototype = settings.space.nearest(prototype)
        self.first = Generator.around(
            settings.space,
            prototype,
            settings.requirements,
            classes=len(self.data.classes),
            size=self.data.image_size,
        )
        self.first.point(0)  # impossible requirements are refused before any training
        count = settings.search.population
        self._make_sampler = partial(make_sampler, sampler, population=count, seed=seed)
        self.sampler = self._make_sampler(self.first)
        self.supernet: Supernet
        self.judges: Judges
        self.scores: dict[str, float] = {}
        self.times: dict[str, float] = {}
        # The prototype's top-1 after the short and the final training, once they are done.
        self.short = self.final = 0.0

    def run(self) -> bool:
        """Go through all stages; returns False if the time ran out first."""
        try:
            return (
                self.train_supernet()
                and self.train_prototype()
                and self.rank()
                and self.search()
                and self.train_candidates()
                and self.train_finals()
                and self.look_at_val()
            )
        except TimeIsOver:
            return False

    def train_supernet(self) -> bool:
        """Train the shared weights, or read them if they are already trained."""
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

        with locked(self.output / "locks/supernet"):
            fitted = fit(module, self.data, folder, epochs=wanted.epochs, stop=stop, validate=False)
        if fitted.epochs < wanted.epochs:
            return False
        state = load_checkpoint(folder / "last.ckpt")["state_dict"]
        own = {k.removeprefix("net."): v for k, v in state.items() if k.startswith("net.")}
        module.net.load_state_dict(own)
        self.supernet = module.net
        self.judges = read_judges(self.data, most=self.settings.search.pictures)
        return True

    def train_prototype(self) -> bool:
        """Train the prototype alone with both schedules, as the reference for other networks."""
        with locked(self.output / "locks/prototype"):
            self.short, _ = self.train_alone(self.prototype, self.settings.alone.epochs)
            self.final, _ = self.train_alone(self.prototype, self.settings.alone.final_epochs)
        if self.settings.requirements.top1 == PROTOTYPE:
            if not self.final:
                raise UserError(
                    "requirements.top1 is prototype, but the prototype gets no picture right after "
                    "the final training: give a percentage, or train longer (alone.final_epochs)"
                )
            wanted = replace(self.settings.requirements, top1=self.final)
            self.settings = replace(self.settings, requirements=wanted)
            self.first = replace(self.first, requirements=wanted)
            self.sampler = self._make_sampler(self.first)
        return True

    def rank(self) -> bool:
        """Train networks of G_0 alone, and record what each training-free score says of them."""
        settings = self.settings.alone
        seeds = range(RANKING_SEEDS, RANKING_SEEDS + settings.ranking)
        points = self._distinct([self.first.point(seed) for seed in seeds])

        def judge(trial: Trial) -> None:
            def training(point: Point, after: studies.After) -> tuple[float, int]:
                trial.set_user_attr("supernet", self.score(point))
                spec, pictures = self.settings.space.spec(point), self.judges.statistics[:64]
                for name, value in proxies(spec, len(self.data.classes), pictures).items():
                    trial.set_user_attr(name, value)
                return self.train_alone(point, settings.epochs, after)

            studies.train(study, trial, self.first, training, final=self._after_short)

        study = self.study("ranking")
        return self._trainings(study, points, judge)

    def search(self) -> bool:
        """Score the networks that the sampler proposes."""
        study, wanted = self.study(), self.settings.search
        count = wanted.rounds * wanted.population

        def report(study: Study) -> None:
            best = studies.ranked(study)
            words = f"best U {best[0].value:.2f}" if best else "none meets the requirements yet"
            self.say("search", len(studies.finished(study)), count, words)

        done = studies.work(
            study,
            lambda trial: studies.score(study, trial, self.first, self.estimate, self.milliseconds),
            trials=count,
            locks=self._locks(study),
            is_over=self.is_over,
            report=report,
        )
        return done and self._judge_generators(study)

    def train_candidates(self) -> bool:
        """Give the networks that the supernet ranks highest a short training, with halving."""
        settings, best = self.settings.alone, studies.ranked(self.study())
        if not best:
            raise UserError(
                f"none of the networks that {self.name} tried meets the requirements that can be "
                "checked before training: loosen the requirements, or search longer"
            )
        points = self._distinct([trial.params for trial in best])[: settings.candidates]
        # Of the networks that get so far, half continue after 1, 2, 4 … epochs (arXiv 1810.05934).
        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
        study = self.study("short", pruner)
        return self._trainings(study, points, self._judge(study, settings.epochs))

    def train_finals(self) -> bool:
        """Give the best candidates the final training."""
        settings, study = self.settings.alone, self.study("final")
        best = studies.ranked(self.study("short"), broken_off=True)
        points = self._distinct([trial.params for trial in best])[: settings.finals]
        return self._trainings(study, points, self._judge(study, settings.final_epochs))

    def look_at_val(self) -> bool:
        """Measure top-1 on the val split, once, for all networks with a final training."""
        with locked(self.output / "locks/val"):
            if self.val_file.exists():
                return True
            found, data = {}, self.settings.data
            seen = ("class_list", "crop_share", "interpolation", "batch_size")
            settings = {key: data[key] for key in seen if key in data}
            points = [trial.params for trial in studies.finished(self.study("final"))]
            for point in (self.prototype, *points):
                checkpoint = self.folder(point, self.settings.alone.final_epochs) / "last.ckpt"
                state, description = read_pretraining(checkpoint)
                net = build(get_spec(description.network), len(description.class_names)).eval()
                net.load_state_dict(state)
                [top1] = measure_top1([net], description, data["root"], **settings)
                found[short_name(description.network)] = top1
            with atomic_path(self.val_file) as temporary:
                temporary.write_text(json.dumps(found, indent=1) + "\n")
        return True

    def study(self, stage: str = "", pruner: optuna.pruners.BasePruner | None = None) -> Study:
        """The study of the search, or that of a stage that trains a given list of networks."""
        name = {"": self.name, "ranking": "ranking"}.get(stage, f"{self.name}-{stage}")
        sampler = optuna.samplers.RandomSampler(seed=self.seed) if stage else self.sampler
        return open_study(self.storage, name, sampler, self.settings.definition(), pruner)

    def network(self, point: Point) -> str:
        """The spec at a point, as text."""
        return spec_to_text(self.settings.space.spec(point))

    def score(self, point: Point) -> float:
        """Top-1, in percent, with the supernet's weights."""
        network = self.network(point)
        if network not in self.scores:
            self.scores[network] = score_part(self.supernet, point, self.judges)
        return self.scores[network]

    def estimate(self, point: Point) -> float:
        """Estimated top-1, in percent, after the final training, scaled as for the prototype."""
        return self._extrapolated(self.score(point), self.score(self.prototype))

    def _after_short(self, top1: float) -> float:
        """Estimated top-1 after the final training of a network that has `top1` after the short."""
        return self._extrapolated(top1, self.short)

    def _extrapolated(self, top1: float, prototype: float) -> float:
        """`top1` times what the final training adds to the `prototype`'s, in percent.

        A network that equals the prototype so far equals it afterwards, to the last bit.
        """
        if not prototype or not self.final:
            return top1
        return min(self.final * (top1 / prototype), 100.0)

    def milliseconds(self, point: Point) -> float | None:
        """The latency measured on this machine; None if the requirements do not limit it."""
        if self.settings.requirements.milliseconds is None:
            return None
        network = self.network(point)
        if network not in self.times:
            spec, classes = self.settings.space.spec(point), len(self.data.classes)
            self.times[network] = milliseconds(spec, classes=classes, size=self.data.image_size)
        return self.times[network]

    def train_alone(
        self, point: Point, epochs: int, after: studies.After = lambda epoch, top1: False
    ) -> tuple[float, int]:
        """Train the network at a point; returns its top-1 on held-out pictures and epochs done.

        Raises:
            TimeIsOver: the time ran out halfway; the next call continues the training.
        """
        network = self.network(point)
        seed, recipe = self.settings.seed, self.settings.recipe
        module = Classifier(network, self.data.classes, seed=seed, **recipe)
        module.recipe = self._recipe(epochs=epochs)
        poor = False

        def stop(epoch: int, figures: dict[str, float]) -> bool:
            nonlocal poor
            top1 = figures["val_top1"]
            self.say(short_name(network), epoch, epochs, f"top-1 {top1:.1f}")
            poor = after(epoch, top1)
            return poor or self.is_over()

        folder = self.folder(point, epochs)
        with locked(self.output / "locks" / folder.name):
            fitted = fit(module, self.data, folder, epochs=epochs, stop=stop)
        if fitted.epochs < epochs and not poor:
            raise TimeIsOver
        return fitted.figures["val_top1"], fitted.epochs

    def folder(self, point: Point, epochs: int) -> Path:
        """The folder of a network's training alone, which all studies share."""
        return self.output / "alone" / f"{short_name(self.network(point))}-{epochs}"

    def _judge(self, study: Study, epochs: int) -> Callable[[Trial], None]:
        """A function that trains the network of a trial for so many epochs."""
        is_final = epochs == self.settings.alone.final_epochs

        def judge(trial: Trial) -> None:
            studies.train(
                study,
                trial,
                self.first,
                lambda point, after: self.train_alone(point, epochs, after),
                final=float if is_final else self._after_short,
                milliseconds=self.milliseconds,
            )

        return judge

    def _trainings(self, study: Study, points: list[Point], judge: Callable[[Trial], None]) -> bool:
        """Train the networks at the given points, each once."""
        locks = self._locks(study)
        studies.ask_for(study, points, locks)
        stage = study.study_name

        def report(study: Study) -> None:
            self.say(stage, len(studies.finished(study)), len(points), "networks trained alone")

        return studies.work(
            study, judge, trials=len(points), locks=locks, is_over=self.is_over, report=report
        )

    def _judge_generators(self, study: Study) -> bool:
        """Save each generator and store its U, the mean over networks of fixed seeds."""
        if not isinstance(self.sampler, GeneratorSampler):
            return True
        wanted = self.settings.search
        with locked(self._locks(study) / "generators"):
            known = dict(study.user_attrs.get("generators", {}))
            for number in range(wanted.rounds + 1):
                generator = self.sampler.generator(study, number)
                generator.save(self.results / f"generator_{number}.yaml")
                values = []
                for seed in range(wanted.seeds) if str(number) not in known else ():
                    if self.is_over():
                        return False
                    point = generator.point(seed)
                    values.append(performance(self.estimate(point), generator.cost(point)))
                if values:
                    known[str(number)] = studies.finite(sum(values) / len(values))
                    study.set_user_attr("generators", known)
                    words = f"U(G_{number}) = {known[str(number)]:.2f}"
                    self.say("generators", number, wanted.rounds, words)
        return True

    def _distinct(self, points: list[dict[str, Any]]) -> list[Point]:
        """The points without those whose network is the same as an earlier one's."""
        found: dict[str, Point] = {}
        for point in points:
            found.setdefault(self.network(point), point)
        return list(found.values())

    def _locks(self, study: Study) -> Path:
        return self.output / "locks" / study.study_name

    def _recipe(self, **others: Any) -> str:
        """Everything a training depends on; a training of another recipe is not resumed."""
        settings = self.settings
        common = {"seed": settings.seed, "data": settings.data, "recipe": settings.recipe}
        return yaml.safe_dump(common | others)
