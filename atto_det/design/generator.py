"""A generator of networks: a distribution over a space, from which a seed draws one network.

arXiv 1903.07209, section 2.2, asks for a generator G that gives, for every seed s, a network G(s)
with a high U and with 1_r(G(s)) = 1. How the authors' generative synthesis finds it is not public.
Here G is a product of independent categorical distributions, one for each dimension of the space.
The cross-entropy method (Rubinstein 1999; an estimation-of-distribution algorithm) fits it to the
best networks of a round, which gives the next generator: G_0 is the human prototype with some
freedom, followed by G_1, G_2, …. Requirements that can be checked without training (parameters,
multiply-adds, bytes) are part of the generator: draws that miss them are repeated, and if need be
reduced in size until they meet them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from atto_det.bounded_yaml import parse_yaml, read_text
from atto_det.design.requirements import Requirements
from atto_det.design.space import Point, Space
from atto_det.errors import UserError, shown, write_file
from atto_det.nets.backbone import BackboneSpec
from atto_det.nets.cost import ClassifierCost, classifier_cost

FORMAT = 1
KEY = "atto_det_generator"  # of the format, in a file
TRIES = 200  # draws before a network is reduced in size


@dataclass(frozen=True, eq=False)
class Generator:
    """A generator. Call it with a seed to get a network's spec.

    Attributes:
        space: the space that networks are drawn from.
        probabilities: of each dimension's choices, in their order; those of a dimension sum to 1.
        requirements: every network drawn meets those that can be checked before training.
        classes, size: outputs and picture side of the classifier whose cost is computed.
        number: how often it was fitted: k of G_k, less the rounds that nothing could be fitted to.

    Raises:
        UserError: probabilities that do not fit the space.
    """

    space: Space
    probabilities: Mapping[str, np.ndarray]
    requirements: Requirements
    classes: int
    size: int
    number: int = 0

    def __post_init__(self) -> None:
        dimensions = self.space.dimensions
        for name, choices in dimensions.items():
            own = np.asarray(self.probabilities.get(name, ()), float)
            sound = own.shape == (len(choices),) and (own >= 0).all()
            if not sound or abs(own.sum() - 1) > 1e-6:
                raise UserError(
                    f"the generator's probabilities of {name} must be {len(choices)} numbers from "
                    "0 that sum up to 1"
                )

    @classmethod
    def around(
        cls,
        space: Space,
        prototype: BackboneSpec,
        requirements: Requirements,
        *,
        classes: int,
        size: int,
        freedom: float = 0.75,
    ) -> "Generator":
        """G_0: the prototype's choice in each dimension, with `freedom` spread over all choices."""
        center = space.nearest(prototype)
        probabilities = {}
        for name, choices in space.dimensions.items():
            own = np.full(len(choices), freedom / len(choices))
            own[choices.index(center[name])] += 1 - freedom
            probabilities[name] = own
        return cls(space, probabilities, requirements, classes, size)

    def __call__(self, seed: int) -> BackboneSpec:
        """The network for a seed.

        Raises:
            UserError: as `point`.
        """
        return self.space.spec(self.point(seed))

    def point(self, seed: int) -> Point:
        """The point of the space that a seed draws.

        If `TRIES` draws all miss a requirement that can be checked before training, the last one is
        reduced in one dimension after another until it meets them all.

        Raises:
            UserError: even the smallest network misses a requirement; the message says by how much.
        """
        random = np.random.default_rng((seed, self.number))
        for _ in range(TRIES):
            point = {
                name: choices[int(random.choice(len(choices), p=self.probabilities[name]))]
                for name, choices in self.space.dimensions.items()
            }
            if self.requirements.holds(self.cost(point)):
                return point
        smallest = self.smallest()
        for name in map(str, random.permutation(list(point))):
            point[name] = smallest[name]
            if self.requirements.holds(self.cost(point)):
                return point
        cost = self.cost(smallest)
        excess = self.requirements.excess(cost)
        worst = max(excess, key=lambda name: excess[name])
        raise UserError(
            f"no network of the space meets the requirements: the smallest has {cost.parameters:,} "
            f"parameters and {cost.macs:,} multiply-adds, and misses requirements.{worst} = "
            f"{getattr(self.requirements, worst):g} by {excess[worst]:.0%}; loosen it, or extend "
            "the space to smaller networks"
        )

    def smallest(self) -> Point:
        """The point whose network has the fewest parameters."""
        point: Point = {}
        for name, choices in self.space.dimensions.items():
            numbers = [choice for choice in choices if isinstance(choice, int)]
            point[name] = min(numbers) if numbers else choices[0]
        for name, choices in self.space.dimensions.items():
            if "identity" in choices:
                point[name] = "identity"
            elif name.endswith(".kind"):
                point[name] = min(choices, key=lambda c: self.cost({**point, name: c}).parameters)
        return point

    def cost(self, point: Mapping[str, int | str]) -> ClassifierCost:
        """The cost of the classifier at a point."""
        return classifier_cost(self.space.spec(point), classes=self.classes, size=self.size)

    def fitted(
        self, elite: Sequence[Mapping[str, int | str]], *, rate: float = 0.7, floor: float = 0.02
    ) -> "Generator":
        """The next generator: closer to the frequency of each choice in the elite.

        Args:
            elite: points, the best of the networks drawn.
            rate: weight of the elite relative to this generator's own probabilities.
            floor: probability that is spread evenly over all choices, so that none dies out.

        Raises:
            UserError: the elite is empty.
        """
        if not elite:
            raise UserError("no network satisfies the requirements: there is nothing to fit to")
        probabilities = {}
        for name, choices in self.space.dimensions.items():
            share = np.array([sum(p[name] == c for p in elite) for c in choices]) / len(elite)
            own = (1 - rate) * np.asarray(self.probabilities[name]) + rate * share
            probabilities[name] = (1 - floor) * own + floor / len(choices)
        return replace(self, probabilities=probabilities, number=self.number + 1)

    def save(self, path: str | Path) -> None:
        """Write the generator as YAML.

        Raises:
            UserError: the file cannot be written.
        """
        content = {
            KEY: FORMAT,
            "number": self.number,
            "classes": self.classes,
            "size": self.size,
            "requirements": dict(vars(self.requirements)),
            "space": self.space.to_dict(),
            "probabilities": {
                name: [round(float(value), 9) for value in values]
                for name, values in self.probabilities.items()
            },
        }
        write_file(path, yaml.safe_dump(content, sort_keys=False, default_flow_style=None))

    @classmethod
    def load(cls, path: str | Path) -> "Generator":
        """Read a generator that `save` wrote. Only plain values are read.

        Raises:
            UserError: no such file, or not a generator of this format; it names the key.
        """
        try:
            text = read_text(Path(path), "generator")
        except FileNotFoundError:
            raise UserError(f"generator {path} does not exist") from None
        return cls.from_dict(parse_yaml(text, str(path)), str(path))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], where: str) -> "Generator":
        """The generator in the content of a file.

        Raises:
            UserError: as `load`.
        """
        if content.get(KEY) != FORMAT:
            raise UserError(f"{where} is not a generator: it lacks {KEY}: {FORMAT}")
        for key in ("number", "classes", "size"):
            if type(content.get(key)) is not int or content[key] < (key != "number"):
                raise UserError(f"{where}: {key} must be a whole number")
        rows = content.get("probabilities")
        if not isinstance(rows, Mapping):
            raise UserError(f"{where}: probabilities must be a mapping")
        probabilities = {}
        for name, values in rows.items():
            numbers = isinstance(values, list) and all(isinstance(v, int | float) for v in values)
            if not numbers:
                raise UserError(f"{where}: probabilities.{shown(name)} must be a list of numbers")
            own = np.array(values, float)
            probabilities[name] = own / own.sum() if own.sum() > 0 else own
        try:
            return cls(
                space=Space.from_dict(content.get("space"), where),
                probabilities=probabilities,
                requirements=Requirements.from_dict(content.get("requirements"), where),
                classes=content["classes"],
                size=content["size"],
                number=content["number"],
            )
        except UserError as error:
            raise UserError(f"{where}: {str(error).removeprefix(f'{where}: ')}") from None
