"""What timm asks of every model of its own, asked of two AttoNets and an AttendNet."""

import json

import pytest
import timm
import torch
from awake import awake
from safetensors.torch import save_file
from timm.models import group_parameters
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

import atto_det.timm  # noqa: F401  (registers the models)
from atto_det import create_classifier
from atto_det.errors import UserError
from atto_det.weights.backbone_file import read_backbone, read_pretraining, write_backbone

NAMES = ("attonet_d", "attonet_c", "attendnet_b")
STAGES = ("res2", "res3", "res4", "res5")
every_name = pytest.mark.parametrize("name", NAMES)


def made(name: str, **arguments) -> nn.Module:
    torch.manual_seed(0)
    return awake(timm.create_model(name, **arguments)).eval()


def pictures(channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, 64, 96, generator=torch.Generator().manual_seed(1))


def test_listed_by_module():
    names = timm.list_models(module="attonet")
    assert names == ["attonet_a", "attonet_b", "attonet_c", "attonet_d"]
    assert timm.list_models(module="attendnet") == ["attendnet_a", "attendnet_b"]
    assert timm.list_models("attonet*", pretrained=True) == []


@every_name
def test_forward_and_backward(name):
    model = made(name, num_classes=42).train()
    out = model(pictures())
    assert out.shape == (2, 42)
    assert out.isfinite().all()
    out.mean().backward()
    without = [key for key, p in model.named_parameters() if p.grad is None]
    assert without == []


@every_name
def test_default_cfg_names_what_is_there(name):
    model = made(name)
    cfg, state = model.default_cfg, model.state_dict()
    assert cfg["first_conv"] + ".weight" in state
    assert cfg["classifier"] + ".weight" in state
    assert model.get_classifier(name_only=True) == cfg["classifier"]
    assert model.num_classes == cfg["num_classes"] == 1000
    x = torch.zeros(1, *cfg["input_size"])
    with torch.no_grad():
        features = model.forward_features(x)
        assert features.shape == (1, model.num_features, *cfg["pool_size"])
        model.reset_classifier(0)
        assert model(x).shape == (1, model.num_features)
        model.reset_classifier(0, "")
        assert model(x).shape == features.shape
    assert not any(key.startswith(cfg["classifier"]) for key in model.state_dict())
    unpooled = made(name, num_classes=0, global_pool="")
    with torch.no_grad():
        assert unpooled(x).shape == features.shape


@every_name
@pytest.mark.parametrize("feature_cls", ["hook", "getter", "fx"])
@pytest.mark.parametrize("indices", [(0, 3, -1), 2])
def test_features_only(name, feature_cls, indices):
    model = made(name, features_only=True, feature_cls=feature_cls, out_indices=indices)
    whole = made(name)
    with torch.no_grad():
        maps = model(pictures())
        every = whole.forward_intermediates(pictures(), intermediates_only=True)
    wanted = range(-indices, 0) if isinstance(indices, int) else indices
    info = model.feature_info
    assert len(maps) == len(wanted)
    for index, found, channels, reduction in zip(
        wanted, maps, info.channels(), info.reduction(), strict=True
    ):
        assert found.shape == (2, channels, 64 // reduction, 96 // reduction)
        assert torch.allclose(found, every[index], atol=1e-6)


@every_name
def test_intermediates(name):
    model = made(name)
    with torch.no_grad():
        features = model.forward_features(pictures())
        last, levels = model.forward_intermediates(pictures(), output_fmt="NCHW")
        assert torch.equal(last, features)
        assert torch.equal(levels[-1], features)
        assert torch.equal(model.forward_head(last), model(pictures()))
        only = model.forward_intermediates(pictures(), indices=[1, -1], intermediates_only=True)
        early, two = model.forward_intermediates(pictures(), indices=[0, 2], stop_early=True)
    assert [level.shape[1] for level in levels] == [i["num_chs"] for i in model.feature_info]
    assert torch.equal(only[0], levels[1])
    assert torch.equal(only[1], levels[4])
    assert torch.equal(early, levels[2])
    assert torch.equal(two[0], levels[0])
    with pytest.raises(UserError, match="NHWC"):
        model.forward_intermediates(pictures(), output_fmt="NHWC")


@every_name
@pytest.mark.parametrize("last", range(5))
def test_pruning(name, last):
    model, whole = made(name), made(name)
    assert model.prune_intermediate_layers([0, last]) == [0, last]
    left = {key.partition(".")[0] for key in model.state_dict()}
    assert left == {"stem", *STAGES[:last]}
    with torch.no_grad():
        _, maps = model.forward_intermediates(pictures(), [0, last])
        every = whole.forward_intermediates(pictures(), intermediates_only=True)
        assert torch.equal(maps[-1], every[last])
        assert torch.equal(model(pictures()), every[last])  # neither pool nor classes
    model.reset_classifier(3, "avg")
    assert model(pictures()).shape == (2, 3)
    kept = made(name, num_classes=6)
    kept.prune_intermediate_layers(1, prune_head=False)
    assert kept(pictures()).shape == (2, 6)


@every_name
def test_checkpointing_gives_the_same_gradients(name):
    gradients, states = [], []
    for enable in (False, True):
        model = made(name, num_classes=5).double().train()
        model.set_grad_checkpointing(enable)
        assert model.grad_checkpointing == enable
        model(pictures().double()).square().sum().backward()
        gradients.append({key: p.grad for key, p in model.named_parameters()})
        states.append(model.state_dict())
    for key, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][key], rtol=1e-8), key
    for key, value in states[0].items():  # running statistics too
        assert torch.equal(value, states[1][key]), key


def test_checkpointing_keeps_fewer_tensors():
    kept = []
    for enable in (False, True):
        model = made("attonet_d", num_classes=5).train()
        model.set_grad_checkpointing(enable)
        sizes = []

        def keep(tensor, sizes=sizes):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model(pictures())
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 2


@every_name
def test_groups_of_layers(name):
    model = made(name)
    fine = group_parameters(model, model.group_matcher(), reverse=True)
    coarse = group_parameters(model, model.group_matcher(coarse=True), reverse=True)
    assert set(fine) == set(coarse) == {key for key, _ in model.named_parameters()}
    assert max(fine.values()) == 17  # stem, 16 modules, head
    assert max(coarse.values()) == 5
    assert coarse["stem.conv.conv.weight"] == 0
    assert coarse["res5.0.mix.conv.weight"] == 4
    assert fine["res3.0.mix.conv.weight"] == 4
    assert coarse["fc.bias"] == 5


@every_name
def test_scripted(name):
    model = made(name, num_classes=7, drop_rate=0.1, drop_path_rate=0.1)
    scripted = torch.jit.script(model)
    with torch.no_grad():
        assert torch.allclose(scripted(pictures()), model(pictures()), atol=1e-6)
    scripted.train()(pictures()).sum().backward()  # and so it trains


@every_name
def test_traced_by_fx(name):
    model = made(name, num_classes=7).train()
    twin = create_feature_extractor(model, ["res3", "fc"])
    out = twin(pictures())
    assert torch.allclose(out["fc"], model(pictures()), atol=1e-5)
    out["fc"].sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_device_and_dtype():
    model = timm.create_model("attonet_d", device="meta", dtype=torch.bfloat16)
    for key, value in model.state_dict().items():
        assert value.device.type == "meta", key
        assert value.dtype == (
            torch.int64 if key.endswith("num_batches_tracked") else torch.bfloat16
        )
    model = timm.create_model("attonet_d", num_classes=3, dtype=torch.float64)
    assert model(pictures().double()).dtype == torch.float64


def test_drop_path_rises_to_its_rate_in_training_alone():
    model = made("attonet_d", num_classes=4, drop_path_rate=0.5)
    modules = [module for stage in STAGES for module in getattr(model, stage)]
    rates = [getattr(module.drop_path, "drop_prob", 0.0) for module in modules]
    assert rates == pytest.approx([0.5 * index / 15 for index in range(16)], abs=1e-6)
    plain = made("attonet_d", num_classes=4)
    with torch.no_grad():
        assert torch.equal(model(pictures()), plain(pictures()))
        torch.manual_seed(0)
        one, other = model.train()(pictures()), model(pictures())
    assert not torch.equal(one, other)


def test_weights_from_a_local_folder(tmp_path):
    trained = awake(create_classifier("attonet_d", 5)).eval()
    config = {"architecture": "attonet_d", "num_classes": 5, "pretrained_cfg": {"num_classes": 5}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(trained.state_dict(), tmp_path / "model.safetensors")
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    with torch.no_grad():
        assert torch.allclose(model(pictures()), trained(pictures()), atol=1e-6)


@pytest.mark.parametrize("bits", [8, 16])
def test_weights_from_a_backbone_file_with_fewer_bits(bits, tmp_path, classifier):
    trained, _ = classifier("attonet_d")
    path = tmp_path / "backbone.safetensors"
    write_backbone(path, *read_pretraining(trained), bits=bits)
    arguments = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}}
    model = timm.create_model("attonet_d", num_classes=0, **arguments)
    wanted = read_backbone(path).state
    found = model.state_dict()
    assert all(torch.equal(found[key], value) for key, value in wanted.items())


def test_weights_from_a_file_of_ones_own(tmp_path):
    trained = awake(create_classifier("attonet_d", 5)).eval()
    path = tmp_path / "own.safetensors"
    save_file(trained.state_dict(), path)
    overlay = {"file": str(path), "num_classes": 5, "mean": (0.5, 0.5, 0.5)}
    arguments = {"pretrained": True, "pretrained_cfg_overlay": overlay}
    model = timm.create_model("attonet_d", **arguments).eval()
    assert model.default_cfg["mean"] == (0.5, 0.5, 0.5)
    with torch.no_grad():
        assert torch.allclose(model(pictures()), trained(pictures()), atol=1e-6)
        # Other classes: the backbone alone is taken. Grey pictures: the colours' weights are added.
        other = timm.create_model("attonet_d", num_classes=3, **arguments).eval()
        assert other(pictures()).shape == (2, 3)
        assert torch.equal(other.res5[0].mix.conv.weight, trained.backbone.res5[0].mix.conv.weight)
        grey = timm.create_model("attonet_d", in_chans=1, **arguments).eval()
    wanted = trained.backbone.stem.conv.conv.weight.sum(1, keepdim=True)
    assert torch.allclose(grey.stem.conv.conv.weight, wanted, atol=1e-6)
    features = timm.create_model("attonet_d", features_only=True, **arguments)
    assert torch.equal(
        features.state_dict()["res2.0.mix.conv.weight"], model.res2[0].mix.conv.weight
    )
