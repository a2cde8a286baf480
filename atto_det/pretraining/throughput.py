"""Pictures per second of classifiers, in training and inference, timed alternately in one run."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from atto_det.complexity.count import count
from atto_det.complexity.latency import Contestant, Timing, measure

from .networks import create_network


@dataclass(frozen=True)
class Speed:
    """How fast one network is.

    Attributes:
        network: its name.
        macs: multiply-adds for one picture.
        training: of a step: forward, backward, update.
        inference: of a forward pass in evaluation mode.
    """

    network: str
    macs: int
    training: Timing
    inference: Timing


def speeds(
    networks: Sequence[str],
    *,
    input_size: int,
    batch: int,
    classes: int = 50,
    repeats: int = 10,
    device: str = "cpu",
    progress: Callable[[range], Iterable[int]] = iter,
) -> list[Speed]:
    """Time `networks` on random pictures (batch, 3, input_size, input_size), channels last.

    Raises:
        UserError: an unknown network.
    """
    images = torch.randn(batch, 3, input_size, input_size, device=device)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.arange(batch, device=device) % classes
    contestants, macs = [], []
    for name in networks:
        net = create_network(name, classes)
        macs.append(count([(name, net.eval(), (images[:1].cpu(),))])[0].macs)
        net.to(device, memory_format=torch.channels_last)
        contestants += [
            Contestant(name, _training(net, images, labels)),
            Contestant(name, _inference(net, images)),
        ]
    timings = measure(contestants, repeats, batch=batch, device=device, progress=progress)
    pairs = zip(timings[::2], timings[1::2], strict=True)
    return [
        Speed(name, number, training, inference)
        for name, number, (training, inference) in zip(networks, macs, pairs, strict=True)
    ]


def _training(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Callable:
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)

    def step(mark: object) -> None:
        net.train()
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()

    return step


def _inference(net: nn.Module, images: torch.Tensor) -> Callable:
    def forward(mark: object) -> None:
        net.eval()
        with torch.inference_mode():
            net(images)

    return forward
