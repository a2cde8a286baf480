"""Pictures per second: what is timed, and how it is counted."""

import torch

from atto_det.pretraining.throughput import _inference, _training, speeds


def test_both_kinds_of_each_network_in_order(short_turns):
    found = speeds(["attonet_d", "attonet_c"], input_size=32, batch=2, repeats=2)
    assert [speed.network for speed in found] == ["attonet_d", "attonet_c"]
    for speed in found:
        assert len(speed.training.seconds) >= 2
        assert speed.training.throughput == 2 / speed.training.median
        assert speed.inference.median < speed.training.median
    # By the paper's table, 222.8 M at 224 pixels for C and 100.1 M for D.
    assert found[1].macs > 2 * found[0].macs


def test_a_training_step_trains_and_inference_does_not():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(12), torch.nn.Linear(12, 2))
    images, labels = torch.randn(4, 3, 2, 2), torch.tensor([0, 1, 0, 1])
    before = {key: value.clone() for key, value in net.state_dict().items()}
    _inference(net, images)(None)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    _training(net, images, labels)(None)
    assert not any(torch.equal(before[key], value) for key, value in net.state_dict().items())
