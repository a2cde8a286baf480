"""Fused layers compute what torch's own do, wherever they are used."""

import copy

import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from atto_det.detectron2 import fusion
from atto_det.detectron2.inference import optimise_for_inference

DEFAULT, LAST = torch.contiguous_format, torch.channels_last


def fused(layer: nn.Module) -> nn.Module:
    layer = copy.deepcopy(layer).requires_grad_(False)
    fusion.fuse(layer)
    return layer


def same(one: torch.Tensor, other: torch.Tensor) -> None:
    scale = max(other.abs().max().item(), 1) if other.numel() else 1
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * scale)


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """Names of the direct calls of oneDNN that were made."""
    made = []

    class Ops:
        def __getattr__(self, name):
            made.append(name)
            return getattr(original, name)

    original = torch.ops.mkldnn
    monkeypatch.setattr(torch.ops, "mkldnn", Ops(), raising=False)
    return made


@settings(max_examples=40)
@given(
    kernel=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
    dilation=st.sampled_from([1, 2]),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
    relu=st.booleans(),
    batch=st.integers(0, 3),
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    orders=st.tuples(st.sampled_from([DEFAULT, LAST]), st.sampled_from([DEFAULT, LAST])),
)
def test_convolutions(kernel, stride, dilation, groups, bias, relu, batch, size, orders):
    padding = kernel // 2
    conv = nn.Conv2d(4, 12, kernel, stride, padding, dilation, groups, bias)
    plain = nn.Sequential(conv, nn.ReLU()) if relu else nn.Sequential(conv)
    layer = fused(plain).to(memory_format=orders[0])
    assert isinstance(layer[0], fusion.FusedConv)
    assert not any(isinstance(module, nn.ReLU) for module in layer)
    x = torch.randn(batch, 4, *size).to(memory_format=orders[1])
    with torch.inference_mode():
        expected = plain(x)
        same(layer(x), expected)
        total = torch.randn(expected.shape).to(memory_format=orders[1])
        added = total + conv(x)
        result = layer[0].add_to(total, x, relu=relu)
    assert result.data_ptr() == total.data_ptr()
    same(result, added.relu() if relu else added)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5), (0, 5)])
def test_dense_layers(relu, shape):
    plain = nn.Sequential(nn.Linear(5, 7), *[nn.ReLU()] * relu)
    layer = fused(plain)
    x = torch.randn(shape)
    with torch.inference_mode():
        assert isinstance(layer[0], fusion.FusedLinear)
        same(layer(x), plain(x))


def test_detectron2_s_convolution_with_an_activation():
    plain = Conv2d(3, 8, 3, padding=1, activation=nn.ReLU())
    layer = fused(nn.Sequential(plain))
    x = torch.randn(2, 3, 6, 7)
    with torch.inference_mode():
        same(layer(x), plain(x))
        assert (layer(x) == 0).any()


def test_what_oneDNN_does_not_take_goes_to_torch(calls):
    conv = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    x = torch.randn(1, 3, 4, 4)
    layer = fused(conv)
    with torch.no_grad():
        layer(x)
        assert calls == ["_convolution_pointwise"]
        same(fused(conv.double())(x.double()).float(), conv.double()(x.double()).float())
        conv.float()
    y = x.clone().requires_grad_()
    layer(y).sum().backward()
    assert y.grad.abs().sum() > 0
    with torch.no_grad():
        graph = torch.jit.trace(layer, x, check_trace=False).inlined_graph
        exported = torch.export.export(layer, (x,)).graph
    assert "mkldnn" not in f"{graph}{exported}"
    assert layer.to("meta")(x.to("meta")).shape == (1, 4, 4, 4)
    assert calls == ["_convolution_pointwise"]


def test_a_convolution_in_two_places_keeps_the_relu_behind_it_apart():
    conv = nn.Conv2d(3, 3, 1)
    model = fused(nn.ModuleList([nn.Sequential(conv, nn.ReLU()), nn.Sequential(conv)]))
    x = torch.randn(1, 3, 4, 4)
    with torch.inference_mode():
        same(model[0](x), conv(x).relu())
        same(model[1](x), conv(x))


def test_other_padding_and_other_classes_stay():
    class Own(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    kinds = [nn.Conv2d(3, 3, 3, padding="same"), nn.Conv2d(3, 3, 1, padding_mode="reflect")]
    model = fused(nn.Sequential(*kinds, Own(3, 3, 1), nn.ReLU()))
    assert [type(module) for module in model] == [nn.Conv2d, nn.Conv2d, Own, nn.ReLU]


class _Levels(Backbone):
    """Two feature maps from a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 6, 4, 4), nn.Conv2d(6, 8, 2, 2)

    def forward(self, x):
        x = self.fine(x)
        return {"res2": x, "res5": self.coarse(x)}

    def output_shape(self):
        return {"res2": ShapeSpec(channels=6, stride=4), "res5": ShapeSpec(channels=8, stride=8)}


@pytest.mark.parametrize("fuse_type", ["sum", "avg"])
@pytest.mark.parametrize("top", [None, LastLevelMaxPool, lambda: LastLevelP6P7(8, 10)])
def test_fpn(top, fuse_type):
    top = top and top()
    if isinstance(top, LastLevelMaxPool):
        top.in_feature = "p3"  # by default p5, which two levels do not have
    fpn = FPN(_Levels(), ["res2", "res5"], 10, top_block=top, fuse_type=fuse_type).eval()
    faster = optimise_for_inference(copy.deepcopy(fpn))
    assert (type(faster) is FPN) == (fuse_type == "avg")
    x = torch.randn(2, 3, 32, 48)
    with torch.inference_mode():
        expected, found = fpn(x), faster(x)
    assert list(expected) == list(found)
    for name, one in expected.items():
        same(found[name], one)
