"""Rewritten networks compute what they computed before."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from atto_det.export.rewrite import (
    CopyingPyramid,
    JointRPNHead,
    RepeatedDepthwise,
    fill_narrow_groups,
    for_8_bits,
    split_multipliers,
)
from atto_det.nets import create_backbone, list_backbones, make_norm, separable_conv
from atto_det.ops.fold_norms import folded, is_norm
from atto_det.torchvision.modules import SeparableRPNHead


def stirred(net: nn.Module) -> nn.Module:
    """`net` in double precision, in evaluation mode, with norms that all do something."""
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if is_norm(module):
            for name, low, high in (
                ("weight", 0.5, 1.5),
                ("bias", -0.5, 0.5),
                ("running_mean", -0.5, 0.5),
                ("running_var", 0.5, 2.0),
            ):
                getattr(module, name).data.uniform_(low, high, generator=generator)
    return net.double().eval()


def picture(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("norm", ["BN", "FrozenBN"])
@pytest.mark.parametrize("name", list_backbones("att*"))
def test_a_network_stays_the_same_function(name, norm):
    net = stirred(create_backbone(name, norm=norm))
    before = copy.deepcopy(net.state_dict())
    without_norms = folded(net)
    split = for_8_bits(without_norms)
    assert not any(is_norm(m) for m in without_norms.modules())
    assert not any(
        m.groups > 1
        and (m.out_channels != m.in_channels if m.groups == m.in_channels else m.groups > 4)
        for m in split.modules()
        if isinstance(m, nn.Conv2d)
    )
    x = picture(1, 3, 65, 90)
    with torch.no_grad():
        wanted, once, twice = net(x), without_norms(x), split(x)
        single = split.float()(x.float())
    for key, value in wanted.items():
        scale = value.abs().max()
        assert (once[key] - value).abs().max() < 1e-12 * scale
        assert (twice[key] - value).abs().max() < 1e-12 * scale
        assert (single[key] - value).abs().max() < 3e-6 * scale
    assert all(value.equal(net.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize(
    ("inputs", "outputs", "groups", "left"),
    [(24, 36, 4, 1), (60, 8, 4, 1), (64, 8, 4, 4), (8, 8, 8, 8), (8, 4, 1, 1)],
)
def test_narrow_groups_are_filled(inputs, outputs, groups, left):
    conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, groups=groups)
    net = nn.Sequential(conv).double()
    [dense] = fill_narrow_groups(net)
    assert (conv.groups, dense.groups) == (groups, left)
    x = picture(2, inputs, 9, 7)
    torch.testing.assert_close(dense(x), net(x))


def test_the_order_of_repeated_channels():
    conv = nn.Conv2d(2, 6, 1, groups=2)
    conv.weight.data = torch.tensor([1.0, 2, 3, 10, 20, 30])[:, None, None, None]
    conv.bias.data = torch.arange(6.0)
    layer = RepeatedDepthwise(conv)
    # Two channels thrice: a b a b a b.
    assert layer.order.tolist() == [0, 3, 1, 4, 2, 5]
    out = layer(torch.tensor([1.0, 100.0])[None, :, None, None]).flatten()
    assert out.tolist() == [1.0, 1003.0, 3.0, 2004.0, 5.0, 3005.0]


def test_norms_must_be_folded_first():
    with pytest.raises(ValueError, match="fold the batch norms"):
        split_multipliers(create_backbone("attonet_d"))


def test_each_level_of_the_rpn_keeps_its_norm():
    head = stirred(SeparableRPNHead(6, 3, 3, "BN"))
    levels = [picture(1, 6, 5, 4), picture(1, 6, 3, 3), picture(1, 6, 1, 2)]
    alone = folded(head)
    assert not any(is_norm(m) for m in alone.modules())
    with torch.no_grad():
        for wanted, found in zip(head(levels), alone(levels), strict=True):
            for a, b in zip(wanted, found, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    without = SeparableRPNHead(6, 3, 3, "").double()
    torch.testing.assert_close(folded(without)(levels), without(levels))


def test_a_convolution_with_a_bias_and_one_without_a_norm():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), make_norm("BN", 4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    net.append(separable_conv(2, 5, norm="BN"))
    net, x = stirred(net), picture(2, 3, 9, 8)
    with torch.no_grad():
        torch.testing.assert_close(folded(net)(x), net(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("head", [RPNHead(8, 3), SeparableRPNHead(8, 3, 2, "")])
def test_an_rpn_head_with_one_last_layer_stays_the_same_function(head):
    head = stirred(head)
    for layer in (head.cls_logits, head.bbox_pred):
        nn.init.normal_(layer.bias)
    maps = [picture(2, 8, 5, 6), picture(2, 8, 3, 3)]
    with torch.no_grad():
        wanted, found = head(maps), JointRPNHead(head)(maps)
    for one, other in zip(wanted, found, strict=True):
        assert [level.shape for level in one] == [level.shape for level in other]
        for level, same in zip(one, other, strict=True):
            assert torch.allclose(level, same, rtol=0, atol=1e-12)


def test_a_pyramid_that_copies_stays_the_same_function():
    fpn = FeaturePyramidNetwork([3, 5, 7], 4, LastLevelMaxPool()).double()
    stages = {f"s{i}": picture(2, 3 + 2 * i, 12 >> i, 20 >> i) for i in range(3)}
    with torch.no_grad():
        wanted, found = fpn(stages), CopyingPyramid(fpn)(stages)
    assert list(wanted) == list(found) == ["s0", "s1", "s2", "pool"]
    assert all(torch.equal(value, found[name]) for name, value in wanted.items())
