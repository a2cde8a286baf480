"""Points, specs and costs."""

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from atto_det.complexity import count
from atto_det.design import Space
from atto_det.errors import UserError
from atto_det.nets import Backbone, get_spec, list_backbones
from atto_det.nets.classifier import ImageClassifier
from atto_det.nets.cost import classifier_cost
from atto_det.nets.spec_file import spec_from_dict, spec_to_dict


def built_cost(spec, classes: int, size: int) -> tuple[int, int]:
    """Counted on the built network; a folded norm is one number for each channel."""
    with torch.device("meta"):
        net = ImageClassifier(Backbone(spec, ("res5",)), classes).eval()
        image = torch.empty(1, 3, size, size)
    macs = count([("net", net, (image,))])[0].macs
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    parameters = sum(p.numel() for p in net.parameters()) - sum(m.num_features for m in norms)
    return parameters, macs


@settings(max_examples=30)
@given(st.data())
def test_every_point_is_a_network_of_known_cost(data):
    space = Space.from_dict(SMALL, "here")
    point = {name: data.draw(st.sampled_from(c)) for name, c in space.dimensions.items()}
    spec = space.spec(point)
    assert classifier_cost(spec, classes=7, size=97) == built_cost(spec, 7, 97)
    again = spec_from_dict(yaml.safe_load(yaml.safe_dump(spec_to_dict(spec))), "here")
    assert again == spec


SMALL = {
    "stem": [4, 8],
    "width": {"res2": [16, 24], "res3": [32], "res4": [48, 64], "res5": [64]},
    "compress": {stage: [4, 8, 16] for stage in ("res2", "res3", "res4", "res5")},
    "mix": {stage: [4, 8] for stage in ("res2", "res3", "res4", "res5")},
    "kinds": ["atto", "bottleneck", "condenser", "identity"],
    "opening": ["atto", "bottleneck"],
    "depth": {"res2": 2, "res3": 2, "res4": 3, "res5": 1},
}


@pytest.mark.parametrize("name", list_backbones())
def test_cost_and_file_of_every_registered_network(name):
    spec = get_spec(name)
    assert classifier_cost(spec, classes=51, size=224) == built_cost(spec, 51, 224)
    assert spec_from_dict(spec_to_dict(spec), "here") == spec


def test_the_point_nearest_to_a_network():
    stages = ("res2", "res3", "res4", "res5")
    space = Space(
        stem=(2, 4),
        width=dict.fromkeys(stages, (100, 120, 300, 500)),
        compress=dict.fromkeys(stages, (8, 16)),
        mix=dict.fromkeys(stages, (4, 8)),
        kinds=("atto", "identity"),
        depth={"res2": 4, "res3": 4, "res4": 6, "res5": 3},
    )
    point = space.nearest(get_spec("attonet_d"))  # stem 3, res2 (7, 4, 8, 112) …
    assert point["stem"] == 2
    assert point["res2.width"] == 120
    assert point["res2.0.compress"] == 8
    assert point["res2.3.kind"] == "identity"  # AttoNet-D has three modules there
    assert point["res5.0.compress"] == 16
    assert len(space.spec(point).res2) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stem": []}, "stem needs choices"),
        ({"stem": [4, 4]}, "stem needs choices, each once"),
        ({"stem": [0]}, "give whole numbers from 1"),
        ({"stem": "4"}, "space.stem must be a list"),
        ({"kinds": ["magic"]}, "space.kinds has 'magic'"),
        ({"opening": ["condenser"]}, "space.opening has 'condenser'"),
        ({"compress": {"res2": [4]}}, "space.compress needs choices for each of"),
        ({"mix": {s: [6] for s in ("res2", "res3", "res4", "res5")}}, "multiples of 4"),
        ({"depth": {"res2": 0}}, "space.depth needs a number from 1"),
        ({"colour": 3}, "unknown key 'colour'"),
    ],
)
def test_mistakes_in_a_space_are_named(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        Space.from_dict(SMALL | changes, "space.yaml")
    assert str(caught.value).startswith("space.yaml")


def test_a_space_of_one_point():
    one = {s: [8] for s in ("res2", "res3", "res4", "res5")}
    content = {"stem": [4], "width": one, "compress": one, "mix": one, "multiplier": [1]}
    with pytest.raises(UserError, match="the space has one point"):
        Space.from_dict(content | {"kinds": ["atto"]}, "space.yaml")
