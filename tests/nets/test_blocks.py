"""The depthwise-separable convolution."""

import pytest
import torch
from torch import nn

from atto_det.errors import UserError
from atto_det.nets import NORMS, create_backbone, reset_lengths, separable_conv
from atto_det.nets.blocks import START_LENGTH, conv_norm, freeze


def names(block: nn.Module) -> list[str]:
    return [name for name, _ in block.named_children()]


def test_without_norm_the_second_convolution_has_a_bias():
    block = separable_conv(4, 6, norm="")
    assert names(block) == ["depthwise", "pointwise", "relu"]
    assert sum(p.numel() for p in block.parameters()) == 9 * 4 + 4 * 6 + 6


@pytest.mark.parametrize("norm", NORMS)
def test_with_norm_it_has_none(norm):
    block = separable_conv(4, 6, norm=norm, relu=False)
    assert names(block) == ["depthwise", "pointwise", "norm"]
    assert block.pointwise.bias is None
    assert block.eval()(torch.zeros(2, 4, 5, 7)).shape == (2, 6, 5, 7)


def test_each_channel_is_filtered_alone_and_mixed_after():
    block = separable_conv(2, 3, norm="", relu=False)
    x = torch.randn(1, 2, 5, 5)
    filters, mix = block.depthwise.weight, block.pointwise.weight
    full = torch.einsum("oiyx,ikyx->oiyx", mix.expand(3, 2, 3, 3), filters)
    torch.testing.assert_close(block(x), nn.functional.conv2d(x, full, padding=1))


@pytest.mark.parametrize("relu", [False, True])
def test_the_variance_stays(relu):
    """Linear: the variance; before a ReLU: twice it, so that the mean square behind it stays."""
    torch.manual_seed(0)
    x = torch.randn(2, 96, 32, 32)
    for _ in range(3):
        x = separable_conv(96, 96, norm="", relu=relu)(x)
    inner = x[..., 3:-3, 3:-3]  # the border sees zeros
    assert 0.8 < inner.square().mean() ** 0.5 < 1.2


def test_a_step_of_sgd_moves_a_pixel_as_far_as_that_of_a_full_convolution():
    torch.manual_seed(0)
    x = torch.randn(64, 96, 3, 3)
    full = nn.Conv2d(96, 96, 3, padding=1, bias=False)
    separable = separable_conv(96, 96, norm="", relu=False)
    moved = []
    for block, layer in ((full, full), (separable, separable.pointwise)):
        middle = block(x)[:, 0, 1, 1]
        for index in range(len(x)):  # each picture's own step, as they would add up
            [step] = torch.autograd.grad(middle[index], layer.weight, retain_graph=True)
            moved.append(step.square().sum().item())
    ours, theirs = sum(moved[len(x) :]), sum(moved[: len(x)])
    assert 0.8 < ours / theirs < 1.25


def test_an_unknown_norm_is_a_sentence():
    with pytest.raises(UserError, match="unknown norm 'GN': choose one of"):
        separable_conv(4, 4, norm="GN")


def lengths(block: nn.Sequential) -> torch.Tensor:
    return block.conv.weight.detach().flatten(1).norm(dim=1)


@pytest.mark.parametrize(("inputs", "size", "groups"), [(64, 1, 1), (16, 3, 1), (256, 3, 256)])
def test_filters_start_with_one_length_in_the_mean(inputs, size, groups):
    block = conv_norm(inputs, 256, size, groups=groups)
    assert float(lengths(block).square().mean().sqrt()) == pytest.approx(START_LENGTH, rel=0.03)


def test_other_lengths_change_no_feature():
    """In double precision, after a training that left filters of all lengths, and one of zero."""
    net = create_backbone("attonet_d").double()
    for block in net.modules():
        if hasattr(block, "conv") and hasattr(block, "norm"):
            block.conv.weight.data *= torch.rand(len(block.conv.weight), 1, 1, 1).mul(8).exp()
            block.norm.running_mean.normal_()
            block.norm.running_var.uniform_(1e-4, 2)  # some so small that eps counts
            block.norm.weight.data.uniform_(0.5, 2)
    net.stem.conv.conv.weight.data[0] = 0
    x = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    before = net.eval()(x)
    reset_lengths(net)
    for name, value in net(x).items():
        torch.testing.assert_close(value, before[name], rtol=1e-9, atol=1e-9)
    for name, block in net.named_modules():
        if hasattr(block, "conv") and hasattr(block, "norm"):
            ratio = lengths(block) / START_LENGTH
            live = ratio[1:] if name == "stem.conv" else ratio
            assert 0.7 < float(live.min()) <= float(live.max()) < 1.42


def test_filters_before_frozen_norms_keep_their_length():
    block = conv_norm(4, 8)
    block.conv.weight.data *= 100
    freeze(block)
    before = block.conv.weight.clone()
    reset_lengths(block)
    assert torch.equal(block.conv.weight, before)
