"""A process that loads pictures and is killed."""

import os
import signal

import pytest
from torch.utils.data import Dataset

from atto_det.errors import UserError
from atto_det.training.batches import load_batches
from atto_det.training.workers import death_as_sentence


class Killed(Dataset):
    """Its second picture ends the process that loads it, as a system without memory does."""

    def __getitem__(self, index: int) -> int:
        if index:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


def test_it_is_a_sentence_that_names_keys():
    says = r"was ended by the system \(DataLoader worker .*\), most often because .*: lower X.Y"
    with pytest.raises(UserError, match=says), death_as_sentence("X.Y"):
        list(load_batches(Killed(), [[0], [1], [0]], 1))


def test_other_errors_are_as_they_were():
    with pytest.raises(RuntimeError, match="another"), death_as_sentence("X.Y"):
        raise RuntimeError("another")
