"""Networks by name: what they are, and what they refuse."""

import pytest
import torch

from atto_det.errors import UserError
from atto_det.pretraining.networks import create_network, list_networks


@pytest.mark.parametrize("name", list_networks())
def test_logits_and_gradients(name):
    net = create_network(name, 7)
    logits = net(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 7)
    logits.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_sizes_are_those_of_the_libraries():
    # With 1,000 classes, as their papers and documentation give them.
    for name, parameters in (
        ("mobilenetv2_100", 3_504_872),
        ("resnet50", 25_557_032),
        ("shufflenet_v2_x1_0", 2_278_604),
    ):
        net = create_network(name, 1000)
        assert sum(p.numel() for p in net.parameters()) == parameters


def test_bad_names_and_counts():
    with pytest.raises(UserError, match="unknown network 'resnet': choose one of attonet_a"):
        create_network("resnet", 3)
    with pytest.raises(UserError, match="at least one class, not 0"):
        create_network("resnet50", 0)
