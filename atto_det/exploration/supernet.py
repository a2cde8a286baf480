"""One training for all networks of a space: weights that every network takes its part of.

A supernet holds, for each place and kind of module, the tensors of the largest one. A network's
own tensors are the leading channels of those, as in slimmable networks (arXiv 1812.08928), so that
a step on one network trains its neighbours, too. Each step trains the largest network, the smallest
and some between (the sandwich rule, arXiv 1903.05134, section 3.2).

A network is scored with its part of the weights after the statistics of its batch norms were
computed anew (the same, section 3.3): seconds instead of a training. What that is worth for ranking
must be measured against networks that were trained alone.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atto_det.design.space import Point, Space
from atto_det.errors import UserError
from atto_det.exploration.pictures import Pictures, augmented, normalise
from atto_det.nets.backbone import STAGES, Backbone, BackboneSpec
from atto_det.nets.classifier import ImageClassifier
from atto_det.weights.checkpoint import load_checkpoint, save_checkpoint

_WIDE = ("depthwise.conv.weight", "depthwise.norm.weight", "depthwise.norm.bias")


class Supernet(nn.Module):
    """The shared weights of a space.

    Args:
        space: whose networks take their part of them.
        classes: outputs of the dense layer.
    """

    def __init__(self, space: Space, classes: int) -> None:
        super().__init__()
        self.space, self.classes = space, classes
        self.shared = nn.ParameterDict()
        for kind in dict.fromkeys((*space.opening, *space.kinds)):
            if kind == "identity":
                continue
            for key, value in build(self._largest(kind), classes).named_parameters():
                name = self._key(key, self._largest(kind), kind)
                if name is not None and name not in self.shared:
                    self.shared[name] = nn.Parameter(value.detach().clone())

    def part(self, point: Mapping[str, int | str]) -> tuple[nn.Module, dict[str, Tensor]]:
        """A network without weights, and its part of the shared ones, through which they learn."""
        net = build(self.space.spec(point), self.classes)
        tensors = {}
        for key, own in net.named_parameters():
            place, kind = self._place(key, point)
            shared = self.shared[_escaped(place if kind is None else f"{place}|{kind}")]
            tensors[key] = _leading(shared, own.shape, key, point, self.space)
        return net, tensors

    def forward(self, x: Tensor, point: Mapping[str, int | str]) -> Tensor:
        """Pictures (B, 3, S, S) through the network at a point, with their own statistics."""
        net, tensors = self.part(point)
        buffers = {key: value.clone() for key, value in net.named_buffers()}
        return torch.func.functional_call(net.train(), {**tensors, **buffers}, (x,))

    def extract(self, point: Mapping[str, int | str]) -> nn.Module:
        """The network at a point with a copy of its part of the weights."""
        net, tensors = self.part(point)
        with torch.no_grad():
            for key, own in net.named_parameters():
                own.copy_(tensors[key])
        return net

    def _largest(self, kind: str) -> BackboneSpec:
        """The spec with the most channels, all of whose modules are of a kind where that may be."""
        point: Point = {}
        for name, choices in self.space.dimensions.items():
            numbers = [choice for choice in choices if isinstance(choice, int)]
            point[name] = max(numbers) if numbers else kind
            if not numbers and kind not in choices:
                point[name] = next(choice for choice in choices if choice != "identity")
        return self.space.spec(point)

    def _key(self, key: str, spec: BackboneSpec, kind: str) -> str | None:
        """The shared name of a parameter of the largest network of a kind."""
        place, index, rest = _parted(key)
        if index is None:
            return _escaped(key)
        allowed = self.space.opening if index == 0 else self.space.kinds
        own = kind if kind in allowed else next(k for k in allowed if k != "identity")
        return _escaped(f"{place}.{index}.{rest}|{own}")

    def _place(self, key: str, point: Mapping[str, int | str]) -> tuple[str, str | None]:
        """The place in the space, and the kind, that a network's parameter belongs to."""
        stage, index, rest = _parted(key)
        if index is None:
            return key, None
        place = _module_place(self.space, point, stage, index)
        return f"{place}.{rest}", str(point[f"{place}.kind"])


def build(spec: BackboneSpec, classes: int) -> ImageClassifier:
    """The classifier of a spec, with random weights."""
    return ImageClassifier(Backbone(spec, ("res5",)), classes)


def _parted(key: str) -> tuple[str, int | None, str]:
    """Stage, index of the module and the rest of a parameter's name; no index outside stages."""
    parts = key.removeprefix("backbone.").split(".")
    if parts[0] in STAGES:
        return parts[0], int(parts[1]), ".".join(parts[2:])
    return key, None, ""


def _escaped(name: str) -> str:
    """A name that a ParameterDict takes."""
    return name.replace(".", "/")


def _leading(
    shared: Tensor, shape: torch.Size, key: str, point: Mapping[str, int | str], space: Space
) -> Tensor:
    """The leading channels of a shared tensor.

    Depthwise convolutions with a multiplier number their outputs input by input: those of the
    leading inputs and leading multiples are taken.
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
    """The place in the space of a network's module, identities not counted."""
    names = (f"{stage}.{k}" for k in range(space.depths[stage]))
    return [name for name in names if point[f"{name}.kind"] != "identity"][index]


def train_supernet(
    supernet: Supernet,
    pictures: Pictures,
    *,
    steps: int,
    batch: int = 64,
    between: int = 2,
    learning_rate: float = 0.1,
    weight_decay: float = 1e-4,
    seed: int,
    checkpoint: Path,
    save_every: int = 200,
    report: Callable[[int, float, float], None] = lambda step, loss, seconds: None,
    is_over: Callable[[], bool] = lambda: False,
) -> bool:
    """Train the shared weights by the sandwich rule; goes on from `checkpoint` where there is one.

    What is drawn in a step follows from (seed, step).

    Args:
        steps: of gradient descent with momentum 0.9, the rate falling to 0 by a cosine.
        between: random networks of each step, beside the largest and the smallest.
        report: gets the step, its mean loss and its seconds.
        is_over: asked after each step: whether to save and stop.

    Returns:
        Whether all steps are done.

    Raises:
        UserError: a checkpoint of another training, or a loss that is not finite.
    """
    optimizer = torch.optim.SGD(
        supernet.parameters(), learning_rate, momentum=0.9, weight_decay=weight_decay, nesterov=True
    )
    identity = {"steps": steps, "batch": batch, "seed": seed, "space": supernet.space.to_dict()}
    first = 0
    if checkpoint.exists():
        content = load_checkpoint(checkpoint)
        if content.get("training") != identity:
            raise UserError(f"{checkpoint} is of another training: name another folder")
        supernet.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        first = content["step"]
    for step in range(first, steps):
        start = time.monotonic()
        rate = 0.5 * learning_rate * (1 + np.cos(np.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        random = np.random.default_rng((seed, step))
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        rows = torch.randint(len(pictures), (batch,), generator=generator)
        x = normalise(augmented(pictures.pixels[rows], generator))
        labels, losses = pictures.labels[rows], []
        optimizer.zero_grad(set_to_none=True)
        for point in _sandwich(supernet.space, between, random):
            loss = F.cross_entropy(supernet(x, point), labels, label_smoothing=0.1)
            loss.backward()
            losses.append(loss.item())
        if not np.isfinite(losses).all():
            raise UserError(
                f"the supernet's loss became NaN or infinite at step {step}: lower "
                f"supernet.learning_rate (now {learning_rate})"
            )
        optimizer.step()
        over = is_over()
        if over or step + 1 == steps or (step + 1) % save_every == 0:
            content = {"training": identity, "step": step + 1, "model": supernet.state_dict()}
            save_checkpoint(checkpoint, content | {"optimizer": optimizer.state_dict()})
        report(step + 1, float(np.mean(losses)), time.monotonic() - start)
        if over and step + 1 < steps:
            return False
    return True


def _sandwich(space: Space, between: int, random: np.random.Generator) -> Iterator[Point]:
    """The largest network, the smallest, and some between."""
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


def _kind(choices: tuple[Any, ...], random: np.random.Generator) -> Any:
    """A random kind of module; identity only where there is no other."""
    kinds = [choice for choice in choices if choice != "identity"] or list(choices)
    return kinds[int(random.integers(len(kinds)))]


@torch.no_grad()
def score_part(
    supernet: Supernet,
    point: Mapping[str, int | str],
    train: Pictures,
    judges: Pictures,
    *,
    statistics: int = 1024,
    batch: int = 256,
) -> float:
    """Top-1 in percent on `judges` of a network with its part of the supernet's weights.

    Args:
        statistics: training pictures that its batch norms' statistics are computed from.
    """
    net = supernet.extract(point).to(memory_format=torch.channels_last).train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain mean
    rows = torch.arange(0, len(train), max(len(train) // statistics, 1))[:statistics]
    for some in rows.split(batch):
        net(train.batch(some)[0])
    net.eval()
    right = 0
    for x, labels in judges.batches(batch):
        right += int((net(x).argmax(dim=1) == labels).sum())
    return 100 * right / len(judges)
