"""AttoNets and AttendNets made by timm: registered, the same network, timm's own habits."""

import importlib
import warnings

import pytest
import timm
import torch
from awake import awake
from torch import nn

import atto_det.timm
from atto_det import create_backbone, create_classifier
from atto_det.errors import UserError
from atto_det.nets import ATTENDNETS, STAGES

CHANNELS = {
    "attonet_a": [8, 176, 400, 808, 952],
    "attonet_b": [8, 168, 368, 728, 736],
    "attonet_c": [6, 139, 328, 628, 527],
    "attonet_d": [3, 112, 264, 467, 140],
    **{
        name: [spec.stem, *(getattr(spec, stage)[0].expand for stage in STAGES)]
        for name, spec in ATTENDNETS.items()
    },
}
every_variant = pytest.mark.parametrize("name", CHANNELS)


def shown(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(seed))


def test_timm_lists_them():
    names = timm.list_models("attonet_*") + timm.list_models("attendnet_*")
    assert names == list(CHANNELS)


def test_registering_again_changes_nothing():
    before = timm.model_entrypoint("attonet_a")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.reload(atto_det.timm)
    assert timm.model_entrypoint("attonet_a") is before
    assert timm.create_model("attonet_d", num_classes=2).num_classes == 2


@every_variant
def test_same_network_as_the_classifier(name):
    model = timm.create_model(name, num_classes=50).eval()
    ours = awake(create_classifier(name, 50)).eval()
    model.load_state_dict(ours.state_dict())  # strict: the same names
    with torch.no_grad():
        assert torch.allclose(model(shown()), ours(shown()), atol=1e-6)
        features = model.forward_features(shown())
        assert torch.allclose(model.forward_head(features), ours(shown()), atol=1e-6)
        assert torch.equal(model.forward_head(features, pre_logits=True), features.mean((2, 3)))
    assert features.shape == (2, CHANNELS[name][-1], 2, 3)
    assert model.num_features == model.head_hidden_size == CHANNELS[name][-1]


@every_variant
def test_same_features_as_the_backbone(name):
    model = timm.create_model(name, features_only=True).eval()
    backbone = awake(create_backbone(name)).eval()
    model.load_state_dict(backbone.state_dict())  # strict: the same names, and no head
    with torch.no_grad():
        levels, expected = model(shown()), backbone(shown())
    assert model.feature_info.channels() == CHANNELS[name]
    assert model.feature_info.reduction() == [2, 4, 8, 16, 32]
    sizes = [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]
    assert [level.shape[1:] for level in levels] == [
        (channels, *size) for channels, size in zip(CHANNELS[name], sizes, strict=True)
    ]
    for level, feature in zip(levels[1:], expected.values(), strict=True):
        assert torch.allclose(level, feature, atol=1e-6)


@pytest.mark.parametrize(
    ("indices", "reductions"),
    [((1, 2, 3, 4), [4, 8, 16, 32]), ((2,), [8]), ((-1,), [32]), ((0, 3), [2, 16])],
)
def test_out_indices(indices, reductions):
    model = timm.create_model("attonet_d", features_only=True, out_indices=indices).eval()
    assert model.feature_info.reduction() == reductions
    with torch.no_grad():
        levels = model(shown())
    assert [64 // level.shape[2] for level in levels] == reductions
    assert [level.shape[1] for level in levels] == model.feature_info.channels()


@every_variant
def test_features_train(name):
    model = timm.create_model(name, features_only=True)
    sum(level.square().sum() for level in model(shown())).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_default_cfg():
    cfg = timm.create_model("attonet_b").default_cfg
    assert cfg["input_size"] == (3, 224, 224)
    assert cfg["mean"] == (0.485, 0.456, 0.406)
    assert cfg["std"] == (0.229, 0.224, 0.225)
    assert cfg["license"] == "apache-2.0"
    assert cfg["architecture"] == "attonet_b"
    model = timm.create_model("attonet_b")
    modules = dict(model.named_modules())
    assert modules[cfg["classifier"]] is model.fc
    first = modules[cfg["first_conv"]]
    assert isinstance(first, nn.Conv2d)
    assert first.kernel_size == (7, 7)
    assert timm.data.resolve_model_data_config(model)["mean"] == cfg["mean"]


def test_reset_classifier():
    model = timm.create_model("attonet_d", num_classes=50).eval()
    assert model.get_classifier() is model.fc
    assert model.num_classes == 50
    with torch.no_grad():
        pooled = model.forward_head(model.forward_features(shown()), pre_logits=True)
        model.reset_classifier(7)
        assert model.num_classes == 7
        assert model(shown()).shape == (2, 7)
        model.reset_classifier(0)
        assert torch.equal(model(shown()), pooled)
        assert model.get_classifier() is model.fc
        model.reset_classifier(0, "")
        assert model(shown()).shape == (2, 140, 2, 3)
        model.reset_classifier(3, "catavgmax")
        assert model(shown()).shape == (2, 3)
        assert model.head_hidden_size == 280
    model.double().reset_classifier(5)
    assert model.fc.weight.dtype == torch.float64


def test_no_classes():
    model = timm.create_model("attonet_d", num_classes=0).eval()
    with torch.no_grad():
        assert model(shown()).shape == (2, 140)
    assert not [key for key in model.state_dict() if key.startswith("fc")]


@pytest.mark.parametrize("in_chans", [1, 4])
def test_other_channels(in_chans):
    model = timm.create_model("attonet_d", num_classes=5, in_chans=in_chans).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, in_chans, 64, 64)).shape == (2, 5)


def test_drop_rate_is_for_training_alone():
    torch.manual_seed(0)
    model = timm.create_model("attonet_d", num_classes=0, drop_rate=0.5)
    features = torch.rand(2, 140, 2, 2) + 1  # (B, C, H, W), no zeros
    assert 0.3 < (model.forward_head(features) == 0).float().mean() < 0.7
    assert (model.eval().forward_head(features) != 0).all()


def test_pretrained_is_refused():
    with pytest.raises(UserError, match="no pretrained weights of attonet_c"):
        timm.create_model("attonet_c", pretrained=True)
