"""AttoNets against Table 1 and Table 2 of arXiv 1903.07209: sizes, shapes, what stands where."""

import copy
import math
from dataclasses import dataclass

import pytest
import torch
from awake import awake
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from atto_det.errors import UserError
from atto_det.nets import ATTONETS, FEATURES, STAGES, AttoModule, create_backbone, create_classifier
from atto_det.nets.blocks import is_untrained_frozen_norm

STRIDE = {"stem": 4, "res2": 4, "res3": 8, "res4": 16, "res5": 32}


@dataclass(frozen=True)
class Golden:
    """What the paper's tables say: parameters (M, folded), MACs (M, 224×224, 51-way), channels."""

    parameters: float
    macs: float
    channels: tuple[int, ...]
    multiplier: int


GOLDEN = {
    "attonet_a": Golden(2.97, 578.4, (8, 176, 400, 808, 952), 4),
    "attonet_b": Golden(1.87, 402.5, (8, 168, 368, 728, 736), 4),
    "attonet_c": Golden(1.06, 222.8, (6, 139, 328, 628, 527), 2),
    "attonet_d": Golden(0.32, 100.1, (3, 112, 264, 467, 140), 4),
}
every_variant = pytest.mark.parametrize("name", GOLDEN)


@pytest.fixture(scope="module")
def nets() -> dict[str, nn.Module]:
    return {name: create_backbone(name, FEATURES).eval() for name in GOLDEN}


def convolutions(net: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]


def counted_macs(net: nn.Module, size: int) -> int:
    """Multiply-adds of every convolution and dense layer in one forward pass of one picture."""
    total = 0

    def add(layer, inputs, output):
        nonlocal total
        total += output.numel() * layer.weight[0].numel()

    handles = [
        layer.register_forward_hook(add)
        for layer in net.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        net.eval()(torch.zeros(1, 3, size, size))
    for handle in handles:
        handle.remove()
    return total


def test_every_variant_is_tested():
    assert list(ATTONETS) == list(GOLDEN)


@every_variant
def test_sizes_of_the_paper(name):
    golden = GOLDEN[name]
    net = create_classifier(name, 51)
    folded = sum(c.weight.numel() + c.out_channels for c in convolutions(net))
    folded += sum(p.numel() for p in net.fc.parameters())
    assert round(folded / 1e6, 2) == golden.parameters
    assert round(counted_macs(net, 224) / 1e6, 1) == golden.macs


@every_variant
def test_layers_stand_where_the_paper_has_them(name):
    net = create_backbone(name, FEATURES)
    convs = convolutions(net)
    assert len(convs) == 69
    assert all(c.bias is None for c in convs)
    assert len([m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]) == 69
    assert [c.padding[0] for c in convs if c.kernel_size == (7, 7)] == [3]
    assert {c.padding[0] for c in convs if c.kernel_size == (3, 3)} == {1}
    assert {c.padding[0] for c in convs if c.kernel_size == (1, 1)} == {0}
    assert net.stem.conv.conv.stride == (2, 2)
    pool = net.stem.pool
    assert (pool.kernel_size, pool.stride, pool.padding) == (3, 2, 1)
    depthwise = [c for c in convs if c.kernel_size == (3, 3)]
    assert len(depthwise) == 16
    assert all(c.groups == c.in_channels for c in depthwise)
    assert all(c.out_channels == c.in_channels * GOLDEN[name].multiplier for c in depthwise)
    modules = [m for m in net.modules() if isinstance(m, AttoModule)]
    type_b = [i for i, m in enumerate(modules, 1) if not isinstance(m.shortcut, nn.Identity)]
    assert type_b == [1, 4, 8, 14]
    assert [i for i, m in enumerate(modules, 1) if m.depthwise.conv.stride == (2, 2)] == [4, 8, 14]
    assert [modules[i - 1].shortcut.conv.stride[0] for i in type_b] == [1, 2, 2, 2]


@every_variant
def test_relu_follows_all_but_expand_and_shortcut(name, nets):
    """Seen from outside: which outputs are never negative, and what the module returns."""
    net = awake(copy.deepcopy(nets[name]))
    seen = {}

    def keep(key):
        def hook(layer, inputs, output):
            seen[key] = output.clone()

        return hook

    handles = []
    modules = [m for m in net.modules() if isinstance(m, AttoModule)]
    for index, module in enumerate(modules):
        for part in ("compress", "depthwise", "mix", "expand", "shortcut"):
            handles.append(getattr(module, part).register_forward_hook(keep((index, part))))
        handles.append(module.register_forward_hook(keep((index, "out"))))
    handles.append(net.stem.register_forward_hook(keep("stem")))
    with torch.no_grad():
        # Batch statistics, so that no signal dies out on the way through random weights.
        net.train()(torch.randn(2, 3, 64, 64))
    assert seen["stem"].min() == 0
    for index, module in enumerate(modules):
        for part in ("compress", "depthwise", "mix", "out"):
            assert seen[index, part].min() == 0, (index, part)
        assert seen[index, "expand"].min() < 0
        if isinstance(module.shortcut, nn.Sequential):
            assert seen[index, "shortcut"].min() < 0
        total = seen[index, "expand"] + seen[index, "shortcut"]
        assert torch.equal(seen[index, "out"], total.clamp(min=0))


@pytest.mark.parametrize("norm", ["BN", "FrozenBN"])
def test_type_a_modules_start_as_identity(norm):
    net = create_backbone("attonet_d", norm=norm).eval()
    modules = [m for m in net.modules() if isinstance(m, AttoModule)]
    for index, module in enumerate(modules, 1):
        x = torch.rand(1, module.compress.conv.in_channels, 5, 6)
        with torch.no_grad():
            assert torch.equal(module(x), x) == (index not in (1, 4, 8, 14))


@every_variant
def test_shapes_at_224(name, nets):
    net = nets[name]
    with torch.no_grad():
        out = net(torch.zeros(2, 3, 224, 224))
    assert {key: tuple(value.shape) for key, value in out.items()} == {
        feature: (2, channels, 224 // STRIDE[feature], 224 // STRIDE[feature])
        for feature, channels in zip(FEATURES, GOLDEN[name].channels, strict=True)
    }
    assert net.channels == dict(zip(FEATURES, GOLDEN[name].channels, strict=True))
    assert net.strides == STRIDE


@settings(max_examples=25)
@given(name=st.sampled_from(list(GOLDEN)), height=st.integers(33, 160), width=st.integers(33, 160))
def test_shapes_are_rounded_up_at_any_size(nets, name, height, width):
    with torch.no_grad():
        out = nets[name](torch.zeros(1, 3, height, width))
    for feature, value in out.items():
        stride = STRIDE[feature]
        assert value.shape[2:] == (math.ceil(height / stride), math.ceil(width / stride))


@every_variant
def test_every_parameter_gets_a_gradient(name):
    torch.manual_seed(0)
    net = awake(create_classifier(name, 51))
    net(torch.randn(2, 3, 65, 97)).square().sum().backward()
    without = [
        key
        for key, p in net.named_parameters()
        if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
    ]
    assert without == []


@every_variant
def test_classifier_and_backbone_name_their_weights_alike(name):
    classifier, backbone = awake(create_classifier(name, 7)).eval(), create_backbone(name).eval()
    missing = backbone.load_state_dict(classifier.state_dict(), strict=False)
    assert missing.missing_keys == []
    assert missing.unexpected_keys == ["fc.weight", "fc.bias"]
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        pooled = backbone(x)["res5"].mean(dim=(2, 3))
        assert torch.allclose(classifier(x), classifier.fc(pooled))
    assert classifier.num_features == GOLDEN[name].channels[-1]


@pytest.mark.parametrize("last", FEATURES)
def test_only_the_stages_needed_are_built(last):
    net = create_backbone("attonet_d", [last])
    needed = FEATURES[: FEATURES.index(last) + 1]
    assert [child for child, _ in net.named_children()] == list(needed)
    with torch.no_grad():
        assert list(net.eval()(torch.zeros(1, 3, 64, 64))) == [last]


def test_features_come_in_the_order_of_the_network():
    net = create_backbone("attonet_d", ["res5", "stem", "res3"]).eval()
    assert net.out_features == ("stem", "res3", "res5")
    with torch.no_grad():
        assert list(net(torch.zeros(1, 3, 64, 64))) == ["stem", "res3", "res5"]
    assert net.channels == {"stem": 3, "res3": 264, "res5": 140}
    assert net.strides == {"stem": 4, "res3": 8, "res5": 32}
    assert create_backbone("attonet_d").out_features == STAGES


@pytest.mark.parametrize("wrong", [[], ["res6"], ["res2", "res2"], "res2", None])
def test_wrong_features_are_refused_with_the_known_ones(wrong):
    with pytest.raises(UserError, match="stem, res2, res3, res4, res5"):
        create_backbone("attonet_d", wrong)


def test_unknown_names_list_the_known_ones():
    known = "attonet_a, attonet_b, attonet_c, attonet_d"
    with pytest.raises(UserError, match=f"'attonet_e'.*{known}"):
        create_backbone("attonet_e")
    with pytest.raises(UserError, match=known):
        create_classifier("resnet50", 10)
    with pytest.raises(UserError, match=r"'GN'.*BN, FrozenBN, SyncBN"):
        create_backbone("attonet_d", norm="GN")
    with pytest.raises(UserError, match="at least one class"):
        create_classifier("attonet_d", 0)


@pytest.mark.parametrize(
    ("norm", "kind"),
    [("BN", "BatchNorm2d"), ("SyncBN", "SyncBatchNorm"), ("FrozenBN", "FrozenBatchNorm2d")],
)
def test_norms(norm, kind):
    plain = awake(create_backbone("attonet_d")).eval()
    net = create_backbone("attonet_d", norm=norm).eval()
    kinds = [type(m).__name__ for m in net.modules() if "Norm" in type(m).__name__]
    assert kinds == [kind] * 69
    net.load_state_dict(plain.state_dict())  # the same names, whatever the norm
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(net(x)["res5"], plain(x)["res5"], atol=1e-5)


def trained_statistics(name: str) -> dict[str, torch.Tensor]:
    """A state dict whose batch norms have seen something."""
    net = awake(create_backbone(name))
    with torch.no_grad():
        net(torch.randn(2, 3, 64, 64))
    return net.state_dict()


@pytest.mark.parametrize("freeze_at", range(6))
def test_freezing(freeze_at):
    net = create_backbone("attonet_d")
    net.load_state_dict(trained_statistics("attonet_d"))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    assert net.freeze(freeze_at) is net
    frozen = FEATURES[:freeze_at]
    for feature in FEATURES:
        part = getattr(net, feature)
        batch_norms = [m for m in part.modules() if isinstance(m, nn.BatchNorm2d)]
        assert all(p.requires_grad != (feature in frozen) for p in part.parameters())
        assert bool(batch_norms) != (feature in frozen)
    x = torch.randn(2, 3, 64, 64)
    net.train()(x)
    after = net.state_dict()
    for key, value in after.items():
        if key.endswith(("running_mean", "running_var")):
            assert torch.equal(value, before[key]) == (key.split(".")[0] in frozen), key


def test_freezing_keeps_the_outputs():
    net = create_backbone("attonet_d").eval()
    net.load_state_dict(trained_statistics("attonet_d"))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = net(x)["res5"]
        assert torch.allclose(net.freeze(5)(x)["res5"], before, atol=1e-5)


@pytest.mark.parametrize("wrong", [-1, 6])
def test_freeze_at_has_a_range(wrong):
    with pytest.raises(UserError, match=f"FREEZE_AT is {wrong}"):
        create_backbone("attonet_d").freeze(wrong)


@pytest.mark.parametrize(("norm", "freeze_at"), [("FrozenBN", 0), ("BN", 1), ("BN", 2)])
def test_frozen_norms_without_weights_are_refused_when_training_starts(norm, freeze_at):
    net = create_backbone("attonet_d", norm=norm).freeze(freeze_at)  # building is fine
    x = torch.randn(2, 3, 64, 64)
    net.eval()(x)  # and so is looking at it
    for _ in range(2):  # a second try is no way around
        with pytest.raises(UserError, match=r"frozen batch norms.*load AttoNet weights"):
            net.train()(x)
    assert any(is_untrained_frozen_norm(m) for m in net.modules())
    net.load_state_dict(trained_statistics("attonet_d"))
    sum(f.sum() for f in net.train()(x).values()).backward()


def test_a_copy_checks_for_itself():
    """Averaged copies of a model are common; a copy keeps the check and can drop it."""
    twin = copy.deepcopy(create_backbone("attonet_d", norm="FrozenBN"))
    x = torch.randn(2, 3, 64, 64)
    with pytest.raises(UserError, match="frozen batch norms"):
        twin.train()(x)
    twin.load_state_dict(trained_statistics("attonet_d"))
    assert set(twin(x)) == set(STAGES)
    assert set(twin(x)) == set(STAGES)


def test_filters_start_short():
    """Uniform up to 0.4 / sqrt(inputs): 0.4 / sqrt(3) = 0.231 long, whatever their size."""
    torch.manual_seed(0)
    for name, conv in create_backbone("attonet_a").named_modules():
        if isinstance(conv, nn.Conv2d):
            filters = conv.weight.flatten(1)
            bound = 0.4 / filters.shape[1] ** 0.5
            assert 0.9 * bound < filters.abs().max() <= bound, name
            length = filters.norm(dim=1).square().mean().sqrt()
            torch.testing.assert_close(length.item(), 0.231, rtol=0.2, atol=0, msg=name)
