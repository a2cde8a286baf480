"""A model whose numbers are not finite silently finds nothing: here that is an error.

Both engines drop regions of NaN, so that a broken model looks like one that saw an empty street.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from atto_det.errors import UserError

# What gives scores, offsets and masks, in Detectron2 and in torchvision: RPN, RetinaNet, heads.
_LAST = re.compile(r"(.*\.)?(rpn_head|head|box_predictor|roi_heads)(\.\d+)?")


@contextmanager
def finite_outputs(model: nn.Module) -> Iterator[None]:
    """Within it the scores, offsets and masks of `model` are checked.

    Raises:
        UserError: one is not finite; it names the module.
    """

    def check(name: str) -> Any:
        def hook(module: nn.Module, inputs: object, output: Any) -> None:
            if not all(bool(tensor.isfinite().all()) for tensor in _tensors(output)):
                raise UserError(
                    f"the model's {name} gives numbers that are not finite: its weights are broken "
                    "(take an earlier checkpoint), or the numbers in it are too large (check "
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
    """All tensors of floating point in what a module gives, instances of Detectron2 included."""
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
