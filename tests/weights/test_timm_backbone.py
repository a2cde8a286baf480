"""Networks of timm's as backbones: their maps, their weights, and what is refused."""

import logging

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from yacs.config import CfgNode

from atto_det.errors import UserError
from atto_det.nets.blocks import START_LENGTH
from atto_det.weights.timm_backbone import TimmBackbone, initialise

SMALL = "mobilenetv3_small_050"
STAGES = ["res2", "res3", "res4", "res5"]


@pytest.mark.parametrize("name", [SMALL, "resnet18", "convnext_atto", "tf_efficientnet_lite0"])
def test_features_are_timm_s_of_each_stride(name):
    backbone = TimmBackbone(name, STAGES).eval()
    x = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        maps = backbone(x)
        theirs = timm.create_model(name, features_only=True).eval()
        theirs.load_state_dict(backbone.net.state_dict(), strict=False)
    reductions = theirs.feature_info.reduction()
    assert list(maps) == STAGES
    for stage, stride in backbone.strides.items():
        assert maps[stage].shape == (2, backbone.channels[stage], 64 // stride, 96 // stride)
        index = len(reductions) - 1 - reductions[::-1].index(stride)
        assert backbone.channels[stage] == theirs.feature_info.channels()[index]


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(3)
    net = timm.create_model(SMALL, num_classes=7)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.1)
    return net.eval()


@pytest.mark.parametrize("form", ["safetensors", "pth", "training", "order"])
def test_weights_of_a_classifier_by_name_or_by_order(classifier, tmp_path, caplog, form):
    state, path = classifier.state_dict(), tmp_path / "weights.pth"
    if form == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(state, path)
    elif form == "order":
        torch.save({f"tensor {index}": value for index, value in enumerate(state.values())}, path)
    else:
        torch.save(state if form == "pth" else {"state_dict": state, "epoch": 3}, path)
    backbone = TimmBackbone(SMALL, STAGES).eval()
    with caplog.at_level(logging.INFO):
        backbone.load(path)
    assert ("matched by order and shape" in caplog.text) == (form == "order")
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = classifier.forward_intermediates(x, intermediates_only=True)
        for found in backbone(x).values():
            [wanted] = [e for e in expected if e.shape == found.shape][-1:]
            torch.testing.assert_close(found, wanted)


def config(path, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), form="RGB"):
    return CfgNode(
        {
            "MODEL": {
                "TIMM": {"WEIGHTS": str(path)},
                "BACKBONE": {"NAME": "build_attonet_fpn_backbone"},
                "PIXEL_MEAN": list(mean),
                "PIXEL_STD": list(std),
            },
            "INPUT": {"FORMAT": form},
        }
    )


def test_long_filters_of_attonets_alone_get_the_length_that_they_learn_with(classifier, tmp_path):
    import atto_det.timm  # noqa: F401  registers it

    torch.manual_seed(0)
    attonet = timm.create_model("attonet_d", num_classes=5)
    state = attonet.state_dict()
    for key in list(state):  # as long training leaves them: eight times longer, the same output
        if key.endswith("norm.running_mean"):
            state[key.replace("norm.running_mean", "conv.weight")] *= 8
            state[key] = torch.randn(state[key].shape) * 0.1
            state[key.replace("running_mean", "running_var")] *= 64
    attonet.load_state_dict(state)
    torch.save(state, tmp_path / "attonet.pth")
    backbone = TimmBackbone("attonet_d", STAGES).eval()
    backbone.load(tmp_path / "attonet.pth")
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        features = attonet.eval().forward_features(x)
        assert torch.allclose(backbone(x)["res5"], features, rtol=1e-3, atol=1e-5)
    found = backbone.net.state_dict()
    weights = [value for key, value in found.items() if key.endswith(".conv.conv.weight")]
    lengths = torch.cat([weight.flatten(1).norm(dim=1) for weight in weights])
    assert lengths.max() < 1.5 * START_LENGTH

    torch.save(classifier.state_dict(), tmp_path / "own.pth")
    own = TimmBackbone(SMALL, STAGES)
    own.load(tmp_path / "own.pth")
    stem = "conv_stem.weight"
    assert torch.equal(own.net.state_dict()[stem], classifier.state_dict()[stem])


def test_another_normalisation_than_the_trained_one_is_said(classifier, tmp_path, caplog):
    path = tmp_path / "weights.pth"
    torch.save(classifier.state_dict(), path)
    model = nn.Sequential(TimmBackbone(SMALL, STAGES))
    before = model[0].net.conv_stem.weight.clone()
    initialise(model, config(""))
    assert torch.equal(model[0].net.conv_stem.weight, before)
    initialise(model, config(path))
    assert torch.equal(model[0].net.conv_stem.weight, classifier.conv_stem.weight)
    assert "PIXEL" not in caplog.text
    initialise(model, config(path, mean=(127.5, 127.5, 127.5)))
    sentence = "MODEL.PIXEL_MEAN is [127.5, 127.5, 127.5], but timm's mobilenetv3_small_050 was"
    assert sentence in caplog.text
    caplog.clear()
    initialise(model, config(path, form="BGR"))
    assert "trained with [103.53, 116.28, 123.675]" in caplog.text
    with pytest.raises(UserError, match=r"builds no timm network: name build_timm_fpn"):
        initialise(nn.Linear(1, 1), config(path))


def test_what_is_no_network_or_no_weights_is_one_sentence(classifier, tmp_path):
    with pytest.raises(UserError, match=r"MODEL.TIMM.NAME is 'resnet19', which is not a network"):
        TimmBackbone("resnet19", STAGES)
    with pytest.raises(
        UserError, match=r"IN_FEATURES is \['res2'.*timm's vit_tiny_patch16_224 has"
    ):
        TimmBackbone("vit_tiny_patch16_224", STAGES)
    with pytest.raises(UserError, match=r"IN_FEATURES is \[\]"):
        TimmBackbone(SMALL, [])
    backbone = TimmBackbone(SMALL, ["res3", "res5"])
    assert backbone.freeze(0) is backbone
    with pytest.raises(UserError, match=r"FREEZE_AT is 2, but timm's networks are trained as a"):
        backbone.freeze(2)
    path = tmp_path / "weights.pth"
    state = classifier.state_dict()
    torch.save(dict(list(state.items())[:-3]), path)
    with pytest.raises(UserError, match=rf"holds no weights of timm's {SMALL}: \d+ tensors are"):
        backbone.load(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(UserError, match="holds no state dict"):
        backbone.load(path)
    (tmp_path / "a.safetensors").write_bytes(b"none")
    with pytest.raises(UserError, match="is not a safetensors file, or a damaged one"):
        backbone.load(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"weights file .*b.safetensors does not exist"):
        backbone.load(tmp_path / "b.safetensors")
