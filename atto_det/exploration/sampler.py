"""The cross-entropy method as an Optuna sampler: each round draws from its own generator."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from atto_det.design.generator import Generator

DRAWS = 1_000_000
"""A search with seed s draws with the seeds from (s + 1) times this; below are those of U and of
the ranking."""


class GeneratorSampler(BaseSampler):
    """Trial number n belongs to round n // population, and is drawn from that round's generator.

    The generators depend only on the finished trials in the study's storage. Workers in several
    processes or on several machines therefore agree on them, and a later worker can continue.

    Args:
        first: G_0.
        population: trials per round.
        seed: of the search.
        elite: share of a round's size that the next generator is fitted to: the best trials so far,
            over all rounds, that satisfy every constraint. At least two of them are used.
        rate, floor: passed to `Generator.fitted`.
    """

    def __init__(
        self,
        first: Generator,
        *,
        population: int,
        seed: int = 1,
        elite: float = 0.2,
        rate: float = 0.7,
        floor: float = 0.02,
    ) -> None:
        self.first, self.population, self.seed = first, population, seed
        self.elite, self.rate, self.floor = elite, rate, floor
        self._fitted: dict[int, tuple[int, Generator]] = {}

    def generator(self, study: Study, number: int) -> Generator:
        """G_number: the generator before it, fitted to the best trials of all earlier rounds.

        Where no trial so far satisfies 1_r, the generator stays as it was.
        """
        if number == 0:
            return self.first
        trials = [
            trial
            for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if trial.number < number * self.population and satisfies(trial)
        ]
        known = self._fitted.get(number)
        if known and known[0] == len(trials):
            return known[1]
        before = self.generator(study, number - 1)
        count = max(round(self.elite * self.population), 2)
        best = sorted(trials, key=lambda trial: (-_value(trial), trial.number))[:count]
        if best:
            points = [trial.params for trial in best]
            before = before.fitted(points, rate=self.rate, floor=self.floor)
        self._fitted[number] = (len(trials), before)
        return before

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Every dimension of the space."""
        dimensions = self.first.space.dimensions
        return {name: CategoricalDistribution(choices) for name, choices in dimensions.items()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A point from the generator of the trial's round."""
        generator = self.generator(study, trial.number // self.population)
        return dict(generator.point((self.seed + 1) * DRAWS + trial.number))

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Raises KeyError: only the dimensions of the space can be sampled."""
        raise KeyError(f"{param_name} is not a dimension of the space")


class ByTrial(BaseSampler):
    """A sampler of Optuna's whose random numbers follow from the trial's number.

    Optuna's own start anew in each process, so that several workers, and a search that continues,
    would draw the same points again.

    Args:
        make: gives the sampler for a seed.
        seed: of the search.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self.make, self.seed = make, seed
        self.own = make(seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Take a new sampler for the trial."""
        self.own = self.make(((self.seed + 1) * DRAWS + trial.number) % 2**32)
        self.own.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """That of the trial's sampler."""
        return self.own.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """What the trial's sampler draws."""
        return self.own.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """What the trial's sampler draws."""
        return self.own.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """What the trial's sampler does then."""
        self.own.after_trial(study, trial, state, values)


def satisfies(trial: FrozenTrial) -> bool:
    """Whether a finished trial meets every constraint, that is, whether 1_r is 1."""
    return all(value <= 0 for value in trial.constraints.values())


def _value(trial: FrozenTrial) -> float:
    return -np.inf if trial.value is None else trial.value
