"""The stages of an exploration, from requirements to networks, cheapest first.

1. Train a supernet; train the prototype alone, with the short and with the final schedule.
2. Give networks drawn from G_0 the short training: this measures how well the supernet ranks.
3. Search: parameters and multiply-adds are exact, top-1 is estimated by the supernet.
4. Give the best networks the short training, of which the worse half stops at each halving.
5. Give the best of these the final training, which alone decides the requirement on top-1.
6. Evaluate on the val split, once.

All trainings use the pretraining code, and are scored on the same held-out part of the training
split.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import Trial

from atto_det.design.generator import Generator
from atto_det.design.networks import find_network
from atto_det.design.requirements import PERFORMANCES, PROTOTYPE
from atto_det.design.space import Point
from atto_det.errors import UserError, write_file
from atto_det.exploration import studies
from atto_det.exploration.latency import milliseconds
from atto_det.exploration.proxies import proxies
from atto_det.exploration.sampler import GeneratorSampler
from atto_det.exploration.settings import Settings
from atto_det.exploration.studies import TimeIsOver, locked, make_sampler, open_study
from atto_det.exploration.supernet import Judges, Supernet, build, read_judges, score_part
from atto_det.exploration.trainings import Say, Trainings
from atto_det.nets.registry import get_spec
from atto_det.pretraining.data import ClassifierData
from atto_det.pretraining.measured import measure_top1
from atto_det.weights.backbone_file import read_pretraining

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
        self.performance = PERFORMANCES[settings.performance]
        self.times: dict[str, float] = {}
        self.trainings = Trainings(settings, self.data, output, is_over=is_over, say=say)
        self._check_space()
        count = settings.search.population
        self._make_sampler = partial(make_sampler, sampler, population=count, seed=seed)
        self.sampler = self._make_sampler(self.first)
        self.supernet: Supernet
        self.judges: Judges
        self.scores: dict[str, float] = {}
        self.final = 0.0  # the prototype's top-1 after the final training, once it is done

    def run(self) -> bool:
        """Go through all stages; returns False if the time ran out first."""
        try:
            self.train_supernet()
            self.train_prototype()
            stages = (self.rank, self.search, self.train_candidates, self.train_finals)
            if not all(stage() for stage in stages):
                return False
            self.look_at_val()
        except TimeIsOver:
            return False
        return True

    def train_supernet(self) -> None:
        """Train the shared weights, or read them if they are already trained."""
        self.supernet = self.trainings.supernet()
        self.judges = read_judges(self.data, most=self.settings.search.pictures)

    def train_prototype(self) -> None:
        """Train the prototype alone with both schedules, as the reference for other networks."""
        for epochs in (self.settings.alone.epochs, self.settings.alone.final_epochs):
            self.final = self.trainings.alone(self.prototype, epochs)
        if not self.final:
            raise UserError(
                "the prototype, with which all networks are compared, gets no picture right after "
                "the final training: train longer (alone.final_epochs) or at another rate"
            )
        if self.settings.requirements.top1 == PROTOTYPE:
            wanted = replace(self.settings.requirements, top1=self.final)
            self.settings = replace(self.settings, requirements=wanted)
            self.first = replace(self.first, requirements=wanted)
            self.sampler = self._make_sampler(self.first)

    def rank(self) -> bool:
        """Train networks of G_0 alone, and record what each training-free score says of them."""
        settings, classes = self.settings.alone, len(self.data.classes)
        seeds = range(RANKING_SEEDS, RANKING_SEEDS + settings.ranking)
        points = self._distinct([self.first.point(seed) for seed in seeds])

        def note(trial: Trial, point: Point) -> None:
            trial.set_user_attr("supernet", self.score(point))
            spec, pictures = self.settings.space.spec(point), self.judges.statistics[:64]
            scores = proxies(spec, classes, pictures, seed=self.settings.seed)
            for name, value in scores.items():
                trial.set_user_attr(name, value)

        return self._train(self.study("ranking"), points, settings.epochs, note=note)

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
            partial(
                studies.score,
                study,
                generator=self.first,
                estimate=self.estimate,
                milliseconds=self.milliseconds,
                performance=self.performance,
            ),
            trials=count,
            locks=self._locks(study),
            is_over=self.is_over,
            report=report,
        )
        return done and self._judge_generators(study)

    def train_candidates(self) -> bool:
        """Give the networks that the supernet ranks highest a short training.

        Successive halving (arXiv 1502.07943), where all reach a rung before half of them go on.
        Optuna's asynchronous pruner never stops the first one, and what it stops depends on the
        order of the workers.
        """
        settings, best = self.settings.alone, studies.ranked(self.study())
        if not best:
            raise UserError(
                f"none of the networks that {self.name} tried meets the requirements that can be "
                "checked before training: loosen the requirements, or search longer"
            )
        points = self._distinct([trial.params for trial in best])[: settings.candidates]
        for rung in settings.rungs:
            study = self.study(f"short-{rung}")
            if not self._train(study, points, settings.epochs, until=rung):
                return False
            half = max(-(-len(points) // 2), settings.finals)
            points = [trial.params for trial in studies.ranked(study)][:half]
        return True

    def train_finals(self) -> bool:
        """Give the best candidates the final training."""
        settings = self.settings.alone
        best = studies.ranked(self.study(f"short-{settings.epochs}"))[: settings.finals]
        points = [trial.params for trial in best]
        return self._train(self.study("final"), points, settings.final_epochs)

    def look_at_val(self) -> None:
        """Measure top-1 on the val split, once, for all networks with a final training."""
        epochs = self.settings.alone.final_epochs
        finals = studies.finished(self.study("final"))
        points = [self.prototype, *(trial.params for trial in finals if trial.user_attrs["top1"])]
        with locked(self.output / "locks/val", self.is_over):
            known = json.loads(self.val_file.read_text()) if self.val_file.exists() else {}
            for point in points:
                name = self.trainings.called(point)
                if name not in known:
                    known[name] = self._val_top1(self.trainings.folder(point, epochs))
            write_file(self.val_file, json.dumps(known, indent=1) + "\n")

    def _val_top1(self, folder: Path) -> float:
        state, description = read_pretraining(folder / "last.ckpt")
        net = build(get_spec(description.network), len(description.class_names)).eval()
        net.load_state_dict(state)
        [top1], _ = measure_top1([net], description, self.settings.data["root"])
        return top1

    def study(self, stage: str = "") -> Study:
        """The study of the search, or that of a stage that trains a given list of networks."""
        name = {"": self.name, "ranking": "ranking"}.get(stage, f"{self.name}-{stage}")
        sampler = optuna.samplers.RandomSampler(seed=self.seed) if stage else self.sampler
        return open_study(self.storage, name, sampler, self.settings.definition())

    def score(self, point: Point) -> float:
        """Top-1, in percent, with the supernet's weights."""
        network = self.trainings.network(point)
        if network not in self.scores:
            self.scores[network] = score_part(self.supernet, point, self.judges)
        return self.scores[network]

    def estimate(self, point: Point) -> float:
        """Estimated top-1, in percent, after the final training, scaled as for the prototype."""
        return self._extrapolated(self.score(point), self.score(self.prototype))

    def _extrapolated(self, top1: float, prototype: float) -> float:
        """`top1` times what the final training adds to the `prototype`'s, in percent.

        A network that equals the prototype so far equals it afterwards, to the last bit.
        """
        if not prototype:
            return top1
        return min(self.final * (top1 / prototype), 100.0)

    def milliseconds(self, point: Point) -> float | None:
        """The latency measured on this machine; None if the requirements do not limit it."""
        if self.settings.requirements.milliseconds is None:
            return None
        network = self.trainings.network(point)
        if network not in self.times:
            spec, classes = self.settings.space.spec(point), len(self.data.classes)
            self.times[network] = milliseconds(spec, classes=classes, size=self.data.image_size)
        return self.times[network]

    def _check_space(self) -> None:
        """Refuse requirements that no network can meet, before anything is trained.

        Raises:
            UserError: the smallest network misses one.
        """
        self.first.point(0)  # raises it for what follows from a network's numbers
        limit = self.asked.milliseconds
        if limit is None or (self.output / "supernet").exists():
            return  # an exploration that has begun is not refused because the machine is busy
        taken = self.milliseconds(self.first.smallest())
        if taken is not None and taken > limit:
            raise UserError(
                f"no network of the space meets the requirements: the smallest takes {taken:.2f} "
                f"milliseconds on this machine, and requirements.milliseconds is {limit:g}"
            )

    def _train(
        self,
        study: Study,
        points: list[Point],
        epochs: int,
        *,
        until: int | None = None,
        note: Callable[[Trial, Point], None] = lambda trial, point: None,
    ) -> bool:
        """Train the networks at the given points alone, each once.

        Args:
            study: gets their U.
            epochs, until: as for `Trainings.alone`.
            note: called before each training.
        """
        is_final = epochs == self.settings.alone.final_epochs and until in (None, epochs)
        reference = self.trainings.alone(self.prototype, epochs, until)
        locks, stage = self._locks(study), study.study_name
        studies.ask_for(study, points, locks)

        def judge(trial: Trial) -> None:
            def training(point: Point) -> float:
                note(trial, point)
                return self.trainings.alone(point, epochs, until)

            studies.train(
                study,
                trial,
                self.first,
                training,
                final=float if is_final else lambda top1: self._extrapolated(top1, reference),
                milliseconds=self.milliseconds,
                performance=self.performance,
            )

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
        with locked(self._locks(study) / "generators", self.is_over):
            known = dict(study.user_attrs.get("generators", {}))
            for number in range(wanted.rounds + 1):
                generator = self.sampler.generator(study, number)
                generator.save(self.results / f"generator_{number}.yaml")
                if str(number) in known:
                    continue
                values, good = [], 0
                for seed in range(wanted.seeds):
                    if self.is_over():
                        return False
                    point = generator.point(seed)
                    cost, top1 = generator.cost(point), self.estimate(point)
                    values.append(self.performance(top1, cost))
                    taken = self.milliseconds(point)
                    good += self.first.requirements.holds(cost, top1=top1, milliseconds=taken)
                u = studies.finite(sum(values) / len(values))
                known[str(number)] = {"u": u, "satisfying": good, "seeds": wanted.seeds}
                study.set_user_attr("generators", known)
                self.say("generators", number, wanted.rounds, f"U(G_{number}) = {u:.2f}")
        return True

    def _distinct(self, points: list[dict[str, Any]]) -> list[Point]:
        """The points without those whose network is the same as an earlier one's."""
        found: dict[str, Point] = {}
        for point in points:
            found.setdefault(self.trainings.network(point), point)
        return list(found.values())

    def _locks(self, study: Study) -> Path:
        return self.output / "locks" / study.study_name
