"""Nearest class mean: on features whose classes are known, and the figures of the zoo."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import atto_det
from atto_det.pretraining.nearest_mean import nearest_mean_top1
from atto_det.weights import backbone_file, zoo


class Colours(nn.Module):
    """Features are the picture's own channels."""

    def forward(self, images):
        return {"res5": images}


def description(**changes):
    values = {"input_size": 16, "mean": [0.4, 0.3, 0.2], "std": [0.1, 0.2, 0.3]}
    return SimpleNamespace(**values | {"channel_order": "RGB"} | changes)


def test_pure_colours_are_told_apart(colours):
    assert nearest_mean_top1(Colours(), description(), colours / "colours") == 100


def test_pictures_in_the_wrong_folder_are_wrong(colours, tmp_path):
    shutil.copytree(colours / "colours", tmp_path / "mixed")
    for name in ("0.png", "1.png", "2.png"):  # of 15
        shutil.copy(tmp_path / "mixed/val/red" / name, tmp_path / "mixed/val/blue" / name)
    found = nearest_mean_top1(Colours(), description(), tmp_path / "mixed", batch=4)
    assert found == pytest.approx(100 * 12 / 15)


def test_a_network_that_was_trained_on_bgr(colours):
    seen = []

    class Spy(Colours):
        def forward(self, images):
            seen.append(images)
            return super().forward(images)

    nearest_mean_top1(Spy(), description(), colours / "colours")
    turned = description(mean=[0.2, 0.3, 0.4], std=[0.3, 0.2, 0.1], channel_order="BGR")
    half = len(seen)
    nearest_mean_top1(Spy(), turned, colours / "colours")
    for one, other in zip(seen[:half], seen[half:], strict=True):
        assert torch.equal(one.flip(1), other)


@pytest.mark.slow
@pytest.mark.parametrize("file", zoo.files(), ids=lambda path: path.stem)
def test_the_published_figure_comes_out_again(file, photos):
    values = zoo.read_card(file)
    if values["kind"] != "backbone":
        pytest.skip("a detector")
    published = values["figures"]["nearest_class_mean"]
    root = photos / published["data"]
    if not root.is_dir():
        pytest.skip(f"no {root}")
    net = atto_det.create_backbone(values["network"], weights=values["weights"])
    found = nearest_mean_top1(net, backbone_file.read_backbone(file).description, root)
    assert found == pytest.approx(published["top1"], abs=0.1)
