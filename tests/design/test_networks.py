"""A found network by its file: built, pretrained, in both engines and in ONNX."""

import dataclasses
import json
from pathlib import Path

import detector_file as file
import pytest
import torch
import yaml

import atto_det
from atto_det.design import Requirements, find_network
from atto_det.errors import UserError
from atto_det.export.metadata import read_metadata
from atto_det.export.onnx_export import export
from atto_det.nets import ATTONETS, get_spec
from atto_det.nets.registry import is_backbone, short_name
from atto_det.nets.spec_file import spec_to_dict
from atto_det.weights import checkpoint
from atto_det.weights.backbone_file import TRAINING_PART, read_pretraining


@pytest.fixture
def found(generator, tmp_path) -> str:
    """The path of a small network's file."""
    path = tmp_path / "found.yaml"
    path.write_text(yaml.safe_dump(spec_to_dict(generator(3)), default_flow_style=None))
    return str(path)


def test_a_file_is_a_network(found, generator, tmp_path):
    net = atto_det.create_backbone(found, ["res3"])
    assert net.spec == generator(3)
    assert atto_det.create_classifier(found, 4)(torch.zeros(2, 3, 32, 32)).shape == (2, 4)
    name = find_network(found)
    assert get_spec(name) == generator(3)
    assert find_network(name) == name  # it travels as it is
    assert is_backbone(name)
    assert short_name(name) == short_name(find_network(tmp_path / "found.yaml"))
    assert find_network("attonet_b") == short_name("attonet_b") == "attonet_b"


def test_a_generator_is_a_network_for_each_seed(generator, tmp_path):
    path = str(tmp_path / "g3.yaml")
    wanted = dataclasses.replace(generator, requirements=Requirements(parameters=50_000), number=3)
    wanted.save(path)
    assert atto_det.create_backbone(path, seed=7).spec == wanted(7)
    assert get_spec(find_network(f"{path}@8")) == wanted(8)
    with pytest.raises(UserError, match=r"g3.yaml is a generator .* as in .*g3.yaml@7"):
        atto_det.create_backbone(path)


@pytest.mark.parametrize("network", list(ATTONETS))
def test_the_text_of_a_network(network):
    spec = get_spec(network)
    text = json.dumps(spec_to_dict(spec))
    assert "\n" not in text
    assert get_spec(text) == get_spec(f"{{stem: {spec.stem},{text.partition(',')[2]}") == spec


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.yaml", "MODEL.X: network file nowhere.yaml does not exist"),
        ("attonet_a@3", "MODEL.X is 'attonet_a@3': choose one of"),
        ("{stem: 4}", "MODEL.X: a network has the keys stem, res2"),
        ("{stem: [}", "MODEL.X, line 1 is not valid YAML"),
    ],
)
def test_mistakes_are_named(name, message):
    with pytest.raises(UserError, match=message):
        find_network(name, key="MODEL.X")


def test_a_seed_is_for_generators(found):
    for name in ("attonet_a", found):
        with pytest.raises(UserError, match="is one network: a seed is for"):
            find_network(name, seed=3)


def test_a_checkpoint_opens_no_file(found, tmp_path, classifier):
    """What a downloaded file names is never opened, though it is there."""
    from atto_det.torchvision.predictor import Predictor

    path = file.write(tmp_path / "model.pth", "MODEL.ATTONET.NAME", found)
    content = checkpoint.load_checkpoint(path)
    part = content["atto_det"]
    tree = yaml.safe_load(part["config"])
    tree["MODEL"]["ATTONET"]["NAME"] = found
    checkpoint.save_checkpoint(path, content | {"atto_det": part | {"config": yaml.dump(tree)}})
    with pytest.raises(UserError, match="which is not opened here"):
        Predictor(path)
    path, _ = classifier()
    content = checkpoint.load_checkpoint(path)
    content[TRAINING_PART]["network"] = found
    checkpoint.save_checkpoint(path, content)
    with pytest.raises(UserError, match=r"holds .*found.yaml; the backbones exported"):
        export(path, tmp_path / "model.onnx", [])


@pytest.mark.slow
def test_pretraining_takes_it_and_onnx_carries_it(found, colours, tmp_path, monkeypatch):
    from atto_det.pretraining import cli

    monkeypatch.setenv("DETECTRON2_DATASETS", str(colours))
    monkeypatch.setattr("sys.argv", ["pretrain.py"])
    flags = {
        **{"model.network": found, "model.ema_decay": 0.9, "model.warmup_epochs": 1},
        **{"data.root": "colours", "data.image_size": 32, "data.batch_size": 16},
        **{"data.workers": 0, "trainer.max_epochs": 1, "trainer.enable_model_summary": "false"},
        "trainer.default_root_dir": str(tmp_path / "run"),
    }
    command = ["fit", *(f"--{key}={value}" for key, value in flags.items())]
    cli.run(command)
    name = find_network(found)
    Path(found).unlink()
    path = tmp_path / "run" / "last.ckpt"
    assert read_pretraining(path).description.network == name
    pictures = [torch.randint(0, 255, (40, 50, 3), dtype=torch.uint8).numpy()]
    export(path, tmp_path / "found.onnx", pictures)
    assert read_metadata(tmp_path / "found.onnx").network == name
    assert short_name(name) in read_metadata(tmp_path / "found.onnx").summary()[0]
    with pytest.raises(UserError, match=r"holds spec-.*, and model.network is attonet_d"):
        cli.run([*command, "--model.network=attonet_d", "--ckpt_path=last"])


@pytest.mark.parametrize("engine", ["detectron2", "torchvision"])
def test_mask_rcnn_trains_and_carries_it(engine, found, data_root, repository, tmp_path):
    if engine == "detectron2":
        pytest.importorskip("detectron2", reason="Detectron2 is not installed")
        from atto_det.detectron2 import Predictor, load_config, run
    else:
        from atto_det.torchvision import Predictor, load_config, run
    options = ["MODEL.ATTONET.NAME", found, "DATASETS.TEST", "()", "SOLVER.MAX_ITER", "1"]
    options += ["OUTPUT_DIR", str(tmp_path / "run")]
    run.train(load_config(repository / "tests/tiny_mini_voc.yaml", options))
    name = find_network(found)
    Path(found).unlink()
    path = tmp_path / "run" / "model_final.pth"
    config = checkpoint.load_checkpoint(path)["atto_det"]["config"]
    assert yaml.safe_load(config)["MODEL"]["ATTONET"]["NAME"] == name
    predictor = Predictor(path)
    picture = torch.randint(0, 255, (96, 128, 3), dtype=torch.uint8).numpy()
    assert len(predictor(picture).scores) == 5


@pytest.mark.slow
def test_a_detector_in_onnx_carries_it(found, tmp_path):
    file.write(tmp_path / "model.pth", "MODEL.ATTONET.NAME", found)
    name = find_network(found)
    Path(found).unlink()
    pictures = [torch.randint(0, 255, (96, 128, 3), dtype=torch.uint8).numpy()]
    export(tmp_path / "model.pth", tmp_path / "model.onnx", pictures)
    assert read_metadata(tmp_path / "model.onnx").network == name
