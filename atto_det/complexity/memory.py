"""Peak memory of the parts of a network: the tensors alive at the fullest moment of inference."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from atto_det.complexity.count import Part


def peak_memory(parts: Iterable[Part]) -> dict[str, int]:
    """Bytes of all tensors alive at the fullest moment of each part's forward pass, by name.

    Counted are weights, inputs, intermediate results and outputs; memory that an operation needs
    internally (a convolution's scratch space) is not visible. Runs eagerly, without gradients, and
    on the meta device without computing anything. Of several parts with one name, the highest
    counts.
    """
    peaks: dict[str, int] = {}
    for name, module, inputs in parts:
        with torch.no_grad(), _Alive() as alive:
            alive.add([*module.parameters(), *module.buffers(), inputs])
            module(*inputs)
        peaks[name] = max(peaks.get(name, 0), alive.peak)
    return peaks


class _Alive(TorchDispatchMode):
    """Adds up the storages that are alive after each operation."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[StorageWeakRef, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.add(result)
        return result

    def add(self, tensors: Any) -> None:
        self.sizes = {ref: size for ref, size in self.sizes.items() if not ref.expired()}
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.sizes[StorageWeakRef(storage)] = storage.nbytes()
        self.peak = max(self.peak, sum(self.sizes.values()))
