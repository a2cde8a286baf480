"""Batch norms of timm's networks, folded where the graph shows their convolution."""

from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models import resnet

from atto_det.nets import make_norm
from atto_det.ops.fold_norms import folded, is_norm

timm = pytest.importorskip("timm")


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "mobilenetv3_small_050"])
def test_timm_s_networks_stay_the_same_function(name):
    """Norms by themselves; with an activation in them, after padding that looks at sizes; with
    hard activations and squeeze-and-excitation."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(name, features_only=True)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.2)
                module.momentum = 1.0  # statistics of the one batch
        with torch.no_grad():
            network.train()(torch.randn(2, 3, 64, 64))
        x = torch.randn(1, 3, 64, 96)
    result = folded(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in result.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    with torch.inference_mode():
        for found, expected in zip(result(x), network.eval()(x), strict=True):
            assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_a_convolution_that_is_used_twice_keeps_its_norms():
    class Twice(nn.Module):
        feature_info = ()

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.one, self.other = nn.Conv2d(3, 3, 1), *map(nn.BatchNorm2d, (3, 3))

        def forward(self, x):
            return self.other(self.conv(self.one(self.conv(x))))

    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded(Twice()).modules()) == 2


@pytest.mark.parametrize("norm", ["BN", "SyncBN", "FrozenBN"])
def test_norms_of_torchvision_s_blocks(norm):
    network = resnet.ResNet(
        resnet.BasicBlock, [1, 1, 1, 1], num_classes=3, norm_layer=partial(make_norm, norm)
    ).eval()
    result = folded(network)
    assert not any(map(is_norm, result.modules()))
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(result(x), network(x), rtol=1e-4, atol=1e-5)
