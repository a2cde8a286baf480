"""Masks as bits, while a batch waits in a worker process of the loader."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor


class PackedInTransit(Tensor):
    """A tensor of zeros and ones that is pickled as bits, and unpickled as a plain tensor.

    So it takes an eighth of its memory between processes. Operations return plain tensors.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __reduce_ex__(self, protocol: int) -> tuple[Any, ...]:
        bits = torch.from_numpy(np.packbits(self.numpy()))
        return _unpacked, (bits, self.shape, self.dtype)


def packed_in_transit(masks: Tensor) -> Tensor:
    """The same masks, bool or uint8 of zeros and ones, as a `PackedInTransit`."""
    return masks.as_subclass(PackedInTransit)


def _unpacked(bits: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    values = np.unpackbits(bits.numpy(), count=math.prod(shape))
    return torch.from_numpy(values).view(shape).view(dtype)
