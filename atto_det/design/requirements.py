"""Goals for a network: the performance U to maximise, and the indicator 1_r to satisfy.

arXiv 1903.07209, section 2.2: U is NetScore with alpha 2, beta and gamma 0.5 (arXiv 1806.05512);
1_r is 1 if every requirement holds. Other U can be chosen by name.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from atto_det.complexity.netscore import netscore as _netscore
from atto_det.errors import UserError, shown
from atto_det.nets.cost import ClassifierCost

PROTOTYPE = "prototype"  # as top1: that of the prototype, which is not known yet


def netscore(top1: float, cost: ClassifierCost) -> float:
    """`atto_det.complexity.netscore`, in points; a top-1 of 0 gives minus infinity."""
    if top1 <= 0:
        return -math.inf
    return _netscore(top1, cost.parameters / 1e6, cost.macs / 1e9)


def information_density(top1: float, cost: ClassifierCost) -> float:
    """Top-1, in percent, per million parameters (arXiv 1605.07678)."""
    return top1 / (cost.parameters / 1e6)


def accuracy(top1: float, cost: ClassifierCost) -> float:
    """Top-1, in percent, whatever it costs; the requirements limit the costs."""
    return top1


PERFORMANCES = {"netscore": netscore, "information_density": information_density, "top1": accuracy}


@dataclass(frozen=True)
class Requirements:
    """The requirements r of the indicator 1_r; None means no requirement.

    Attributes:
        top1: minimum, in percent, on the data that judge the search; or "prototype", for what the
            prototype reaches there after the final training.
        parameters: maximum.
        macs: maximum multiply-adds for one picture.
        kilobytes: maximum size of the weights at `weight_bits`; 1000 bytes each.
        milliseconds: maximum for one picture in ONNX Runtime at 8 bits on this machine.
        weight_bits: of the weights in `kilobytes`. Top-1 is measured with the weights as trained.

    Raises:
        UserError: a value out of its range.
    """

    top1: float | str | None = None
    parameters: int | None = None
    macs: int | None = None
    kilobytes: float | None = None
    milliseconds: float | None = None
    weight_bits: int = 8

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is None or (field.name == "top1" and value == PROTOTYPE):
                continue
            if not (number and 0 < value < math.inf):
                others = f"{PROTOTYPE} or null" if field.name == "top1" else "or null"
                raise UserError(
                    f"requirements.{field.name} is {shown(value)}: give a number above 0, {others}"
                )
        if not isinstance(self.top1, str | None) and self.top1 > 100:
            raise UserError(f"requirements.top1 is {self.top1}: a percentage is at most 100")

    def excess(
        self,
        cost: ClassifierCost,
        *,
        top1: float | None = None,
        milliseconds: float | None = None,
    ) -> dict[str, float]:
        """By how much each requirement is missed, as a share of it; 1_r is 1 if none is above 0.

        Args:
            top1, milliseconds: None if they are not known; their requirements are then left out,
                as is a top1 of "prototype".
        """
        result = {}
        for name, value in (
            ("parameters", cost.parameters),
            ("macs", cost.macs),
            ("kilobytes", cost.bytes_at(self.weight_bits) / 1000),
            ("milliseconds", milliseconds),
        ):
            limit = getattr(self, name)
            if limit is not None and value is not None:
                result[name] = value / limit - 1
        if not isinstance(self.top1, str | None) and top1 is not None:
            result["top1"] = 1 - top1 / self.top1
        return result

    def holds(
        self,
        cost: ClassifierCost,
        *,
        top1: float | None = None,
        milliseconds: float | None = None,
    ) -> bool:
        """Whether the requirements on what is known are met; arguments as for `excess`."""
        excess = self.excess(cost, top1=top1, milliseconds=milliseconds)
        return all(value <= 0 for value in excess.values())

    @classmethod
    def from_dict(cls, content: Any, where: str) -> "Requirements":
        """Requirements from plain values; `where` names their source in messages.

        Raises:
            UserError: an unknown key or a value out of its range.
        """
        known = [field.name for field in fields(cls)]
        if not isinstance(content, Mapping) or not set(content) <= set(known):
            raise UserError(f"{where}: requirements are a mapping with keys {', '.join(known)}")
        try:
            return cls(**content)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
