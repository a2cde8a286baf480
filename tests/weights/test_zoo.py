"""Files of the zoo: found by name, stored in 16 bits, held to their cards."""

import json

import pytest
import torch

import atto_det
from atto_det import engine
from atto_det.errors import UserError
from atto_det.weights import backbone_file, checkpoint, detector_file, zoo


@pytest.fixture
def own_zoo(classifier, tmp_path, monkeypatch):
    """A zoo of one file, and the classifier whose backbone it holds."""
    monkeypatch.setattr(zoo, "ZOO", tmp_path / "zoo")
    path, net = classifier()
    file = zoo.ZOO / "attonet_d-small.safetensors"
    backbone_file.write_backbone(file, *backbone_file.read_pretraining(path), bits=16)
    return file, net


def test_by_name_it_computes_what_the_trained_one_did(own_zoo):
    _, net = own_zoo
    rounded = {
        key: value.half().float() if value.ndim > 1 else value
        for key, value in net.state_dict().items()
    }
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)).double()
    found = atto_det.create_backbone("attonet_d", ("res5",), weights="small").double().eval()
    with torch.no_grad():
        exact = net.double().eval().backbone(images)["res5"]
        net.load_state_dict(rounded)
        expected = net.backbone(images)["res5"]
        difference = (found(images)["res5"] - expected).abs().max()
    assert difference < 1e-4 * (expected - exact).abs().max()


def test_norms_keep_their_32_bits_and_the_file_is_half_as_large(own_zoo, tmp_path):
    from safetensors.torch import load_file

    file, _ = own_zoo
    backbone_file.write_backbone(
        tmp_path / "whole.safetensors", *backbone_file.read_pretraining(tmp_path / "attonet_d.ckpt")
    )
    stored = load_file(file)
    kinds = {(value.ndim > 1, value.dtype) for value in stored.values() if value.ndim}
    assert kinds == {(True, torch.float16), (False, torch.float32)}
    assert file.stat().st_size < 0.62 * (tmp_path / "whole.safetensors").stat().st_size


def test_weights_too_large_for_16_bits(classifier, tmp_path):
    state, description = backbone_file.read_pretraining(classifier()[0])
    name = next(key for key, value in state.items() if value.ndim > 1)
    state[name] = state[name] + 1e6
    with pytest.raises(UserError):
        backbone_file.write_backbone(tmp_path / "a.safetensors", state, description, bits=16)
    assert not (tmp_path / "a.safetensors").exists()


def test_names_that_there_are_not(own_zoo, tmp_path):
    with pytest.raises(UserError, match=r"'large' is not a file, .*\(there are small\)"):
        atto_det.create_backbone("attonet_d", weights="large")
    with pytest.raises(UserError, match=r"weights of attonet_a .*\(there are none\)"):
        atto_det.create_backbone("attonet_a", weights="small")
    for path in ("a.safetensors", "small/a", tmp_path):
        assert zoo.find_weights(path, "attonet_d") == zoo.Path(path)


def test_a_card_and_its_file(own_zoo):
    file, _ = own_zoo
    zoo.write_card(file, {"terms": "für niemanden"})
    card = zoo.read_card(file)
    assert (card["file"], card["terms"]) == ("attonet_d-small.safetensors", "für niemanden")
    assert card["bytes"] == file.stat().st_size
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"x")
    with pytest.raises(UserError, match="is not the file of its card"):
        zoo.read_card(file)
    file.with_suffix(".json").write_text(json.dumps({"file": "a"}))
    with pytest.raises(UserError, match="is not a card of a file of the zoo"):
        zoo.read_card(file)


@pytest.mark.parametrize("file", zoo.files(), ids=lambda path: path.stem)
def test_every_file_of_the_package_is_its_card_s(file):
    card = zoo.read_card(file)
    assert {"data", "terms", "recipe", "command", "versions", "figures", "limits"} <= set(card)
    if card["kind"] == "backbone":
        net = atto_det.create_backbone(card["network"], weights=card["weights"])
        assert sum(value.numel() for value in net.parameters()) == card["parameters"]
    else:
        assert engine.choose("torchvision").Predictor(f"zoo:{file.stem}")
        content = checkpoint.load_checkpoint(f"zoo:{file.stem}")
        assert content["atto_det"]["class_names"] == card["class_names"]
        assert detector_file.parameter_count(content["model"]) == card["parameters"]


def test_the_files_of_the_package_are_small():
    assert sum(file.stat().st_size for file in zoo.ZOO.glob("*")) < 10e6


@pytest.mark.slow
@pytest.mark.parametrize("file", zoo.files(), ids=lambda path: path.stem)
def test_the_published_ap_comes_out_again(file, photos, tmp_path, monkeypatch):
    card = zoo.read_card(file)
    if card["kind"] != "detector":
        pytest.skip("a backbone")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(photos))
    published = card["figures"]["AP"]
    runner = engine.choose(published["engine"]).run
    options = ["MODEL.WEIGHTS", f"zoo:{file.stem}", "OUTPUT_DIR", str(tmp_path)]
    found = runner.evaluate(runner.read_config(None, options))[published["data"]]
    for key in ("AP_d", "AP_m"):
        assert found[key] == pytest.approx(published[key], abs=0.05)
