"""Weights on an 8-bit grid: the grid, its gradient, and what folding a batch norm does to it."""

import copy

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from atto_det.nets import create_classifier
from atto_det.nets.quantisation import (
    dequantise,
    fake_quantise,
    quantise,
    quantised_call,
    scales,
    weight_names,
)


def test_a_grid_worked_out_by_hand():
    weight = torch.tensor([[127.0, -63.6, 0.4], [1.27, 0.014, -0.016]])
    expected = torch.tensor([[127.0, -64.0, 0.0], [1.27, 0.01, -0.02]])
    torch.testing.assert_close(scales(weight), torch.tensor([1.0, 0.01]))
    torch.testing.assert_close(fake_quantise(weight), expected)


def test_largest_weights_stay_as_they_are_on_both_sides():
    weight = torch.tensor([[-3.0, 2.0], [3.0, -2.0], [0.0, 0.0]])
    assert torch.equal(fake_quantise(weight)[:, 0], weight[:, 0])
    assert torch.equal(fake_quantise(weight)[2], weight[2])


def test_the_gradient_passes_straight_through():
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    fake_quantise(weight).sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))


@given(st.integers(0, 10_000))
def test_folding_a_batch_norm_keeps_the_integers(seed):
    random = torch.Generator().manual_seed(seed)
    conv = nn.Conv2d(6, 12, 3, groups=3, bias=False).eval()
    norm = nn.BatchNorm2d(12).eval()
    norm.weight.data = torch.randn(12, generator=random)  # of both signs
    norm.running_var = torch.rand(12, generator=random) + 0.1
    conv.weight.data = torch.randn(conv.weight.shape, generator=random)
    rounded = copy.deepcopy(conv)
    rounded.weight.data = fake_quantise(conv.weight.data)
    folded = fuse_conv_bn_eval(rounded, norm).weight.data
    # Already on a grid of 255 levels: rounding the folded weights once more changes nothing.
    torch.testing.assert_close(fake_quantise(folded), folded)
    integers = (folded / scales(folded).view(-1, 1, 1, 1)).round()
    sign = norm.weight.data.sign().view(-1, 1, 1, 1)
    steps = scales(conv.weight.data).view(-1, 1, 1, 1)
    assert torch.equal(integers * sign, (rounded.weight.data / steps).round())


def test_a_network_computes_with_rounded_weights_and_trains_its_own():
    net = create_classifier("attonet_d", 5).eval()
    before = copy.deepcopy(net.state_dict())
    images = torch.randn(2, 3, 64, 64)
    reference = copy.deepcopy(net)
    names = weight_names(net)
    assert len(names) == sum(p.ndim > 1 for p in net.parameters())
    for key in names:
        parameter = reference.get_parameter(key)
        parameter.data = fake_quantise(parameter.data)
    torch.testing.assert_close(quantised_call(net, images), reference(images))
    quantised_call(net, images).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


@given(st.integers(0, 10_000), st.sampled_from([(5, 3, 3, 3), (4, 7), (6, 1, 1, 1)]))
def test_integers_and_steps_give_the_rounded_weight(seed, shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 10
    integers, steps = quantise(weight)
    assert integers.dtype == torch.int8
    assert integers.abs().max() == 127
    assert torch.equal(dequantise(integers, steps), fake_quantise(weight))
    assert torch.equal(steps, scales(weight))
