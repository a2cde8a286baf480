"""A supernet: one training gives weights for all networks of a space.

For each place and kind of module, a supernet holds the tensors of the largest module. A network
uses the leading channels of these, as in slimmable networks (arXiv 1812.08928), so that a step on
one network also trains its neighbours. Each step trains the largest network, the smallest, and some
in between (the sandwich rule, arXiv 1903.05134, section 3.2).

To score a network, its part of the weights is taken and the statistics of its batch norms are
computed again (same paper, section 3.3). That takes seconds rather than a training. How well such
scores rank networks is measured against networks that are trained alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from atto_det.design.space import Point, Space
from atto_det.errors import UserError
from atto_det.nets.backbone import STAGES, Backbone, BackboneSpec
from atto_det.nets.classifier import ImageClassifier
from atto_det.nets.spec_file import spec_to_text
from atto_det.pretraining.data import ClassifierData, LabelledPictures
from atto_det.pretraining.module import Classifier

_WIDE = ("depthwise.conv.weight", "depthwise.norm.weight", "depthwise.norm.bias")


class Supernet(nn.Module):
    """The shared weights of all networks of a space.

    Args:
        space: the networks that use the weights.
        classes: outputs of the dense layer.
    """

    def __init__(self, space: Space, classes: int) -> None:
        super().__init__()
        self.space, self.classes = space, classes
        self.shared = nn.ParameterDict()
        for kind in dict.fromkeys((*space.opening, *space.kinds)):
            if kind == "identity":
                continue
            spec = largest(space, kind)
            for key, value in build(spec, classes).named_parameters():
                name = self._key(key, kind)
                if name not in self.shared:
                    self.shared[name] = nn.Parameter(value.detach().clone())

    def part(self, point: Mapping[str, int | str]) -> tuple[nn.Module, dict[str, Tensor]]:
        """A network without weights, and views of the shared weights, which get the gradients."""
        with torch.device("meta"):
            net = build(self.space.spec(point), self.classes)
        tensors = {}
        for key, own in net.named_parameters():
            place, kind = self._place(key, point)
            shared = self.shared[_escaped(place if kind is None else f"{place}|{kind}")]
            tensors[key] = _leading(shared, own.shape, key, point, self.space)
        return net, tensors

    def forward(self, x: Tensor, point: Mapping[str, int | str]) -> Tensor:
        """Logits of pictures (B, 3, S, S), normalised by the statistics of this batch."""
        net, tensors = self.part(point)
        # The running statistics are thrown away: scoring computes them again.
        buffers = {
            key: torch.zeros_like(value, device=x.device) for key, value in net.named_buffers()
        }
        return torch.func.functional_call(net.train(), {**tensors, **buffers}, (x,))

    def extract(self, point: Mapping[str, int | str]) -> nn.Module:
        """The network at a point, with a copy of its part of the weights."""
        _, tensors = self.part(point)
        net = build(self.space.spec(point), self.classes)
        with torch.no_grad():
            for key, own in net.named_parameters():
                own.copy_(tensors[key])
        return net

    def _key(self, key: str, kind: str) -> str:
        """The shared name of a parameter of the largest network of a kind."""
        place, index, rest = _parted(key)
        if index is None:
            return _escaped(key)
        allowed = self.space.opening if index == 0 else self.space.kinds
        own = kind if kind in allowed else next(k for k in allowed if k != "identity")
        return _escaped(f"{place}.{index}.{rest}|{own}")

    def _place(self, key: str, point: Mapping[str, int | str]) -> tuple[str, str | None]:
        """The place in the space and the kind of module that a network's parameter belongs to."""
        stage, index, rest = _parted(key)
        if index is None:
            return key, None
        place = _module_place(self.space, point, stage, index)
        return f"{place}.{rest}", str(point[f"{place}.kind"])


class SupernetTraining(Classifier):
    """The pretraining of a supernet: each step trains several networks on one batch.

    Args:
        space: the networks.
        class_names: one per output.
        between: random networks in each step, in addition to the largest and the smallest.
        recipe: further arguments of `Classifier`.
    """

    def __init__(
        self, space: Space, class_names: Sequence[str], *, between: int = 2, **recipe: Any
    ) -> None:
        kind = next(kind for kind in (*space.opening, *space.kinds) if kind != "identity")
        super().__init__(spec_to_text(largest(space, kind)), class_names, **recipe)
        self.between = between
        self.net = Supernet(space, len(class_names))

    def batch_loss(self, batch: list[Tensor]) -> Tensor:
        """The mean loss of the step's networks, which are determined by (seed, step)."""
        images, labels = batch
        images = images.to(memory_format=self.layout)
        random = np.random.default_rng((self.seed, self.global_step))
        points = sandwich(self.net.space, self.between, random)
        return torch.stack([self.loss(self.net(images, p), labels) for p in points]).mean()


def largest(space: Space, kind: str) -> BackboneSpec:
    """The spec with the most channels, with modules of one kind wherever the space allows it."""
    point: Point = {}
    for name, choices in space.dimensions.items():
        numbers = [choice for choice in choices if isinstance(choice, int)]
        point[name] = max(numbers) if numbers else kind
        if not numbers and kind not in choices:
            point[name] = next(choice for choice in choices if choice != "identity")
    return space.spec(point)


def build(spec: BackboneSpec, classes: int) -> ImageClassifier:
    """The classifier of a spec, with random weights."""
    return ImageClassifier(Backbone(spec, ("res5",)), classes)


def sandwich(space: Space, between: int, random: np.random.Generator) -> Iterator[Point]:
    """The largest network, the smallest, and random ones in between."""
    for extreme in (max, min):
        point: Point = {}
        for name, choices in space.dimensions.items():
            numbers = [choice for choice in choices if isinstance(choice, int)]
            point[name] = extreme(numbers) if numbers else _kind(choices, random)
        yield point
    for _ in range(between):
        yield {
            name: choices[int(random.integers(len(choices)))]
            for name, choices in space.dimensions.items()
        }


class Judges(NamedTuple):
    """The pictures that score networks, held in memory.

    statistics: training pictures (M, 3, S, S), normalised, to compute batch-norm statistics.
    pictures: (N, 3, S, S), normalised; never trained on.
    labels: (N,).
    """

    statistics: Tensor
    pictures: Tensor
    labels: Tensor


def read_judges(data: ClassifierData, *, statistics: int = 512, most: int = 2000) -> Judges:
    """Evenly spaced pictures: at most `statistics` from training, at most `most` held out."""
    parts = []
    for folder, count in ((data.train, statistics), (data.val, most)):
        pictures = LabelledPictures(folder, data.centre, data.seed)
        step = -(-len(pictures) // count)
        found = (pictures[0, index] for index in range(0, len(pictures), step))
        parts.append([_sound(one) for one in found])
    statistics_of, judged = (torch.stack([image for image, _ in part]) for part in parts)
    return Judges(statistics_of, judged, torch.tensor([label for _, label in parts[1]]))


def _sound(sample: tuple[Tensor, int] | UserError) -> tuple[Tensor, int]:
    """The sample; if its picture could not be read, raises that error."""
    if isinstance(sample, UserError):
        raise sample
    return sample


@torch.no_grad()
def score_part(
    supernet: Supernet, point: Mapping[str, int | str], judges: Judges, *, batch: int = 128
) -> float:
    """Top-1, in percent, of a network with its part of the supernet's weights.

    If no picture is right, half a picture is counted, since U is undefined at 0.
    """
    net = supernet.extract(point).to(memory_format=torch.channels_last).train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain mean
    for images in judges.statistics.split(batch):
        net(images.to(memory_format=torch.channels_last))
    net.eval()
    right = 0
    for some in torch.arange(len(judges.labels)).split(batch):
        logits = net(judges.pictures[some].to(memory_format=torch.channels_last))
        right += int((logits.argmax(1) == judges.labels[some]).sum())
    return 100 * max(right, 0.5) / len(judges.labels)


def _parted(key: str) -> tuple[str, int | None, str]:
    """Stage, module index and rest of a parameter's name; the index is None outside the stages."""
    parts = key.removeprefix("backbone.").split(".")
    if parts[0] in STAGES:
        return parts[0], int(parts[1]), ".".join(parts[2:])
    return key, None, ""


def _escaped(name: str) -> str:
    """The name in a form that ParameterDict accepts."""
    return name.replace(".", "/")


def _leading(
    shared: Tensor, shape: torch.Size, key: str, point: Mapping[str, int | str], space: Space
) -> Tensor:
    """The part of a shared tensor that a network uses: its leading channels.

    The outputs of a depthwise convolution with a multiplier are numbered input by input, so the
    leading multiples of each leading input are taken.
    """
    most = max(space.multiplier)
    if key.endswith(_WIDE):
        inputs, many = shared.shape[0] // most, shared.unflatten(0, (-1, most))
        own = _multiplier(shape[0], key, point, space)
        assert shape[0] // own <= inputs
        return many[: shape[0] // own, :own].flatten(0, 1)
    if key.endswith("mix.conv.weight"):
        own = _multiplier(shape[1], key, point, space)
        many = shared.unflatten(1, (-1, most))
        return many[: shape[0], : shape[1] // own, :own].flatten(1, 2)
    return shared[tuple(slice(length) for length in shape)]


def _multiplier(wide: int, key: str, point: Mapping[str, int | str], space: Space) -> int:
    stage, index, _ = _parted(key)
    assert index is not None
    value = point[f"{_module_place(space, point, stage, index)}.multiplier"]
    assert isinstance(value, int)
    assert wide % value == 0
    return value


def _module_place(space: Space, point: Mapping[str, int | str], stage: str, index: int) -> str:
    """The place in the space of a network's module; `index` does not count identities."""
    names = (f"{stage}.{k}" for k in range(space.depths[stage]))
    return [name for name in names if point[f"{name}.kind"] != "identity"][index]


def _kind(choices: tuple[Any, ...], random: np.random.Generator) -> Any:
    """A random kind of module; identity only if there is no other."""
    kinds = [choice for choice in choices if choice != "identity"] or list(choices)
    return kinds[int(random.integers(len(kinds)))]
