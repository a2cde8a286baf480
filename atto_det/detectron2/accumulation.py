"""Training on a batch in parts, whose gradients are accumulated."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from atto_det.training.batches import parts_of

Losses = dict[str, Tensor]


class Accumulating(nn.Module):
    """A model in training that processes a batch in parts and needs the memory of one part.

    When the losses are returned, all parts but the last have been backpropagated; the caller does
    this for the last. Their values are means over the parts. Gradients must be zeroed before.

    Args:
        model: from a list of pictures to losses.
        count: number of parts; the batch size must be divisible by it.
        backward: backpropagates a loss.
    """

    def __init__(
        self, model: nn.Module, count: int, backward: Callable[[Tensor], None] = Tensor.backward
    ) -> None:
        super().__init__()
        self.model, self.count, self.backward = model, count, backward

    def forward(self, batch: list[dict]) -> Losses | list[dict]:
        """Losses in training; in evaluation, the model's output."""
        if not self.training:
            return self.model(batch)
        *earlier, last = parts_of(batch, self.count)
        spent: Losses = {}
        for part in earlier:
            distributed = isinstance(self.model, DistributedDataParallel)
            with self.model.no_sync() if distributed else nullcontext():  # sync with the last part
                losses = self._share(part)
                with torch.autocast("cuda", enabled=False):
                    self.backward(sum(losses.values()))
            spent = {key: spent.get(key, 0) + value.detach() for key, value in losses.items()}
        return {key: value + spent[key] for key, value in self._share(last).items()}

    def _share(self, part: list[dict]) -> Losses:
        """The contribution of a part to the mean."""
        return {key: value / self.count for key, value in self.model(part).items()}
