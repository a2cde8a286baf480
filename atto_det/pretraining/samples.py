"""Samples and batches; random numbers that depend only on what they are used for."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from atto_det.errors import UserError
from atto_det.training.batches import restored_generators

SampleKey = tuple[int, int]  # epoch or number of a crop; index of the picture


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Seed this process's random numbers by `numbers`; the former state is restored afterwards."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    state = torch.get_rng_state()
    with restored_generators():
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            torch.set_rng_state(state)


def collate(samples: list[tuple | Tensor | UserError]) -> list[Tensor] | Tensor | UserError:
    """Samples as tensors (B, …); if there are errors, the first one instead."""
    errors = (sample for sample in samples if isinstance(sample, UserError))
    return next(errors, None) or default_collate(samples)
