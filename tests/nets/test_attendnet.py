"""AttendNets against what arXiv 2009.14385 says of them, and their reconstruction."""

import dataclasses
import itertools

import pytest
import torch
from torch import nn

from atto_det.complexity.count import count
from atto_det.nets import (
    ATTENDNETS,
    FEATURES,
    STAGES,
    Backbone,
    CondenserSpec,
    ImageClassifier,
    PEPESpec,
    VisualAttentionCondenser,
    create_backbone,
    create_classifier,
    get_spec,
    list_backbones,
)
from atto_det.nets import reconstruction as r
from atto_det.nets.cost import classifier_cost, count_network
from atto_det.reports.table2 import parameters

PUBLISHED = {"attendnet_a": (1386e3, 276.8e6), "attendnet_b": (782e3, 191.3e6)}
every_variant = pytest.mark.parametrize("name", PUBLISHED)


def counted(classifier: nn.Module, size: int = 224) -> tuple[int, int]:
    """Parameters by AttoNet's rule, and multiply-adds of a pass of one picture."""
    [cost] = count([("", classifier.eval(), (torch.empty(1, 3, size, size, device="meta"),))])
    return parameters(classifier), cost.macs


@every_variant
def test_the_published_sizes(name):
    """Within 0.5 %: parameters and multiply-adds at 224×224 with 51 outputs."""
    with torch.device("meta"):
        found = counted(create_classifier(name, 51))
    for value, published in zip(found, PUBLISHED[name], strict=True):
        assert abs(value / published - 1) < 0.005
    assert found == classifier_cost(ATTENDNETS[name], classes=51, size=224)


def kinds(name: str) -> list[str]:
    rows = [getattr(ATTENDNETS[name], stage) for stage in STAGES]
    return ["".join("C" if isinstance(m, CondenserSpec) else "P" for m in row) for row in rows]


@every_variant
def test_what_the_paper_fixes(name):
    """Condensers early, consecutive ones among them; PEPE modules late; a mix in between."""
    res2, res3, res4, res5 = kinds(name)
    assert [len(row) for row in (res2, res3, res4, res5)] == [3, 4, 6, 3]
    assert all(row[0] == "P" for row in (res2, res3, res4, res5))  # a condenser widens nothing
    assert (res2, res3[:3]) == ("PCC", "PCC")
    assert set(res4) == {"P", "C"}
    assert res5 == "PPP"
    assert "".join((res2, res3, res4, res5)).rindex("C") < 13


@every_variant
def test_every_module_has_widths_of_its_own_in_multiples_of_4(name):
    modules = [m for stage in STAGES for m in getattr(ATTENDNETS[name], stage)]
    assert len(set(modules)) == 16
    widths = [
        value
        for module in modules
        for field, value in dataclasses.asdict(module).items()
        if type(value) is int and field not in ("groups", "kernel_size", "pool")
    ]
    assert {width % 4 for width in [ATTENDNETS[name].stem, *widths]} == {0}


@every_variant
@pytest.mark.parametrize("size", [(64, 96), (65, 33)])
@torch.no_grad()
def test_features(name, size):
    net = create_backbone(name, FEATURES).eval()
    for feature, value in net(torch.zeros(1, 3, *size)).items():
        stride = net.strides[feature]
        assert value.shape == (1, net.channels[feature], *(-(-side // stride) for side in size))


def test_the_registry_has_them():
    assert list_backbones("attendnet_*") == ["attendnet_a", "attendnet_b"]
    assert get_spec("attendnet_b") is ATTENDNETS["attendnet_b"]


@every_variant
def test_condensers_start_as_identity_and_everything_learns(name):
    net = create_classifier(name, 5)
    for module in net.modules():
        if isinstance(module, VisualAttentionCondenser):
            assert not module.up.norm.weight.any()
            nn.init.ones_(module.up.norm.weight)
    nn.init.normal_(net.fc.weight)
    for module in net.modules():
        if hasattr(module, "shortcut") and isinstance(module.shortcut, nn.Identity):
            nn.init.ones_(module.expand.norm.weight)
    net(torch.randn(2, 3, 96, 96)).square().sum().backward()
    assert [n for n, p in net.named_parameters() if not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(
    ("pattern", "size", "classes"),
    [("PPP PPPP PPPPPP PPP", 224, 51), (r.PATTERNS[0], 97, 3), (r.PATTERNS[2], 32, 1000)],
)
def test_the_closed_form_counts_what_torch_counts(pattern, size, classes):
    stem, stages = r._draw("attonet_b", pattern, torch.Generator().manual_seed(size), 3)
    counted_modules = [[r.COUNTED[kind](*widths) for kind, widths in row] for row in stages]
    many = count_network(stem, counted_modules, size=size, classes=classes)
    spec = r._spec(stem, stages, 2)
    with torch.device("meta"):
        found = counted(ImageClassifier(Backbone(spec, ("res5",)), classes), size)
    assert found == classifier_cost(spec, size=size, classes=classes)
    assert found == tuple(int(values[2]) for values in many)


@every_variant
def test_the_search_finds_the_shipped_network_again(name):
    target = r.TARGETS[name]
    pattern = " ".join(kinds(name))
    assert pattern in r.PATTERNS
    found = r.search(target, pattern, seed=1, candidates=400_000)
    assert found[0].spec == ATTENDNETS[name]
    cost = classifier_cost(ATTENDNETS[name], classes=51, size=224)
    assert (found[0].parameters, found[0].macs) == cost
    errors = [one.error for one in found]
    assert errors == sorted(errors)
    assert errors[-1] <= 0.005
    assert all(one.pattern == pattern for one in found)


def test_another_seed_finds_others():
    target, pattern = r.TARGETS["attendnet_a"], r.PATTERNS[0]
    one, again, other = (
        {found.spec for found in r.search(target, pattern, seed=seed, candidates=100_000)}
        for seed in (1, 1, 2)
    )
    assert one == again
    assert one
    assert other
    assert not one & other


def test_specs_can_be_told_apart_and_are_frozen():
    modules = [m for stage in STAGES for m in getattr(ATTENDNETS["attendnet_a"], stage)]
    for module, other in itertools.pairwise(modules):
        assert module != other
    with pytest.raises(dataclasses.FrozenInstanceError):
        modules[0].expand = 4
    assert {type(m) for m in modules} == {PEPESpec, CondenserSpec}
