"""What people do with Detectron2's own `DefaultTrainer` works here, too."""

import json
import logging
from typing import ClassVar

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils.events import EventWriter, get_event_storage

from atto_det.detectron2 import Trainer, VOCInstanceEvaluator
from atto_det.errors import UserError
from atto_det.weights import checkpoint


class Counter(DatasetEvaluator):
    """An evaluator of a user's own: how many pictures it saw, and more with each evaluation."""

    rounds = 0

    def reset(self):
        self.pictures = 0

    def process(self, inputs, outputs):
        self.pictures += len(inputs)

    def evaluate(self):
        Counter.rounds += 1
        figures = {"AP": float(self.rounds), "AP-cat": float("nan"), "pictures": self.pictures}
        return {"segm": figures}


class Lines(EventWriter):
    """A writer of a user's own."""

    seen: ClassVar[list[dict]] = []

    def write(self):
        self.seen.append({k: v for k, (v, _) in get_event_storage().latest().items()})


class Hook(HookBase):
    steps = 0

    def after_step(self):
        Hook.steps += 1


class Overriding(Trainer):
    """Overrides all that `DefaultTrainer` lets one override."""

    @classmethod
    def build_model(cls, cfg):
        model = super().build_model(cfg)
        model.mine = torch.nn.Parameter(torch.ones(1))
        return model

    @classmethod
    def build_optimizer(cls, cfg, model):
        return torch.optim.AdamW(model.parameters(), lr=1e-5)

    @classmethod
    def build_lr_scheduler(cls, cfg, optimizer):
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=99)

    @classmethod
    def build_train_loader(cls, cfg):
        return build_detection_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        return build_detection_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return Counter()

    def build_hooks(self):
        return [*super().build_hooks(), Hook()]

    def build_writers(self):
        return [*super().build_writers(), Lines()]


def test_each_overridden_part_of_the_trainer_is_used(config, tmp_path, caplog):
    cfg = config("SOLVER.MAX_ITER", 2, "TEST.EVAL_PERIOD", 1, "SOLVER.CHECKPOINT_PERIOD", 1)
    trainer = Overriding(cfg)
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(5e-6)
    assert type(trainer.data_loader).__module__.startswith("detectron2.")
    assert results == {"mini_voc_val": {"segm": {"AP": 2.0, "pictures": 4.0}}}
    assert Hook.steps == 2
    assert [seen["mini_voc_val/segm/AP"] for seen in Lines.seen[:2]] == [1.0, 2.0]
    rows = [json.loads(line) for line in (tmp_path / "out/metrics.json").read_text().splitlines()]
    assert [row["mini_voc_val/segm/AP"] for row in rows] == [1.0, 2.0]
    stored = json.loads((tmp_path / "out/evaluation/mini_voc_val_0000002.json").read_text())
    assert stored == results["mini_voc_val"]
    content = checkpoint.load_checkpoint(tmp_path / "out/model_best.pth")
    assert content["iteration"] == 1
    assert "mine" in content["model"]
    again = Overriding(config("SOLVER.MAX_ITER", 3, "SOLVER.STEPS", "()"))
    with caplog.at_level(logging.WARNING, "atto_det"):
        again.resume_or_load(resume=True)
    assert again.start_iter == 2
    assert "pictures start over" in caplog.text


class Stock(DefaultTrainer):
    """Detectron2's own trainer with this project's evaluator."""

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return VOCInstanceEvaluator(cfg, dataset_name)


def test_the_evaluator_serves_detectron2_s_own_trainer(config, caplog, monkeypatch):
    cfg = config("MODEL.MASK_ON", True, "TEST.EVAL_PERIOD", 1, "INPUT.RANDOM_FLIP", "none")
    trainer = Stock(cfg)
    printing = logging.getLogger("detectron2.evaluation.testing")
    monkeypatch.setattr(printing, "handlers", [caplog.handler])
    trainer.train()
    latest = trainer.storage.latest()
    for key in ("bbox/AP_d", "segm/AP_m"):
        assert 0 <= latest[key][0] <= 100
        assert [iteration for _, iteration in trainer.storage.history(key).values()] == [0, 2]
    assert "copypaste: Task: segm" in caplog.text
    assert "copypaste: AP_m" in caplog.text
    assert Stock.test(cfg, trainer.model).keys() == {"bbox", "segm"}


@pytest.fixture(scope="module")
def stock(mini_voc, repository, tmp_path_factory):
    """Folder of a training with Detectron2's own trainer: config.yaml and model_final.pth."""
    import atto_det.detectron2

    output = tmp_path_factory.mktemp("stock")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(mini_voc))
        patch.setenv("ATTO_DET_CACHE", str(output / "cache"))
        options = ["OUTPUT_DIR", str(output), "DATASETS.TEST", "()"]
        cfg = atto_det.detectron2.load_config(repository / "tests/tiny_mini_voc.yaml", options)
        DefaultTrainer(cfg).train()
        (output / "config.yaml").write_text(cfg.dump())  # as Detectron2's default_setup does
    return output


@pytest.mark.parametrize("engine", ["detectron2", "torchvision"])
def test_a_checkpoint_of_detectron2_s_own_trainer_predicts_with_its_config(
    engine, stock, data_root, tmp_path
):
    from atto_det import engine as engines

    package = engines.choose(engine, say=None)
    path, file = stock / "model_final.pth", stock / "config.yaml"
    picture = sorted((data_root / "mini_voc/JPEGImages").glob("*.jpg"))[0]
    with pytest.raises(
        UserError, match=r"does not carry its config.*--config-file.*cfg="
    ) as caught:
        package.Predictor(path)
    assert "\n" not in str(caught.value)
    predictor = package.Predictor(path, cfg=file, score_threshold=0)
    assert predictor.class_names[0] == "aeroplane"
    cfg = package.load_config(file)
    names = [f"class {number}" for number in range(20)]
    named = package.Predictor(path, cfg=cfg, class_names=names, score_threshold=0)
    assert named.class_names == names
    assert cfg.is_frozen()
    found = predictor(picture)
    assert len(found.scores) > 0
    assert np.array_equal(found.boxes, named(picture).boxes)
    with pytest.raises(UserError, match=r"NUM_CLASSES is 20, but class_names has 2 classes"):
        package.Predictor(path, cfg=cfg, class_names=["cup", "door"])
    state = checkpoint.load_checkpoint(path)["model"]
    torch.save(state, tmp_path / "bare.pth")  # weights and nothing else
    bare = package.Predictor(tmp_path / "bare.pth", cfg=cfg, score_threshold=0)
    assert np.array_equal(found.boxes, bare(picture).boxes)
    without = package.load_config(file, ["DATASETS.TRAIN", "()"])
    with pytest.raises(UserError, match="give class_names"):
        package.Predictor(path, cfg=without)


def test_a_checkpoint_of_detectron2_s_own_trainer_is_drawn(stock, data_root, tmp_path):
    from atto_det.cli import visualize

    flags = ["--checkpoint", str(stock / "model_final.pth"), "--dataset", "mini_voc_val"]
    sheet = tmp_path / "sheet.png"
    assert visualize.main([*flags, "--sheet", str(sheet)]) == 1
    assert not sheet.exists()
    flags += ["--config-file", str(stock / "config.yaml")]
    assert visualize.main([*flags, "--sheet", str(sheet)]) == 0
    assert sheet.stat().st_size > 0


def test_a_class_without_an_ap_is_left_out(config, monkeypatch):
    from atto_det.detectron2 import evaluator

    one = VOCInstanceEvaluator(config(), "mini_voc_val")
    monkeypatch.setattr(evaluator, "score", lambda *args, **kwargs: {"AP_d": 3.0, "AP_m": None})
    assert one.evaluate() == {"bbox": {"AP_d": 3.0}}
    assert one.result == {"AP_d": 3.0, "AP_m": None}
