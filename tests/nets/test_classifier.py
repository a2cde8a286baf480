"""A classifier has a backbone; its weights keep the names that they have in files."""

import copy

import torch
from torch import nn

from atto_det.nets import create_backbone, create_classifier


def test_it_has_a_backbone():
    net = create_classifier("attonet_d", 3).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        pooled = net.backbone(x)["res5"].mean((2, 3))
        assert torch.equal(net(x), net.fc(pooled))


def test_names_in_a_state_dict_are_those_of_older_files():
    net = create_classifier("attonet_d", 3)
    plain = list(create_backbone("attonet_d").state_dict())
    assert list(net.state_dict()) == [*plain, "fc.weight", "fc.bias"]
    assert plain[0] == "stem.conv.conv.weight"
    old = {key: torch.rand_like(value.float()) for key, value in net.state_dict().items()}
    given = dict(old)
    assert str(net.load_state_dict(given)) == "<All keys matched successfully>"
    assert list(given) == list(old)  # the caller's own stays as it is
    for key, value in net.state_dict().items():
        assert torch.equal(value.float(), old[key].to(value.dtype).float()), key
    twin = copy.deepcopy(create_classifier("attonet_d", 3))
    twin.load_state_dict(net.state_dict())
    assert torch.equal(twin.backbone.stem.conv.conv.weight, old["stem.conv.conv.weight"])


def test_names_within_another_module():
    outer = nn.ModuleDict({"net": create_classifier("attonet_d", 3), "stem": nn.Linear(1, 1)})
    state = outer.state_dict()
    assert {"net.stem.conv.conv.weight", "net.fc.bias", "stem.weight"} <= set(state)
    assert not [key for key in state if "backbone" in key]
    other = nn.ModuleDict({"net": create_classifier("attonet_d", 3), "stem": nn.Linear(1, 1)})
    other.load_state_dict(state)
    for key, value in other.state_dict().items():
        assert torch.equal(value, state[key])


def test_what_is_missing_and_left_over_is_reported():
    net = create_classifier("attonet_d", 3)
    state = net.state_dict()
    del state["res2.0.mix.conv.weight"]
    state["res6.weight"] = torch.zeros(1)
    result = net.load_state_dict(state, strict=False)
    assert result.missing_keys == ["backbone.res2.0.mix.conv.weight"]
    assert result.unexpected_keys == ["res6.weight"]


def test_names_of_its_parameters_load_too():
    """As torch.jit.script and torch.distributed write them."""
    net, other = create_classifier("attonet_d", 3), create_classifier("attonet_d", 3)
    state = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    assert "backbone.stem.conv.conv.weight" in state
    other.load_state_dict(state)
    assert torch.equal(other.backbone.stem.conv.conv.weight, net.backbone.stem.conv.conv.weight)
