"""Classifiers trained by the scripts of timm and torchvision, on their way into a backbone file."""

import argparse
from pathlib import Path

import pytest
import sentences
import timm.utils
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

import atto_det
import atto_det.timm
import atto_det.torchvision
from atto_det.errors import UserError
from atto_det.weights import backbone_file
from atto_det.weights.foreign import read_foreign


@pytest.fixture
def net() -> nn.Module:
    """A classifier whose norms have seen a batch."""
    torch.manual_seed(0)
    net = atto_det.create_classifier("attonet_d", 4)
    with torch.no_grad():
        net(torch.randn(2, 3, 64, 64))
    return net


def same(found: dict, wanted: dict) -> bool:
    assert found.keys() == wanted.keys()
    return all(torch.equal(value, wanted[key]) for key, value in found.items())


def test_of_timms_script(tmp_path):
    """Written by timm's own saver, as its train.py does it."""
    torch.manual_seed(0)
    model = timm.create_model("attonet_d", num_classes=4)
    average = timm.utils.ModelEmaV3(model, decay=0.5)
    nn.init.ones_(model.fc.bias)  # so that the average differs
    arguments = argparse.Namespace(
        model="attonet_d",
        data_dir="/data/birds",
        img_size=128,
        mean=[0.5, 0.4, 0.3],
        std=None,
        eval_metric="top1",
        opt="sgd",
    )
    saver = timm.utils.CheckpointSaver(
        model,
        torch.optim.SGD(model.parameters(), 0.1),
        args=arguments,
        model_ema=average,
        checkpoint_dir=str(tmp_path),
        recovery_dir=str(tmp_path),
    )
    saver.save_checkpoint(7, metric=61.5)
    state, description = read_foreign(tmp_path / "model_best.pth.tar", "attonet_d")
    assert same(state, average.module.state_dict())
    assert not same(state, model.state_dict())
    assert (description.network, description.class_names) == ("attonet_d", ["0", "1", "2", "3"])
    assert (description.mean, description.std) == ([0.5, 0.4, 0.3], [0.229, 0.224, 0.225])
    assert (description.input_size, description.top1, description.epoch) == (128, 61.5, 8)
    assert '"opt": "sgd"' in description.recipe
    assert description.command == "exported from model_best.pth.tar, state_dict_ema"
    assert str(description) == (
        "attonet_d, top-1 61.5 %, trained on /data/birds (4 classes, 128 pixels)"
    )
    with pytest.raises(UserError, match="holds attonet_d, and --network is attonet_c: give one"):
        read_foreign(tmp_path / "model_best.pth.tar", "attonet_c")


@pytest.mark.parametrize("averaged", [False, True])
def test_of_torchvisions_script(tmp_path, averaged):
    """With what references/classification/train.py puts into its checkpoints."""
    model = torchvision.models.get_model("attonet_d", num_classes=4)
    content = {
        "model": nn.DataParallel(model).module.state_dict(),
        "optimizer": torch.optim.SGD(model.parameters(), 0.1).state_dict(),
        "epoch": 2,
        "args": argparse.Namespace(model="attonet_d", data_path="/data", train_crop_size=176),
    }
    if averaged:
        average = torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
        nn.init.ones_(average.module.fc.bias)
        content["model_ema"] = average.state_dict()
        model = average.module
    torch.save(content, tmp_path / "model_2.pth")
    state, description = read_foreign(tmp_path / "model_2.pth", "attonet_d")
    assert same(state, model.state_dict())
    assert (description.input_size, description.epoch, description.top1) == (176, 3, None)


@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod.", "model."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_state_dict(net, tmp_path, prefix, suffix):
    path = tmp_path / f"weights{suffix}"
    tensors = {prefix + key: value for key, value in net.state_dict().items()}
    torch.save(tensors, path) if suffix == ".pth" else save_file(tensors, path)
    told = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2), "input_size": 64}
    state, description = read_foreign(path, "attonet_d", **told)
    assert same(state, net.state_dict())
    assert (description.mean, description.std, description.input_size) == ([0.5] * 3, [0.2] * 3, 64)
    # And on into a network.
    file = tmp_path / "backbone.safetensors"
    backbone_file.write_backbone(file, state, description)
    fresh = atto_det.create_classifier("attonet_d", 9, weights=file).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        wanted = net.eval().backbone.stem(image)
        assert torch.allclose(fresh.backbone.stem(image), wanted, atol=1e-5)


def test_half_precision_is_made_single(net, tmp_path):
    torch.save(net.half().state_dict(), tmp_path / "half.pth")
    state, _ = read_foreign(tmp_path / "half.pth", "attonet_d")
    assert state["fc.weight"].dtype == torch.float32
    assert state["stem.conv.norm.num_batches_tracked"].dtype == torch.int64


def sentence(path: Path, network: str = "attonet_d", **told) -> str:
    return sentences.sentence(read_foreign, path, network, **told)


def test_what_could_run_code_is_not_read(net, tmp_path):
    path = tmp_path / "unsafe.pth.tar"
    torch.save({"state_dict": net.state_dict(), "args": argparse.Namespace(split=slice)}, path)
    text = sentence(path)
    assert "reading that could run code; it was not read. If you trust it, save its weights" in text
    advice = text[text.index("torch.save(") :]
    exec(advice.replace("'weights.pth'", repr(str(tmp_path / "weights.pth"))), {"torch": torch})
    assert same(read_foreign(tmp_path / "weights.pth", "attonet_d").state, net.state_dict())


def test_mistakes_are_sentences(net, tmp_path):
    path = tmp_path / "weights.pth"
    state = net.state_dict()
    torch.save(state, path)
    assert "--network is 'attonet_x': choose one of attonet_a" in sentence(path, "attonet_x")
    assert "holds no whole attonet_c: 318 tensors are of another" in sentence(path, "attonet_c")
    assert "nothing.pth does not exist" in sentence(tmp_path / "nothing.pth")
    assert "no.safetensors does not exist" in sentence(tmp_path / "no.safetensors")
    assert "--mean must be three numbers from 0 to 1" in sentence(path, mean=(103.5, 116.3, 123.7))
    assert "--std must be above 0" in sentence(path, std=(0.2, 0.0, 0.2))
    torch.save({k: v for k, v in state.items() if not k.startswith("fc.")}, path)
    assert "it has no tensor fc.weight" in sentence(path)
    torch.save(state | {"fc.bias": torch.full((4,), float("nan"))}, path)
    assert "NaN or infinite, first in fc.bias" in sentence(path)
    path.with_suffix(".safetensors").write_bytes(b"no file of tensors")
    assert "not a safetensors file, or a damaged one" in sentence(path.with_suffix(".safetensors"))
