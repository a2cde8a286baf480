"""Detects models whose outputs are not finite; otherwise they would silently find nothing.

Both engines drop NaN regions, so that a broken model looks like one that saw an empty street.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from atto_det.errors import UserError

# The modules that output scores, offsets and masks in either engine: RPN, RetinaNet, heads.
_LAST = re.compile(r"(.*\.)?(rpn_head|head|box_predictor|roi_heads)(\.\d+)?")


@contextmanager
def finite_outputs(model: nn.Module) -> Iterator[None]:
    """While active, the scores, offsets and masks of `model` are checked.

    Raises:
        UserError: one of them is not finite; it names the module.
    """

    def check(name: str) -> Any:
        def hook(module: nn.Module, inputs: object, output: Any) -> None:
            if not all(bool(tensor.isfinite().all()) for tensor in _tensors(output)):
                raise UserError(
                    f"the model's {name} gives numbers that are not finite: either its weights are "
                    "broken (use an earlier checkpoint), or its inputs are too large (check "
                    "MODEL.PIXEL_MEAN and PIXEL_STD)"
                )

        return hook

    handles = [
        module.register_forward_hook(check(name))
        for name, module in model.named_modules()
        if _LAST.fullmatch(name)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tensors(output: Any) -> Iterator[Tensor]:
    """All floating-point tensors in the output of a module, including Detectron2's instances."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif hasattr(output, "get_fields"):
        yield from _tensors(output.get_fields())
    elif hasattr(output, "tensor"):
        yield from _tensors(output.tensor)
    elif isinstance(output, dict):
        yield from _tensors(list(output.values()))
    elif isinstance(output, list | tuple):
        for part in output:
            yield from _tensors(part)
