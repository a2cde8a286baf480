"""The PEPE module: its four layers by hand, shapes, and what it cannot be."""

import pytest
import torch
from torch import nn

from atto_det.errors import UserError
from atto_det.nets.pepe import PEPESpec

SPEC = PEPESpec(project=4, spread=8, reproject=6, expand=12)


@pytest.mark.parametrize("size", [(8, 6), (7, 5), (1, 1)])
@pytest.mark.parametrize("stride", [1, 2])
@torch.no_grad()
def test_the_layers_by_hand(stride, size):
    torch.manual_seed(0)
    module = SPEC.build(10, opens=True, stride=stride, norm="BN").double().eval()
    x = torch.randn(2, 10, *size, dtype=torch.float64)
    y = torch.einsum("oi,bihw->bohw", module.compress.conv.weight[:, :, 0, 0], x)
    y = module.compress.norm(y).clamp(min=0)
    filters = module.depthwise.conv.weight
    padded = nn.functional.pad(y, (1, 1, 1, 1))
    rows, columns = range(0, size[0], stride), range(0, size[1], stride)
    z = torch.zeros(2, 8, len(rows), len(columns), dtype=torch.float64)
    for channel in range(8):
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                seen = padded[:, channel // 2, row : row + 3, column : column + 3]
                z[:, channel, i, j] = (filters[channel, 0] * seen).sum(dim=(1, 2))
    y = module.depthwise.norm(z).clamp(min=0)
    y = torch.einsum("oi,bihw->bohw", module.mix.conv.weight[:, :, 0, 0], y)
    y = module.mix.norm(y).clamp(min=0)
    y = module.expand.norm(torch.einsum("oi,bihw->bohw", module.expand.conv.weight[:, :, 0, 0], y))
    shortcut = torch.einsum(
        "oi,bihw->bohw", module.shortcut.conv.weight[:, :, 0, 0], x[:, :, ::stride, ::stride]
    )
    wanted = (y + module.shortcut.norm(shortcut)).clamp(min=0)
    torch.testing.assert_close(module(x.clone()), wanted)


def test_inside_a_stage_it_starts_as_identity():
    module = SPEC.build(12, opens=False, stride=1, norm="BN")
    x = torch.rand(2, 12, 5, 5)
    assert torch.equal(module(x), x)


def test_gradients():
    torch.manual_seed(0)
    module = SPEC.build(12, opens=True, stride=2, norm="BN").double().eval()
    x = torch.randn(1, 12, 5, 4, dtype=torch.float64, requires_grad=True)
    names = list(dict(module.named_parameters()))

    def outputs(x, *values):
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(outputs, (x, *module.parameters()), eps=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    ("widths", "message"),
    [((4, 6, 6, 12), "spread is 6: .* multiple of its inputs' 4"), ((0, 0, 1, 1), "project is 0")],
)
def test_what_cannot_be_is_a_sentence(widths, message):
    with pytest.raises(UserError, match=message):
        PEPESpec(*widths)
