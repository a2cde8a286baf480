"""Networks by name: registered, listed, unknown, and one of the user's own."""

import dataclasses

import pytest
import torch

from atto_det.errors import UserError
from atto_det.nets import (
    ATTONETS,
    AttoModuleSpec,
    Backbone,
    BackboneSpec,
    create_backbone,
    create_classifier,
    get_spec,
    list_backbones,
    register_backbone,
)
from atto_det.nets import registry as registry_module

TINY = BackboneSpec(
    stem=4,
    res2=(AttoModuleSpec(2, 2, 3, 8),),
    res3=(AttoModuleSpec(2, 2, 3, 10), AttoModuleSpec(3, 1, 2, 10)),
    res4=(AttoModuleSpec(4, 2, 3, 12),),
    res5=(AttoModuleSpec(4, 2, 3, 14),),
)


@pytest.fixture
def own_networks(monkeypatch):
    """The registry, as it was again afterwards."""
    monkeypatch.setattr(registry_module, "_SPECS", dict(registry_module._SPECS))


def test_attonets_are_registered():
    assert list_backbones("attonet_*") == list(ATTONETS)
    assert set(ATTONETS) <= set(list_backbones())
    assert list_backbones("resnet*") == []
    assert get_spec("attonet_b") is ATTONETS["attonet_b"]


@pytest.mark.parametrize("name", list_backbones())
def test_every_network_does_what_the_registry_promises(name):
    net = create_backbone(name).eval()
    assert isinstance(net, Backbone)
    assert [part for part, _ in net.named_children()] == ["stem", "res2", "res3", "res4", "res5"]
    assert net.stem.conv.conv.in_channels == 3
    assert hash(net.spec) == hash(get_spec(name))  # frozen
    with torch.no_grad():
        maps = net(torch.zeros(1, 3, 65, 97))
    assert list(maps) == ["res2", "res3", "res4", "res5"]
    sizes = [(17, 25), (9, 13), (5, 7), (3, 4)]
    for (feature, value), size in zip(maps.items(), sizes, strict=True):
        assert value.shape == (1, net.channels[feature], *size)
    scripted = torch.jit.script(net)
    x = torch.randn(1, 3, 65, 97)
    for feature, value in scripted(x).items():
        assert torch.equal(value, net(x)[feature])


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("attonet-a", "attonet_a"), ("AttoNet_B", "attonet_b"), ("atonet_c", "attonet_c")],
)
def test_an_unknown_name_gives_the_nearest(name, nearest):
    with pytest.raises(UserError, match=rf"'{name}': choose one of .*\(nearest: {nearest}\)"):
        create_backbone(name)


def test_a_name_far_from_all_gives_none():
    with pytest.raises(UserError, match=r"MODEL\.X is 'zzz': choose one of attonet_a") as caught:
        get_spec("zzz", "MODEL.X")
    assert "nearest" not in str(caught.value)


@pytest.mark.usefixtures("own_networks")
def test_a_network_of_ones_own():
    register_backbone("tiny", TINY)
    register_backbone("tiny", dataclasses.replace(TINY))  # the same again, as in a reload
    assert list_backbones()[-1] == "tiny"
    net = create_backbone("tiny", ["res3", "res5"], in_chans=1).eval()
    assert net.channels == {"res3": 10, "res5": 14}
    assert create_classifier("tiny", 3, in_chans=4).eval()(torch.zeros(2, 4, 32, 32)).shape == (
        2,
        3,
    )
    with pytest.raises(UserError, match="another network 'tiny' already"):
        register_backbone("tiny", dataclasses.replace(TINY, stem=5))
    with pytest.raises(UserError, match="another network 'attonet_a' already"):
        register_backbone("attonet_a", TINY)


def test_channels_of_the_images():
    assert create_backbone("attonet_d", in_chans=1).stem.conv.conv.weight.shape == (3, 1, 7, 7)
    with pytest.raises(UserError, match="in_chans is 0: images have at least one channel"):
        create_backbone("attonet_d", in_chans=0)
