"""The networks as torchvision's classifiers."""

import pytest
import torch
import torchvision
from torchvision.models.feature_extraction import create_feature_extractor

import atto_det.torchvision  # noqa: F401  (registers them)
from atto_det.errors import UserError
from atto_det.nets import list_backbones


def test_torchvision_s_reference_scripts_build_them_by_name():
    assert set(list_backbones()) <= set(torchvision.models.list_models())
    # The call of references/classification/train.py.
    model = torchvision.models.get_model("attonet_d", weights=None, num_classes=7)
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 7)
    assert list(torchvision.models.get_model_weights("attonet_d")) == []
    with pytest.raises(UserError, match="no weights of whole classifiers"):
        torchvision.models.get_model("attonet_d", weights="DEFAULT")


def test_a_backbone_file_under_a_new_head(backbone):
    file, net = backbone()
    model = torchvision.models.get_model("attonet_d", num_classes=4, weights_backbone=file)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        wanted = net.eval().backbone.stem(image)
        assert torch.allclose(model.eval().backbone.stem(image), wanted, atol=1e-6)


def test_nodes_of_a_classifier():
    model = torchvision.models.get_model("attonet_d", num_classes=4).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        found = create_feature_extractor(model, ["backbone.res4", "fc"])(image)
        assert torch.equal(found["fc"], model(image))
    assert found["backbone.res4"].shape == (1, 467, 4, 4)
