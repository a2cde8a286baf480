"""Backbone files and checkpoints of the pretraining: exact, complete, and safe to read."""

import dataclasses
import json
import random
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from hostile import Hostile
from sentences import sentence

from atto_det.errors import UserError
from atto_det.nets.normalisation import Normalisation
from atto_det.nets.quantisation import quantised_call
from atto_det.pretraining.networks import create_network, list_networks
from atto_det.weights import backbone_file, checkpoint


@pytest.fixture
def backbone(classifier, tmp_path) -> Path:
    """A backbone file."""
    state, description = backbone_file.read_pretraining(classifier()[0])
    backbone_file.write_backbone(tmp_path / "attonet_d.safetensors", state, description)
    return tmp_path / "attonet_d.safetensors"


def test_from_the_training_to_the_file_and_back(classifier, tmp_path):
    path, net = classifier(top1=None)
    state, description = backbone_file.read_pretraining(path)
    assert state.keys() == net.state_dict().keys()
    assert (description.weight_bits, description.top1) == (None, None)
    file = tmp_path / "new/a.safetensors"
    total = backbone_file.write_backbone(file, state, description)
    read, again = backbone_file.read_backbone(file)
    assert again == description
    expected = {k: v for k, v in net.state_dict().items() if not k.startswith("fc.")}
    assert read.keys() == expected.keys()
    assert "stem.conv.norm.num_batches_tracked" in read
    for key, value in expected.items():
        assert torch.equal(read[key], value)
        assert read[key].dtype == value.dtype
    assert backbone_file.write_backbone(tmp_path / "b.safetensors", state, description) == total
    other = dataclasses.replace(description, std=[0.2, 0.2, 0.2])
    assert backbone_file.write_backbone(tmp_path / "c.safetensors", state, other) != total


def test_of_a_training_in_8_bits_the_weights_come_rounded(classifier):
    path, net = classifier(weight_bits=8)
    state, description = backbone_file.read_pretraining(path)
    assert description.weight_bits == 8
    images = torch.randn(1, 3, 64, 64)
    expected = quantised_call(net.eval(), images)  # as the training computes
    assert not torch.equal(expected, net(images))
    net.load_state_dict(state)
    torch.testing.assert_close(net(images), expected)


def test_what_the_metadata_says(backbone):
    with safetensors.safe_open(backbone, "pt") as file:
        found = file.metadata()
    assert found["format"] == "atto_det backbone 1"
    assert found["network"] == "attonet_d"
    assert json.loads(found["class_names"]) == ["cat", "dög", "owl"]
    assert json.loads(found["mean"]) == [0.485, 0.456, 0.406]
    assert (found["channel_order"], found["input_size"], found["top1"]) == ("RGB", "64", "31.4")
    assert found["weight_bits"] == "null"
    assert "terms of that data apply" in found["licence"]
    assert "TinyImageNet50" in found["licence"]
    assert len(found["sha256"]) == 64


def test_the_description_in_words(backbone):
    description = backbone_file.read_backbone(backbone).description
    assert str(description) == (
        "attonet_d, top-1 31.4 % on 2500 pictures, trained on 7500 pictures of TinyImageNet50 "
        "(3 classes, 64 pixels)"
    )
    other = dataclasses.replace(description, top1=None, weight_bits=8)
    assert str(other).startswith("attonet_d (8-bit weights), unknown top-1, trained on 7500")


@pytest.mark.parametrize("name", list_networks())
def test_the_head_is_what_depends_on_the_classes(name):
    with torch.device("meta"):
        one, other = (create_network(name, count).state_dict() for count in (3, 4))
    head = {key for key in one if one[key].shape != other[key].shape}
    assert len(head) == 2
    assert backbone_file.without_head(one).keys() == one.keys() - head


def test_other_networks_are_read_too(classifier, tmp_path):
    path, net = classifier("shufflenet_v2_x1_0")
    state, description = backbone_file.read_pretraining(path)
    backbone_file.write_backbone(tmp_path / "s.safetensors", state, description)
    read = backbone_file.read_backbone(tmp_path / "s.safetensors").state
    assert read.keys() == {key for key in net.state_dict() if not key.startswith("fc.")}


def test_every_damaged_byte_is_found(backbone):
    whole = backbone.read_bytes()
    original = backbone_file.read_backbone(backbone)
    header = 8 + int.from_bytes(whole[:8], "little")
    draw = random.Random(1)
    places = [draw.randrange(header) for _ in range(80)]
    places += [draw.randrange(header, len(whole)) for _ in range(20)]
    messages = []
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << draw.randrange(7)
        backbone.write_bytes(damaged)
        try:
            read = backbone_file.read_backbone(backbone)
        except UserError as error:
            messages.append(str(error))
        else:  # harmless, such as another space behind the header
            assert read.description == original.description
            assert all(torch.equal(read.state[k], v) for k, v in original.state.items())
    assert len(messages) > 90
    assert all(str(backbone) in message and "\n" not in message for message in messages)


def test_a_truncated_file(backbone):
    whole = backbone.read_bytes()
    for length in (0, 5, 8, 900, len(whole) // 2, len(whole) - 1):
        backbone.write_bytes(whole[:length])
        assert "is not a safetensors file, or a damaged one" in sentence(
            backbone_file.read_backbone, backbone
        )


def rewrite(path: Path, metadata: dict | None = None, **tensors: torch.Tensor) -> None:
    """Change tensors or metadata of a backbone file, the sum staying as it was."""
    with safetensors.safe_open(path, "pt") as file:
        names = file.keys()
        whole = {name: file.get_tensor(name) for name in names}
        whole |= tensors
        metadata = file.metadata() | (metadata or {})
    path.write_bytes(safetensors.torch.save(whole, metadata))


def test_changed_tensors_and_metadata(backbone):
    before = backbone.read_bytes()
    state = backbone_file.read_backbone(backbone).state
    bias, mean = "stem.conv.norm.bias", "stem.conv.norm.running_mean"
    for change in (
        {"tensors": {bias: state[bias] + 1e-6}},
        {"tensors": {bias: state[mean], mean: state[bias]}},  # two names changed places
        {"metadata": {"std": "[0.2, 0.2, 0.2]"}},
        {"metadata": {"sha256": "0" * 64}},
        {"tensors": {bias: state[bias].reshape(1, -1)}},
    ):
        backbone.write_bytes(before)
        rewrite(backbone, change.get("metadata"), **change.get("tensors", {}))
        assert "was damaged or modified (its sha256 differs)" in sentence(
            backbone_file.read_backbone, backbone
        )


def test_foreign_newer_and_missing_files(backbone, tmp_path):
    rewrite(backbone, {"format": "atto_det backbone 3"})
    text = sentence(backbone_file.read_backbone, backbone)
    assert "has format 3, newer than this version of atto_det reads (2); update" in text
    for metadata in (None, {"format": "pt"}, {"format": "backbone 1"}, {"network": "attonet_d"}):
        backbone.write_bytes(safetensors.torch.save({"a": torch.zeros(2)}, metadata))
        assert "is not a backbone file of atto_det" in sentence(
            backbone_file.read_backbone, backbone
        )
    assert "does not exist" in sentence(backbone_file.read_backbone, tmp_path / "no.safetensors")
    assert "does not exist" in sentence(backbone_file.read_backbone, tmp_path)


MALFORMED = [
    ("network", 3),
    ("class_names", []),
    ("class_names", ["cat", 1, "owl"]),
    ("mean", [123.675, 116.28, 103.53]),  # of 0..255
    ("mean", [0.5, 0.5]),
    ("std", [0.229, 0.0, 0.225]),
    ("std", [0.229, float("nan"), 0.225]),
    ("channel_order", "GBR"),
    ("input_size", 0),
    ("input_size", True),
    ("weight_bits", "8"),
    ("recipe", None),
    ("data", "TinyImageNet50"),
    ("data", {"root": "TinyImageNet50", "train": 7500}),
    ("top1", float("nan")),
    ("top1", 101),
    ("epoch", 1.5),
    ("versions", {"torch": 2}),
    ("command", ["a"]),
]


def test_a_malformed_description(classifier):
    path, _ = classifier()
    part = checkpoint.load_checkpoint(path)["atto_det_pretraining"]
    for key, value in MALFORMED:
        lacking = {name: part[name] for name in part if name != key}
        for wrong in (part | {key: value}, lacking):
            torch.save({"state_dict": {}, "atto_det_pretraining": wrong}, path)
            text = sentence(backbone_file.read_pretraining, path)
            assert f"{path} has no valid {key} in its description" in text


def test_checkpoints_that_are_no_whole_network(classifier):
    path, _ = classifier()
    whole = checkpoint.load_checkpoint(path)
    stem = "net.stem.conv.conv.weight"

    def told(content: dict) -> str:
        torch.save(content, path)
        text = sentence(backbone_file.read_pretraining, path)
        assert str(path) in text
        return text

    state, part = whole["state_dict"], whole["atto_det_pretraining"]
    lacking = {key: value for key, value in state.items() if key != stem}
    assert "is not a whole attonet_d: 1 tensor is missing (stem.conv.conv.weight)" in told(
        whole | {"state_dict": lacking}
    )
    other = whole | {"atto_det_pretraining": part | {"network": "attonet_a"}}
    assert "tensors are of another shape (" in told(other)
    assert "1 tensor is left over (x)" in told(
        whole | {"state_dict": state | {"net.x": torch.zeros(1)}}
    )
    four = part | {"class_names": ["a", "b", "c", "d"]}
    assert "2 tensors are of another shape (fc.bias, fc.weight)" in told(
        whole | {"atto_det_pretraining": four}
    )
    nan = state | {stem: state[stem] * float("nan")}
    assert "NaN or infinite, first in net.stem.conv.conv.weight" in told(
        whole | {"state_dict": nan}
    )
    assert "has format 2, newer" in told(whole | {"atto_det_pretraining": part | {"format": 2}})
    for wrong in ({}, [1], {"net.a": 3}, {"model.a": torch.zeros(1)}):
        assert "holds no weights of a network" in told(whole | {"state_dict": wrong})
    for wrong in ({"state_dict": state}, whole | {"atto_det_pretraining": 1}, {"model": {}}):
        assert "is not one of atto_det's classifier training" in told(wrong)


def test_a_pickle_that_would_run_code_is_not_read(classifier, tmp_path):
    path, _ = classifier()
    content = checkpoint.load_checkpoint(path)
    torch.save(content | {"hyper_parameters": Hostile(tmp_path / "marker")}, path)
    assert "could run code" in sentence(backbone_file.read_pretraining, path)
    assert not (tmp_path / "marker").exists()
    path.write_bytes(path.read_bytes()[:1000])
    assert str(path) in sentence(backbone_file.read_pretraining, path)


def test_further_tensors_of_a_checkpoint_are_ignored(classifier):
    path, net = classifier()
    content = checkpoint.load_checkpoint(path)
    content["state_dict"]["ema.stem"] = torch.zeros(2)
    torch.save(content, path)
    assert backbone_file.read_pretraining(path).state.keys() == net.state_dict().keys()


def test_a_file_for_detectron2_says_what_it_is_fed(classifier, tmp_path):
    state, description = backbone_file.read_pretraining(classifier()[0])
    fed = Normalisation((103.53, 116.28, 123.675), (1.0, 1.0, 1.0), "BGR")
    backbone_file.write_detectron2(tmp_path / "a.pth", state, description, fed)
    content = checkpoint.load_checkpoint(tmp_path / "a.pth")
    assert content["matching_heuristics"] is True
    read, again = backbone_file.check_backbone(
        content["model"], content[backbone_file.PART], "a.pth"
    )
    assert again.normalisation.channel_order == "BGR"
    assert again.normalisation.std == pytest.approx((1.0, 1.0, 1.0))
    expected = (
        state[backbone_file.STEM].flip(1)
        * torch.tensor([57.375, 57.12, 58.395]).reciprocal()[:, None, None]
    )
    torch.testing.assert_close(read[backbone_file.STEM], expected)
    for wrong in (None, 3, {"format": 1}, {1: "a"}):
        assert "is not a backbone file" in sentence(
            backbone_file.check_backbone, content["model"], wrong, "a.pth"
        )


def test_nothing_is_left_of_a_file_that_could_not_be_written(classifier, tmp_path):
    state, description = backbone_file.read_pretraining(classifier()[0])
    (tmp_path / "file").write_text("in the way")
    target = tmp_path / "file/a.safetensors"
    text = sentence(backbone_file.write_backbone, target, state, description)
    assert f"{target} was not written" in text
