"""The networks that AttendNet-A is compared with: equal multiply-adds, one thing changed."""

import dataclasses
from pathlib import Path

import pytest
import torch
from timm.layers import SqueezeExcite

import atto_det
from atto_det.design import find_network
from atto_det.nets import ATTENDNETS, STAGES, AttoModuleSpec, CondenserSpec, PEPESpec, get_spec
from atto_det.nets.cost import classifier_cost
from atto_det.nets.squeeze import SqueezeExcitationSpec

FOLDER = Path(__file__).resolve().parents[2] / "configs/pretrain/ablation"
NAMES = [path.stem for path in sorted(FOLDER.glob("*.yaml"))]
A = ATTENDNETS["attendnet_a"]


def spec_of(name: str):
    return get_spec(find_network(FOLDER / f"{name}.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_multiply_adds_are_equal(name):
    """Within 1 %: those of the whole, as trained and at 224, and those of each stage."""
    spec = spec_of(name)
    assert spec != A
    for size, classes in ((96, 50), (224, 51)):
        with_stage = [A, spec, *(dataclasses.replace(A, **{s: getattr(spec, s)}) for s in STAGES)]
        costs = [classifier_cost(one, classes=classes, size=size) for one in with_stage]
        assert [cost.macs / costs[0].macs for cost in costs] == pytest.approx([1] * 6, abs=0.01)
    classifier = atto_det.create_classifier(FOLDER / f"{name}.yaml", 3)
    assert classifier(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


def pairs(name: str) -> list[tuple]:
    """Modules of AttendNet-A and those in their places."""
    spec = spec_of(name)
    assert spec.stem == A.stem
    return [
        pair
        for stage in STAGES
        for pair in zip(getattr(A, stage), getattr(spec, stage), strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "change"),
    [("sum", {"attention": "sum"}), ("indices", {"unpooling": "indices"})],
)
def test_a_choice_of_the_condenser(name, change):
    for ours, theirs in pairs(name):
        is_condenser = isinstance(ours, CondenserSpec)
        assert theirs == (dataclasses.replace(ours, **change) if is_condenser else ours)


def test_depthwise_modules_in_the_place_of_condensers():
    for ours, theirs in pairs("depthwise"):
        if isinstance(ours, CondenserSpec):
            assert isinstance(theirs, AttoModuleSpec)
            assert (theirs.multiplier, theirs.mix) == (1, theirs.compress)
        else:
            assert theirs == ours


def test_squeeze_and_excitation_differs_from_identity_by_itself_alone():
    for ours, theirs in pairs("squeeze_excitation"):
        if isinstance(ours, CondenserSpec):
            reduced = SqueezeExcite(ours.up).fc1.out_channels  # timm's default
            assert theirs == SqueezeExcitationSpec(reduced, ours.up)
        else:
            assert isinstance(theirs, PEPESpec)
    spec, identity = spec_of("squeeze_excitation"), spec_of("identity")
    for stage in STAGES:
        kept = [m for m in getattr(spec, stage) if not isinstance(m, SqueezeExcitationSpec)]
        assert tuple(kept) == getattr(identity, stage)
    assert identity.stem == spec.stem == A.stem
    assert identity.res5 == A.res5


def test_all_are_there():
    assert NAMES == ["depthwise", "identity", "indices", "squeeze_excitation", "sum"]
