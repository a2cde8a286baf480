"""Squeeze-and-excitation: by hand, as timm's, its cost, and what it cannot be."""

import pytest
import torch
from timm.layers import SqueezeExcite
from torch import nn

from atto_det.complexity.count import count
from atto_det.errors import UserError
from atto_det.nets import AttoModuleSpec, Backbone, BackboneSpec, ImageClassifier
from atto_det.nets.cost import classifier_cost
from atto_det.nets.spec_file import spec_from_dict, spec_to_dict
from atto_det.nets.squeeze import SqueezeExcitationSpec
from atto_det.reports.table2 import parameters

SPEC = SqueezeExcitationSpec(squeeze=3, expand=8)


@pytest.mark.parametrize("size", [(6, 5), (1, 1)])
@torch.no_grad()
def test_by_hand_and_as_timm_does_it(size):
    torch.manual_seed(0)
    module = SPEC.build(8, opens=False, stride=1, norm="BN").double()
    timm = SqueezeExcite(8, rd_channels=3).double()
    timm.load_state_dict(module.state_dict())
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    squeezed = x.mean(dim=(2, 3)) @ module.fc1.weight[:, :, 0, 0].T + module.fc1.bias
    excited = squeezed.clamp(min=0) @ module.fc2.weight[:, :, 0, 0].T + module.fc2.bias
    wanted = x / (1 + (-excited).exp())[:, :, None, None]
    torch.testing.assert_close(module(x), wanted)
    torch.testing.assert_close(timm(x), wanted)


def test_a_network_with_it():
    atto = AttoModuleSpec(2, 2, 3, 8)
    stages = dict.fromkeys(("res2", "res3", "res4", "res5"), (atto, SPEC, atto))
    spec = BackboneSpec(stem=4, **stages)
    assert spec_from_dict(spec_to_dict(spec), "it") == spec
    with torch.device("meta"):
        net = ImageClassifier(Backbone(spec, ("res5",)), 5).eval()
    [cost] = count([("", net, (torch.empty(1, 3, 65, 65, device="meta"),))])
    assert classifier_cost(spec, classes=5, size=65) == (parameters(net), cost.macs)
    backbone = Backbone(spec, ("res2", "res5")).eval()
    scripted = torch.jit.script(backbone)
    x = torch.randn(1, 3, 33, 47)
    for name, value in scripted(x).items():
        torch.testing.assert_close(value, backbone(x)[name])
    nn.Module.train(backbone)
    sum(value.sum() for value in backbone(x).values()).backward()
    assert backbone.res2[1].fc1.weight.grad.abs().sum() > 0


def test_what_cannot_be_is_a_sentence():
    with pytest.raises(UserError, match="squeeze-and-excitation's squeeze is 0: it must be"):
        SqueezeExcitationSpec(0, 8)
    for wrong in ({"opens": True}, {"stride": 2}, {"in_channels": 7}):
        given = {"in_channels": 8, "opens": False, "stride": 1} | wrong
        with pytest.raises(UserError, match="keeps size and channels"):
            SPEC.build(given.pop("in_channels"), norm="BN", **given)
    atto = {"kind": "atto", "compress": 2, "multiplier": 1, "mix": 2, "expand": 8}
    opening = {"kind": "squeeze_excitation", "squeeze": 3, "expand": 8}
    content = {"stem": 4, "res2": [atto], "res3": [atto], "res4": [atto], "res5": [atto]}
    with pytest.raises(UserError, match="res3 opens with a squeeze_excitation, which keeps"):
        spec_from_dict(content | {"res3": [opening]}, "it")
