"""Activations that are computed again: the same results, in less memory."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import atto_det.timm  # noqa: F401  (registers attonet_d)
from atto_det.nets import create_backbone
from atto_det.nets.recomputation import recomputed, recomputing
from atto_det.weights.timm_backbone import TimmBackbone

PICTURES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def step(net: nn.Module) -> float:
    """The loss of one on `PICTURES`, backpropagated."""
    torch.manual_seed(5)
    loss = sum(maps.square().mean() for maps in net(PICTURES).values())
    loss.backward()
    return loss.item()


def trained(make, recomputes: bool) -> tuple[float, dict, dict]:
    """Loss, gradients, and all tensors of a new network after two passes."""
    torch.manual_seed(3)
    net = make().train()
    assert recomputing(nn.Sequential(net)) == [net]
    net.recomputes = recomputes
    step(net)
    loss = step(net)
    return loss, {key: p.grad for key, p in net.named_parameters()}, net.state_dict()


def attonet(name: str = "attonet_d"):
    return lambda: create_backbone(name)


def frozen_stem() -> nn.Module:
    net = create_backbone("attonet_d")
    net.freeze(2)
    net.stem.conv.norm.running_mean.fill_(0.1)
    net.res2[0].compress.norm.running_mean.fill_(0.1)
    for module in [*net.stem.modules(), *net.res2.modules()]:
        if hasattr(module, "running_var"):
            module.running_var.fill_(2.0)
    return net


def dropping() -> nn.Module:
    """Whose outputs are drawn."""
    net = create_backbone("attonet_d")
    net.res3[1].drop_path = nn.Dropout(0.5)
    return net


@pytest.mark.parametrize(
    "make",
    [attonet(), attonet("attendnet_b"), frozen_stem, dropping,
     lambda: TimmBackbone("efficientnet_lite0", ["res4", "res5"]),
     lambda: TimmBackbone("attonet_d", ["res4", "res5"])],
    ids=["attonet", "attendnet", "frozen stem", "dropout", "of timm's", "by timm"],
)  # fmt: skip
def test_losses_gradients_and_statistics_are_the_same(make):
    loss, gradients, state = trained(make, recomputes=False)
    again, other_gradients, other_state = trained(make, recomputes=True)
    assert again == loss
    torch.testing.assert_close(other_gradients, gradients, rtol=0, atol=0)
    torch.testing.assert_close(other_state, state, rtol=0, atol=0)


def peak(net: nn.Module) -> int:
    """Bytes allocated at the fullest moment of a step."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        step(net)
    events = [e for e in found.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = highest = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    return highest


def test_a_step_needs_less_memory():
    net = create_backbone("attonet_d").train()
    kept = peak(net)
    net.recomputes = True
    assert peak(net) < 0.7 * kept


def test_outside_training_nothing_is_repeated():
    net = create_backbone("attonet_d").eval()
    net.recomputes = True
    passes = []
    net.res2[0].register_forward_hook(lambda *_: passes.append(1))
    step(net)
    assert len(passes) == 1
    step(net.train())
    assert len(passes) == 3


def test_norms_are_as_they_were_where_a_pass_is_repeated_twice():
    part = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=None), nn.ReLU())
    loss = recomputed(part, PICTURES).sum()
    norm = part[1]
    mean = norm.running_mean.clone()
    for _ in range(2):
        loss.backward(retain_graph=True)
    assert torch.equal(norm.running_mean, mean)
    assert norm.num_batches_tracked == 1
    assert norm.momentum is None
