"""Backbone files in 8 bits: a quarter of the size, and what each door reads from them."""

import dataclasses

import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torchvision.transforms.functional import to_tensor

from atto_det import create_backbone
from atto_det.errors import UserError
from atto_det.nets.quantisation import fake_quantise, quantised_call
from atto_det.pretraining.measured import measure_top1, val_data
from atto_det.weights import backbone_file


@pytest.fixture
def eight(classifier, tmp_path):
    """A function that writes an 8-bit backbone file; it returns the file and the classifier."""

    def write(network="attendnet_b", **changes):
        path, net = classifier(network, **changes)
        state, description = backbone_file.read_pretraining(path)
        file = tmp_path / f"{network}_8.safetensors"
        backbone_file.write_backbone(file, state, description, bits=8)
        return file, net

    return write


def test_the_file_holds_integers_and_steps(eight, tmp_path):
    file, net = eight()
    stored, trained = load_file(file), net.state_dict()
    weights = {k for k, v in trained.items() if v.ndim > 1 and not k.startswith("fc.")}
    assert {k for k, v in stored.items() if v.dtype == torch.int8} == weights
    for key in weights:
        assert stored[f"{key}_scale"].shape == trained[key].shape[:1]
        assert stored[key].abs().flatten(1).amax(1).eq(127).all()  # each channel uses its range
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["format"] == "atto_det backbone 2"
    whole = tmp_path / "whole.safetensors"
    backbone_file.write_backbone(whole, trained, backbone_file.read_backbone(file).description)
    assert 3.2 < whole.stat().st_size / file.stat().st_size < 4


def test_what_is_read_lies_on_the_grid(eight):
    file, net = eight()
    state, description = backbone_file.read_backbone(file)
    assert description.weight_bits == 8
    expected = {k: v for k, v in net.state_dict().items() if not k.startswith("fc.")}
    assert state.keys() == expected.keys()
    for key, value in expected.items():
        assert state[key].dtype == value.dtype
        assert torch.equal(state[key], fake_quantise(value) if value.ndim > 1 else value)


@torch.no_grad()
def test_create_backbone_reads_it(eight):
    file, net = eight()
    x = torch.randn(2, 3, 64, 64)
    wanted = quantised_call(net.eval(), x)
    found = create_backbone("attendnet_b", ["res5"], weights=file).eval()(x)["res5"]
    torch.testing.assert_close(net.fc(found.mean((2, 3))), wanted, atol=0.02, rtol=0.02)
    whole = net.state_dict()["stem.conv.conv.weight"]
    assert not torch.equal(backbone_file.read_backbone(file).state[backbone_file.STEM], whole)


@torch.no_grad()
@pytest.mark.parametrize("engine", ["detectron2", "torchvision"])
def test_both_engines_read_it(eight, engine):
    file, _ = eight()
    names = ["MODEL.ATTONET.NAME", "attendnet_b", "MODEL.DEVICE", "cpu"]
    names += ["MODEL.ROI_HEADS.NUM_CLASSES", "3"]
    config = "tests/tiny_mini_voc.yaml"
    if engine == "detectron2":
        pytest.importorskip("detectron2", reason="Detectron2 is not installed")
        from atto_det.detectron2 import AttoCheckpointer
        from atto_det.detectron2.config import read_file
        from atto_det.detectron2.model import build_model

        cfg = read_file(config, names)
        model = build_model(cfg)
        AttoCheckpointer(model, cfg=cfg, class_names=[]).resume_or_load(str(file), resume=False)
        bottom_up = model.backbone.bottom_up
    else:
        from atto_det.torchvision import config as tv_config
        from atto_det.torchvision.model import build_model as build
        from atto_det.torchvision.pretrained import load_initial

        cfg = tv_config.read_file(config, names)
        model = build(cfg)
        load_initial(model, cfg, file)
        bottom_up = model.backbone.body
    rounded = create_backbone("attendnet_b", bottom_up.out_features, weights=file)
    x = torch.randn(1, 3, 64, 64)
    for name, value in rounded.eval()(x).items():
        torch.testing.assert_close(bottom_up.eval()(x)[name], value)


def test_of_a_training_in_8_bits_nothing_is_lost(eight):
    file, net = eight(weight_bits=8)
    state, description = backbone_file.read_backbone(file)
    assert (description.weight_bits, description.top1) == (8, 31.4)
    for key, value in state.items():
        own = net.state_dict()[key]
        torch.testing.assert_close(value, fake_quantise(own) if own.ndim > 1 else own)


def test_a_changed_integer_is_noticed(eight):
    file, _ = eight()
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    state = load_file(file)
    state["stem.conv.conv.weight"][0, 0, 0, 0] += 1
    save_file(state, file, metadata)
    with pytest.raises(UserError, match="was damaged or modified"):
        backbone_file.read_backbone(file)


def test_files_of_a_newer_format_are_refused(eight):
    file, _ = eight()
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata() | {"format": "atto_det backbone 3"}
    save_file(load_file(file), file, metadata)
    with pytest.raises(UserError, match=r"has format 3, newer than .* reads \(2\)"):
        backbone_file.read_backbone(file)


@pytest.fixture
def by_class(tmp_path):
    """Pictures of two classes, red and blue."""
    from PIL import Image

    for split in ("train", "val"):
        for name, colour in (("blue", (0, 0, 200)), ("red", (200, 0, 0))):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for index in range(3):
                picture = Image.new("RGB", (40, 32 + index), colour)
                picture.save(tmp_path / "data" / split / name / f"{index}.png")
    return tmp_path / "data"


class Blue(torch.nn.Module):
    """Says blue (0) where a picture has more blue than red, and the opposite if `wrong`."""

    def __init__(self, wrong: bool) -> None:
        super().__init__()
        self.sign = -1 if wrong else 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1:] == (3, 64, 64)
        more = self.sign * (x[:, 2] - x[:, 0]).mean((1, 2))
        return torch.stack([more, -more], 1)


def test_top1_of_several_networks(classifier, by_class):
    path, _ = classifier(class_names=["blue", "red"])
    description = backbone_file.read_pretraining(path).description
    seen = []
    found = measure_top1(
        [Blue(False), Blue(True)], description, str(by_class), lambda b: seen.append(b) or b
    )
    assert found == ([100.0, 0.0], 6)
    assert len(seen) == 1
    other = dataclasses.replace(description, class_names=["red", "blue"])
    with pytest.raises(UserError, match=r"has other classes \(2\) than the checkpoint \(2\)"):
        measure_top1([], other, str(by_class))


def test_pictures_are_seen_as_in_the_training(classifier, by_class, tmp_path):
    (tmp_path / "list.txt").write_text("red\n")
    data = {"crop_share": 1.0, "interpolation": "bicubic", "class_list": f"{tmp_path}/list.txt"}
    path, _ = classifier(class_names=["red"], recipe=yaml.safe_dump({"data": data}))
    description = backbone_file.read_pretraining(path).description
    found = val_data(str(by_class), description, mean=(0, 0, 0), std=(1, 1, 1))
    picture = Image.radial_gradient("L").resize((100, 80)).convert("RGB")
    wanted = picture.resize((80, 64), Image.Resampling.BICUBIC).crop((8, 0, 72, 64))
    torch.testing.assert_close(found.centre(picture), to_tensor(wanted))
