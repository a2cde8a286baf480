"""A data set of three colours, and runs on it as the command line makes them."""

import pytest


@pytest.fixture
def run(colours, tmp_path, monkeypatch):
    """A function that runs tools/pretrain.py's command line in this process, and returns it."""
    from atto_det.pretraining import cli

    monkeypatch.setenv("DETECTRON2_DATASETS", str(colours))
    settings = {
        "model.network": "attonet_d",
        "model.warmup_epochs": 1,
        "model.ema_decay": 0.9,
        "data.root": "colours",
        "data.image_size": 32,
        "data.batch_size": 4,
        "data.workers": 0,
        "trainer.max_epochs": 2,
        "trainer.log_every_n_steps": 1,
        "trainer.default_root_dir": str(tmp_path / "run"),
        "trainer.enable_model_summary": "false",
    }

    def start(subcommand: str = "fit", **changes: object):
        values = settings | {key.replace("__", "."): value for key, value in changes.items()}
        flags = [f"--{key}={value}" for key, value in values.items() if value is not None]
        monkeypatch.setattr("sys.argv", ["pretrain.py"])
        return cli.run([subcommand, *flags])

    return start
