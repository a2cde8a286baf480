"""Normalisation of pictures, and conversion of a stem from one normalisation to another."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atto_det.errors import UserError

ORDERS = ("RGB", "BGR")
# For red, green and blue in pictures scaled to 0..1.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MEAN_TOLERANCE = 0.01  # grey levels of 0..255: rounding differences
# Detectron2's defaults, for a detector's config that does not state its normalisation.
_DEFAULTS = {
    "PIXEL_MEAN": [103.53, 116.28, 123.675],
    "PIXEL_STD": [1.0, 1.0, 1.0],
    "FORMAT": "BGR",
}


@dataclass(frozen=True)
class Normalisation:
    """The input of a network: (x - mean) / std for each colour, x in 0..255.

    Args:
        mean, std: of the three channels in units of 0..255, in the order `channel_order`.
        channel_order: "RGB" or "BGR".

    Raises:
        UserError: not three finite values each, a std that is not positive, or another order.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: str = "RGB"

    def __post_init__(self) -> None:
        if self.channel_order not in ORDERS:
            raise UserError(
                f"the channel order is {self.channel_order!r}; AttoNets take RGB or BGR"
            )
        for name, low in (("mean", -math.inf), ("std", 0.0)):
            values = getattr(self, name)
            if not is_colour(values) or not all(low < value for value in values):
                kind = "positive " if name == "std" else ""
                raise UserError(f"the {name} must be three {kind}numbers, not {values}")
            object.__setattr__(self, name, tuple(map(float, values)))

    @classmethod
    def of_unit_range(
        cls, mean: Sequence[float], std: Sequence[float], channel_order: str = "RGB"
    ) -> "Normalisation":
        """From a mean and std for pictures scaled to 0..1, as torchvision states them."""
        return cls(tuple(255 * v for v in mean), tuple(255 * v for v in std), channel_order)

    @classmethod
    def of_detector(cls, config: Mapping[str, Any], where: str) -> "Normalisation":
        """The input of a detector's backbone: MODEL.PIXEL_MEAN, PIXEL_STD, INPUT.FORMAT.

        Args:
            config: a config node, or the content of an experiment file; Detectron2's defaults apply
                to what it does not state.
            where: named in errors.

        Raises:
            UserError: values that are not a normalisation of three channels.
        """
        found = dict(_DEFAULTS)
        for section, keys in (("MODEL", ("PIXEL_MEAN", "PIXEL_STD")), ("INPUT", ("FORMAT",))):
            node = config.get(section)
            if isinstance(node, Mapping):
                found |= {key: node[key] for key in keys if key in node}
        try:
            return cls(found["PIXEL_MEAN"], found["PIXEL_STD"], found["FORMAT"])
        except UserError as error:
            raise UserError(
                f"{where}: {error} (MODEL.PIXEL_MEAN, MODEL.PIXEL_STD, INPUT.FORMAT)"
            ) from None

    def in_order(self, channel_order: str) -> "Normalisation":
        """The same normalisation with its channels in another order."""
        step = 1 if channel_order == self.channel_order else -1
        return Normalisation(self.mean[::step], self.std[::step], channel_order)

    def __str__(self) -> str:
        return f"mean {_text(self.mean)}, std {_text(self.std)}, {self.channel_order}"


def is_colour(values: object) -> bool:
    """Whether `values` is a list or tuple of three finite numbers."""
    return (
        isinstance(values, list | tuple)
        and len(values) == 3
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        and all(map(math.isfinite, values))
    )


def absorb(weight: Tensor, trained: Normalisation, target: Normalisation) -> Tensor:
    """The weight of a stem's convolution for pictures normalised as `target` instead of `trained`.

    For each colour, (x - mean) / std_trained = (x - mean) / std_target · (std_target /
    std_trained): the factor is multiplied into the weight's input channel, and the channels are put
    in the order of `target`. The outputs are equal up to rounding, including at borders, since a
    padded zero stands for the mean colour before and after.

    A mean cannot be absorbed in this way. Inside a picture it would be a bias of the convolution,
    but at the borders the padding must stay the *trained* mean colour, while a detector pads with
    zeros after subtracting its own mean (at a picture's border in the convolution, and around the
    smaller pictures of a batch). A different mean is therefore refused.

    Further training depends on the std: by the chain rule, in the trained normalisation, a step of
    SGD changes the stem (std_target / std_trained)⁻² times as much, 3,300 times for ImageNet's std
    and a target std of 1. Normalise with the trained std, freeze the stem, or rescale a stem that
    is followed by a norm (`reset_lengths`).

    Args:
        weight: (O, 3, k, k), of a convolution with or without bias (which is not changed).
        trained: the normalisation that the weight was trained with.
        target: the normalisation that it will be used with.

    Raises:
        UserError: the means differ by more than `MEAN_TOLERANCE`; it says which mean to set.
    """
    same_order = trained.in_order(target.channel_order)
    if any(abs(a - b) > MEAN_TOLERANCE for a, b in zip(same_order.mean, target.mean, strict=True)):
        raise UserError(
            f"the weights were trained with another mean colour than {_text(target.mean)}, which "
            f"cannot be compensated for at the borders of pictures: set MODEL.PIXEL_MEAN to "
            f"{_text(same_order.mean)} (INPUT.FORMAT is {target.channel_order})"
        )
    if trained.channel_order != target.channel_order:
        weight = weight.flip(1)  # (O, 3, k, k)
    factor = torch.tensor(target.std, dtype=torch.float64) / torch.tensor(
        same_order.std, dtype=torch.float64
    )
    scaled = weight.double() * factor.to(weight.device)[:, None, None]
    return scaled.to(weight.dtype).contiguous()


def difference(trained: Normalisation, target: Normalisation) -> str:
    """What `absorb` changes, in words: "std [58.395, 57.12, 57.375] to [1.0, 1.0, 1.0]"; or ""."""
    parts = []
    same_order = trained.in_order(target.channel_order)
    if not all(
        math.isclose(a, b, rel_tol=1e-6) for a, b in zip(same_order.std, target.std, strict=True)
    ):
        parts.append(f"std {_text(same_order.std)} to {_text(target.std)}")
    if trained.channel_order != target.channel_order:
        parts.append(f"{trained.channel_order} to {target.channel_order}")
    return ", ".join(parts)


def _text(values: tuple[float, ...]) -> str:
    """A colour in the form that YAML and the command line accept, without rounding digits."""
    return str([round(value, 4) for value in values])
