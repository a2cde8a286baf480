"""Every config of the pretraining, built and stepped once."""

from pathlib import Path

import pytest
import timm
import torch

CONFIGS = Path(__file__).resolve().parents[2] / "configs/pretrain"
SMALL_PICTURES = "tiny_imagenet50.yaml"
DISTILLATION = "distil_tiny_imagenet.yaml"
ON_TOP = (SMALL_PICTURES, DISTILLATION)
NETWORKS = sorted(path.name for path in CONFIGS.glob("*.yaml") if path.name not in ON_TOP)
SMALL = {
    "data.root": "colours",
    "data.image_size": 32,
    "data.batch_size": 4,
    "data.workers": 0,
    "trainer.precision": "32-true",
    "trainer.max_epochs": 1,
    "trainer.max_steps": 1,
    "trainer.enable_model_summary": "false",
}


@pytest.fixture
def step(colours, tmp_path, monkeypatch):
    from atto_det.pretraining import cli

    monkeypatch.setenv("DETECTRON2_DATASETS", str(colours))
    monkeypatch.setattr("sys.argv", ["pretrain.py"])

    def start(*configs: str, **changes: object):
        settings = SMALL | {"trainer.default_root_dir": tmp_path / "run"} | changes
        files = [f"--config={CONFIGS / name}" for name in configs]
        return cli.run(["fit", *files, *(f"--{key}={value}" for key, value in settings.items())])

    return start


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_s_config_trains(step, name, tmp_path):
    assert step(name).trainer.global_step == 1
    assert (tmp_path / "run/last.ckpt").exists()


def test_the_recipe_for_small_pictures_goes_on_top(step):
    cli = step("attonet_d_imagenet50.yaml", SMALL_PICTURES)
    assert cli.model.network == "attonet_d"
    assert (cli.model.ema_decay, cli.model.weight_decay) == (0.998, 5e-4)


def test_the_distillation_goes_on_top(step, tmp_path):
    weights = tmp_path / "teacher.pth"
    torch.save(timm.create_model("tf_efficientnet_lite0").state_dict(), weights)
    cli = step("attonet_d_imagenet50.yaml", DISTILLATION, **{"model.teacher_weights": weights})
    assert (cli.model.network, len(cli.model.class_names)) == ("attonet_d", 1000)
    assert cli.datamodule.lessons.view.mean == (0.5, 0.5, 0.5)
    assert cli.datamodule.lessons.view.size == 160


def test_each_has_an_output_of_its_own():
    texts = [(CONFIGS / name).read_text() for name in NETWORKS]
    outputs = [line for text in texts for line in text.splitlines() if "default_root_dir" in line]
    assert len(set(outputs)) == len(NETWORKS) == 10
