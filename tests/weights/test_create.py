"""Networks with the weights of a backbone file, as `atto_det.create_backbone` makes them."""

from pathlib import Path

import pytest
import torch
from timm.models import adapt_input_conv
from torch import nn

import atto_det
from atto_det.errors import UserError
from atto_det.nets.blocks import START_LENGTH
from atto_det.nets.normalisation import Normalisation
from atto_det.weights import backbone_file
from atto_det.weights.transfer import _for_channels


@pytest.fixture
def trained(backbone) -> tuple[Path, nn.Module]:
    """A backbone file, and the classifier that it comes from."""
    file, net = backbone()
    return file, net.double().eval()


def pictures(channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, channels, 64, 96, generator=generator, dtype=torch.float64)


def same(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Up to the rounding of weights that got another length."""
    return bool((found - wanted).abs().max() < 1e-4 * wanted.abs().max())


@pytest.mark.parametrize("norm", ["BN", "FrozenBN"])
@pytest.mark.parametrize("features", [("res2", "res3"), ("stem", "res5")])
def test_a_backbone_computes_what_the_trained_one_did(trained, features, norm):
    path, net = trained
    backbone = atto_det.create_backbone("attonet_d", features, weights=path, norm=norm)
    x = pictures()
    with torch.no_grad():
        found = backbone.double().eval()(x)
        assert list(found) == list(features)
        for name, part in net.backbone.named_children():
            x = part(x)
            if name in features:
                assert same(found[name], x)
                assert not same(found[name], 1.01 * x)


def test_its_filters_have_the_length_that_they_learn_with(trained):
    path, _ = trained
    conv = atto_det.create_backbone("attonet_d", weights=path).res4[0].mix.conv
    lengths = conv.weight.flatten(1).norm(dim=1)
    assert ((lengths / START_LENGTH > 0.7) & (lengths / START_LENGTH < 1.42)).all()


def test_a_classifier_takes_it_under_a_new_head(trained):
    path, net = trained
    fresh = atto_det.create_classifier("attonet_d", 9, weights=path).double().eval()
    with torch.no_grad():
        assert fresh(pictures()).shape == (2, 9)
        wanted = net.backbone(pictures())["res5"]
        assert same(fresh.backbone(pictures())["res5"], wanted)


def test_a_file_for_a_detector_of_other_colours(classifier, tmp_path):
    path, net = classifier()
    fed = Normalisation((103.53, 116.28, 123.675), (1.0, 1.0, 1.0), "BGR")
    file = tmp_path / "d.pth"
    backbone_file.write_detectron2(file, *backbone_file.read_pretraining(path), fed)
    backbone = atto_det.create_backbone("attonet_d", weights=file).double().eval()
    colour = torch.rand(1, 3, 64, 96, dtype=torch.float64) * 255
    mean, std = (torch.tensor(c)[:, None, None] for c in (fed.mean, fed.std))
    red_first = torch.tensor([[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]])[:, :, None, None]
    with torch.no_grad():
        found = backbone((colour.flip(1) - mean) / std)["res5"]
        wanted = net.double().eval().backbone((colour - red_first[0]) / red_first[1])["res5"]
    assert same(found, wanted)


def test_other_channels(trained):
    path, net = trained
    grey = atto_det.create_backbone("attonet_d", weights=path, in_chans=1).double().eval()
    with torch.no_grad():  # a grey picture as three equal colours
        wanted = net.backbone(pictures(1).expand(-1, 3, -1, -1))
        assert same(grey(pictures(1))["res5"], wanted["res5"])
    four = atto_det.create_backbone("attonet_d", weights=path, in_chans=4)
    assert four.stem.conv.conv.weight.shape == (3, 4, 7, 7)
    conv = adapt_input_conv(4, net.backbone.stem.conv.conv.weight.float())
    assert torch.allclose(_for_channels(net.backbone.stem.conv.conv.weight.float(), 4), conv)
    two = atto_det.create_classifier("attonet_d", 5, in_chans=2).double()
    assert two(pictures(2)).shape == (2, 5)


def test_mistakes_are_sentences(trained, tmp_path):
    path, net = trained
    with pytest.raises(UserError, match="holds attonet_d, not attonet_c: give one of them"):
        atto_det.create_backbone("attonet_c", weights=path)
    with pytest.raises(UserError, match=r"nothing\.safetensors does not exist"):
        atto_det.create_backbone("attonet_d", weights=tmp_path / "nothing.safetensors")
    torch.save(net.state_dict(), tmp_path / "bare.pth")
    with pytest.raises(UserError, match=r"bare.pth is not a backbone file .*atto-det export"):
        atto_det.create_classifier("attonet_d", 3, weights=tmp_path / "bare.pth")
    state, description = backbone_file.read_backbone(path)
    del state["res4.2.mix.conv.weight"]
    backbone_file.write_backbone(tmp_path / "short.safetensors", state, description)
    with pytest.raises(UserError, match=r"does not fit .*1 tensor is missing \(res4.2.mix.conv"):
        atto_det.create_backbone("attonet_d", weights=tmp_path / "short.safetensors")
    with pytest.raises(UserError, match="nearest: attonet_d"):
        atto_det.create_backbone("attonet_dd", weights=tmp_path / "nothing.safetensors")
