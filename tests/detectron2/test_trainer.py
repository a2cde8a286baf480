"""Training: exact resume, what it leaves behind, and how it fails."""

import errno
import itertools
import json
import os
import warnings

import numpy as np
import pytest
import timm
import torch

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2.utils.events import JSONWriter

from atto_det.detectron2 import Predictor, Trainer, run, trainer
from atto_det.drawing import gallery
from atto_det.errors import UserError
from atto_det.evaluation.coco import COLUMNS
from atto_det.training import policy
from atto_det.training.lock import locked
from atto_det.weights import checkpoint

UNTESTED = ["DATASETS.TEST", "()"]
EIGHT = [*UNTESTED, "SOLVER.MAX_ITER", 8, "SOLVER.CHECKPOINT_PERIOD", 3]


class Stop(Exception):
    """The run ends here, without any of the user's sentences."""


def train_until(iteration: int, cfg) -> None:
    """Train, and break off before `iteration`."""
    whole = Trainer.run_step

    def run_step(self):
        if self.iter == iteration:
            raise Stop
        whole(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "run_step", run_step)
        with pytest.raises(Stop):
            run.train(cfg)


def final(folder) -> dict:
    content = checkpoint.load_checkpoint(folder / "model_final.pth")
    return {key: content[key] for key in ("model", "trainer", "iteration", "run")}


RECIPE = [
    *("SOLVER.EMA.DECAY", 0.9, "SOLVER.ACCUMULATE", 2, "SOLVER.LR_SCHEDULER_NAME"),
    *("WarmupCosineLR", "INPUT.LSJ.ENABLED", True, "INPUT.LSJ.SIZE", "(80, 96)"),
    *("INPUT.COPY_PASTE.PROBABILITY", 0.5, "INPUT.COLOR_JITTER.BRIGHTNESS", 0.4),
]


@pytest.mark.parametrize(
    ("workers", "stop", "recipe"),
    [(0, 3, []), (0, 5, []), (2, 4, []), (0, 7, []), (0, 5, RECIPE)],
)
def test_a_resumed_run_ends_like_an_uninterrupted_one(config, tmp_path, workers, stop, recipe):
    options = [*EIGHT, "DATALOADER.NUM_WORKERS", workers, *recipe]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run.train(config(*options, "OUTPUT_DIR", whole))
    train_until(stop, config(*options, "OUTPUT_DIR", parts))
    torch.manual_seed(99)  # whatever happened in between
    run.train(config(*options, "OUTPUT_DIR", parts), resume=True)
    one, other = final(whole), final(parts)
    torch.testing.assert_close(one, other, rtol=0, atol=0)  # bit by bit
    momentum = one["trainer"]["_trainer"]["optimizer"]["state"]
    assert len(momentum) > 50
    assert any(state["momentum_buffer"].any() for state in momentum.values())
    assert one["trainer"]["hooks"]["LRScheduler"]["last_epoch"] == 8
    kept = sorted(p.name for p in parts.glob("model_0*.pth"))
    assert kept == ["model_0000002.pth", "model_0000005.pth"]


BOXES_ALONE = {
    "Faster R-CNN": ["MODEL.MASK_ON", False, "INPUT.MASK_FORMAT", "polygon"],
    "RetinaNet": [
        *("MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.RETINANET.NUM_CLASSES", 0),
        *("MODEL.BACKBONE.NAME", "build_retinanet_attonet_fpn_backbone"),
        *("MODEL.FPN.IN_FEATURES", "['res3', 'res4', 'res5']"),
        *("MODEL.ANCHOR_GENERATOR.SIZES", "[[16], [32], [64], [128], [256]]"),
        *("MODEL.RETINANET.SCORE_THRESH_TEST", 0.0),
    ],
}


@pytest.mark.parametrize("options", BOXES_ALONE.values(), ids=BOXES_ALONE)
def test_a_detector_of_boxes_alone_is_trained_judged_and_used(config, tmp_path, options):
    cfg = config(*options, "SOLVER.MAX_ITER", 2)
    [result] = run.train(cfg).values()
    assert result["AP_d"] is not None
    assert result["AP_m"] is None
    assert result["thresholds"]["0.5"] == {"AP_d": result["AP_d"], "AP_m": None}
    assert result["coco"]["mask"] == dict.fromkeys(COLUMNS)
    best = tmp_path / "out/model_best.pth"
    again = config(*options, "MODEL.WEIGHTS", best, "OUTPUT_DIR", tmp_path / "again")
    assert run.evaluate(again) == {"mini_voc_val": result}
    predictor = Predictor(best, score_threshold=0)
    image = np.zeros((96, 128, 3), np.uint8)
    found = predictor(image)
    assert found.rles is None
    assert len(found.boxes) == len(found.scores) > 0
    assert (gallery.predict_image(predictor, image, predictor.class_names, 0) != image).any()


def test_an_evaluation_that_fails_costs_no_weights_and_is_made_up_for(
    config, tmp_path, monkeypatch
):
    options = ["SOLVER.MAX_ITER", 4, "TEST.EVAL_PERIOD", 2]
    run.train(config(*options, "OUTPUT_DIR", tmp_path / "whole"))
    whole, parts = tmp_path / "whole", config(*options)

    def fail(*_):
        raise Stop

    evaluate = trainer.evaluate_model
    resume = False
    for last, broken in (("model_0000001.pth", 1), ("model_final.pth", 2)):
        calls = itertools.count(1)
        monkeypatch.setattr(
            trainer,
            "evaluate_model",
            lambda *args, n=broken, c=calls: (fail if next(c) == n else evaluate)(*args),
        )
        with pytest.raises(Stop):
            run.train(parts, resume=resume)
        assert (tmp_path / "out/last_checkpoint").read_text() == last
        resume = True
    one, other = final(whole)["model"], final(tmp_path / "out")["model"]
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert final(tmp_path / "out")["run"]["owes"]
    monkeypatch.setattr(trainer, "evaluate_model", evaluate)
    again = config(*options)
    [result] = run.train(again, resume=True).values()
    torch.testing.assert_close(final(whole), final(tmp_path / "out"), rtol=0, atol=0)
    rows = [
        [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
        for folder in (whole, tmp_path / "out")
    ]
    found = [[(row["iteration"], row["mini_voc_val/AP_m"]) for row in own] for own in rows]
    assert found[0] == found[1]
    assert [iteration for iteration, _ in found[0]] == [1, 3]
    for name in ("2", "4"):
        stored = [
            (folder / f"evaluation/mini_voc_val_000000{name}.json").read_text()
            for folder in (whole, tmp_path / "out")
        ]
        assert stored[0] == stored[1]
    assert result == json.loads(stored[0])
    assert run.train(again, resume=True) == {}


class Toy(torch.nn.Module):
    """Whose loss is known: weight · mean of each picture, in the mean of the pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))
        self.seen: list[list[str]] = []

    def forward(self, batch):
        self.seen.append([item["file_name"] for item in batch])
        means = [item["image"].float().mean() / 255 for item in batch]
        return {"loss": self.weight * torch.stack(means).mean()}


def test_a_batch_in_parts_gives_the_gradient_of_the_whole(config, monkeypatch):
    monkeypatch.setattr(Trainer, "build_model", staticmethod(lambda cfg: Toy()))
    ends = {}
    for parts in (1, 2, 4):
        options = [*UNTESTED, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.MAX_ITER", 5]
        training = Trainer(config(*options, "SOLVER.ACCUMULATE", parts))
        training.policy = policy.Clock(training)
        training.fit()
        assert len(training.policy.ends) == 5
        assert {len(names) for names in training.network.seen} == {4 // parts}
        pictures = [name for names in training.network.seen for name in names]
        ends[parts] = training.network.weight.item(), pictures
        assert training.storage.history("total_loss").latest() > 0
    assert ends[1][1] == ends[2][1] == ends[4][1]
    assert ends[1][0] != 1
    assert ends[2][0] == pytest.approx(ends[1][0], abs=1e-6)
    assert ends[4][0] == pytest.approx(ends[1][0], abs=1e-6)


def test_another_seed_ends_elsewhere(config, tmp_path):
    for seed in (1, 2):
        run.train(config(*UNTESTED, "SEED", seed, "OUTPUT_DIR", tmp_path / str(seed)))
    one, other = (final(tmp_path / str(seed))["model"] for seed in (1, 2))
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_only_the_last_two_checkpoints_stay_over_a_resume(config, tmp_path):
    options = [*UNTESTED, "SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.MAX_ITER", 9]
    train_until(5, config(*options))
    (tmp_path / "out/.model_0000005.xyz.pth").write_bytes(b"half a checkpoint, left by a kill")
    run.train(config(*options), resume=True)
    kept = sorted(p.name for p in (tmp_path / "out").iterdir() if p.suffix == ".pth")
    assert kept == ["model_0000005.pth", "model_0000007.pth", "model_final.pth"]


@pytest.fixture
def scores(monkeypatch):
    """Evaluations that give the AP_m, or (AP_d, AP_m), of a list in turn, without a model."""

    def give(values):
        pairs = (value if isinstance(value, tuple) else (1.0, value) for value in values)
        result = lambda *args: dict(zip(("AP_d", "AP_m"), next(pairs), strict=True))  # noqa: E731
        monkeypatch.setattr(trainer, "evaluate_model", result)
        monkeypatch.setattr(policy, "report", lambda result, path: None)

    return give


def best(folder) -> int:
    return checkpoint.load_checkpoint(folder / "model_best.pth")["iteration"]


def test_the_best_checkpoint_by_mask_ap_is_kept_over_a_resume(config, tmp_path, scores):
    options = ["SOLVER.MAX_ITER", 8, "SOLVER.CHECKPOINT_PERIOD", 4, "TEST.EVAL_PERIOD", 2]
    scores([10.0, 30.0, 99.0])
    train_until(4, config(*options))
    assert best(tmp_path / "out") == 3
    scores([29.9, 20.0])
    run.train(config(*options), resume=True)
    assert best(tmp_path / "out") == 3
    content = checkpoint.load_checkpoint(tmp_path / "out/model_best.pth")
    checkpoint.read_description(content, "model_best.pth")  # complete in itself
    assert "trainer" not in content
    rows = [json.loads(line) for line in (tmp_path / "out/metrics.json").read_text().splitlines()]
    found = {row["iteration"]: row["mini_voc_val/AP_m"] for row in rows}
    assert found == {1: 10.0, 3: 30.0, 5: 29.9, 7: 20.0}


def test_a_later_better_one_replaces_it_and_no_ap_is_no_best(config, tmp_path, scores):
    scores([(None, None), 0.0, 0.0, 5.0])
    run.train(config("SOLVER.MAX_ITER", 8, "TEST.EVAL_PERIOD", 2))
    assert best(tmp_path / "out") == 7
    scores([(None, None)])
    run.train(config("OUTPUT_DIR", tmp_path / "none"))
    assert not (tmp_path / "none/model_best.pth").exists()


def test_without_masks_the_best_is_that_of_boxes(config, tmp_path, scores):
    scores([(1.0, None), (7.0, None), (5.0, None), (6.9, None)])
    run.train(config("SOLVER.MAX_ITER", 8, "TEST.EVAL_PERIOD", 2))
    assert best(tmp_path / "out") == 3


def test_a_finished_run_stays_and_can_be_prolonged(config, tmp_path, caplog):
    cfg = config(*UNTESTED)
    run.train(cfg)
    with pytest.raises(UserError, match=r"holds a run already: go on with it by --resume"):
        run.train(cfg)
    before = (tmp_path / "out/model_final.pth").read_bytes()
    run.train(cfg, resume=True)
    assert (tmp_path / "out/model_final.pth").read_bytes() == before
    run.train(config(*UNTESTED, "SOLVER.MAX_ITER", 3, "SOLVER.STEPS", "()"), resume=True)
    assert final(tmp_path / "out")["iteration"] == 2


def test_resuming_where_there_is_nothing_starts_at_the_beginning(config, tmp_path):
    run.train(config(*UNTESTED), resume=True)
    assert final(tmp_path / "out")["iteration"] == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["MODEL.ROI_BOX_HEAD.FC_DIM", 24], "tensors of checkpoint .* do not fit the config"),
        (["MODEL.ATTONET.NAME", "attonet_c"], "tensors of checkpoint .* do not fit the config"),
        (["SOLVER.WEIGHT_DECAY_BIAS", 0.5], "cannot be resumed from with this config"),
        (["SEED", 2], "SEED is 2, but .*model_final.pth was trained with 1: resume with that"),
        (
            ["DATALOADER.FILTER_EMPTY_ANNOTATIONS", False, "DATASETS.TRAIN", "['mini_voc_val']"],
            "DATASETS.TRAIN is .'mini_voc_val'., but",
        ),
    ],
)
def test_resuming_with_another_config_is_refused(config, tmp_path, change, sentence):
    run.train(config(*UNTESTED))
    with pytest.raises(UserError, match=sentence):
        run.train(config(*UNTESTED, *change, "SOLVER.MAX_ITER", 4), resume=True)


def test_resuming_with_other_classes_is_refused(config, voc_folder, tmp_path):
    options = []
    for name, classes in (("one", ["cup", "door"]), ("two", ["door", "cup"])):
        voc_folder(tmp_path / name, classes, train=["a", "b"])
        folders = [[name, str(tmp_path / name)]]
        options.append(["DATASETS.FOLDERS", folders, "DATASETS.TRAIN", [f"{name}_train"]])
    run.train(config(*UNTESTED, *options[0]))
    with pytest.raises(UserError, match="was trained on other classes"):
        run.train(config(*UNTESTED, *options[1], "SOLVER.MAX_ITER", 4), resume=True)


def test_a_last_checkpoint_that_is_gone_or_damaged_is_named(config, tmp_path):
    cfg = config(*UNTESTED)
    run.train(cfg)
    path = tmp_path / "out/model_final.pth"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"model_final.pth"):
        run.train(cfg, resume=True)
    path.unlink()
    with pytest.raises(UserError, match=r"model_final.pth does not exist"):
        run.train(cfg, resume=True)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"model": {"a": "text"}}, "holds no weights"),
        ({"model": [1, 2]}, "holds no weights"),
        ({"epoch": 3}, "holds no weights"),
        ({"model": {"other.weight": torch.zeros(2)}}, "no tensor of the checkpoint fits"),
    ],
)
def test_weights_that_are_none_are_refused(config, tmp_path, content, sentence):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=sentence):
        run.train(config(*UNTESTED, "MODEL.WEIGHTS", tmp_path / "weights.pth"))


def test_other_pictures_under_the_same_names_and_a_second_run_are_refused(
    config, voc_folder, tmp_path
):
    for folder, names in (("one", ["a", "b"]), ("two", ["a", "c"])):
        voc_folder(tmp_path / folder, ["cup"], train=names)
    own = lambda folder: [*UNTESTED, "DATASETS.TRAIN", ["own_train"], "DATASETS.FOLDERS",  # noqa: E731
                          [["own", str(tmp_path / folder)]]]  # fmt: skip
    run.train(config(*own("one")))
    with pytest.raises(UserError, match="was trained on other pictures or annotations than"):
        run.train(config(*own("two")), resume=True)
    with locked(tmp_path / "out"), pytest.raises(UserError, match="another run is at work in"):
        run.train(config(*own("one")), resume=True)
    assert run.train(config(*own("one")), resume=True) == {}


def test_training_starts_from_given_weights(config, trained, tmp_path):
    options = [*UNTESTED, "MODEL.WEIGHTS", trained, "SOLVER.BASE_LR", 1e-60, "SOLVER.MAX_ITER", 1]
    run.train(config(*options, "SOLVER.STEPS", "()"))
    one = checkpoint.load_checkpoint(trained)["model"]
    other = final(tmp_path / "out")["model"]
    for key in one:
        if "running_" not in key and "num_batches" not in key:
            assert torch.equal(one[key], other[key]), key


def test_a_loss_of_nan_is_a_sentence_and_leaves_what_was_saved(config, tmp_path, monkeypatch):
    whole = trainer.SimpleTrainer.run_step

    def run_step(self):
        if self.iter == 3:
            for parameter in self.model.parameters():
                parameter.data.fill_(float("nan"))
        whole(self)

    monkeypatch.setattr(trainer.SimpleTrainer, "run_step", run_step)
    with pytest.raises(UserError) as caught:
        run.train(config(*EIGHT))
    assert "NaN or infinite at iteration 3: lower SOLVER.BASE_LR (now 0.02)" in str(caught.value)
    assert (tmp_path / "out/last_checkpoint").read_text() == "model_0000002.pth"


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_while_a_checkpoint_is_written(config, tmp_path, monkeypatch):
    real = os.fsync
    calls = itertools.count()
    # Lets the first checkpoint and its tag pass.
    monkeypatch.setattr(
        "atto_det.errors.os.fsync", lambda f: full() if next(calls) > 3 else real(f)
    )
    with pytest.raises(UserError, match=r"model_0000005.pth was not written: the disk is full"):
        run.train(config(*EIGHT))
    out = tmp_path / "out"
    assert (out / "last_checkpoint").read_text() == "model_0000002.pth"
    assert [p.name for p in out.glob("*.pth")] == ["model_0000002.pth"]
    assert not list(out.glob(".model*"))
    monkeypatch.undo()


def test_a_full_disk_while_metrics_are_written(config, monkeypatch):
    monkeypatch.setattr(JSONWriter, "write", full)
    with pytest.raises(UserError, match="out was not written: the disk is full"):
        run.train(config(*UNTESTED))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["MODEL.META_ARCHITECTURE", "ProposalNetwork"],
         "ProposalNetwork, which finds no objects of classes.*set DATASETS.TEST to"),
        (["TEST.PRECISE_BN.ENABLED", True], "TEST.PRECISE_BN.ENABLED is True"),
        (["SOLVER.ACCUMULATE", 3], "1 processes with SOLVER.ACCUMULATE 3 need a multiple of 3"),
        (["SOLVER.ACCUMULATE", 0], "SOLVER.ACCUMULATE is 0: it must be at least 1"),
        (["SOLVER.EMA.DECAY", 1.5], "SOLVER.EMA.DECAY is 1.5"),
        (["SOLVER.STEPS", "(8,)", "SOLVER.MAX_ITER", 8], "the keys of SOLVER give no schedule"),
        (["SOLVER.LR_SCHEDULER_NAME", "Cosine"], "the keys of SOLVER give no schedule"),
        (["DATASETS.TEST", "['mini_voc_trainval']"], "8 pictures of the test set"),
        (["MODEL.META_ARCHITECTURE", "MaskRCNN"], "no model can be built.*MaskRCNN"),
        (["MODEL.SEM_SEG_HEAD.CONVS_DIM", 16, "MODEL.META_ARCHITECTURE", "PanopticFPN"],
         r"no model can be built from this config: num_channels \(16\)"),
    ],
)  # fmt: skip
def test_what_cannot_end_well_is_refused_at_the_start(config, options, sentence):
    with pytest.raises(UserError, match=sentence):
        Trainer(config(*options))


def test_classes_that_differ_between_training_sets_are_refused(config, voc_folder, tmp_path):
    root = voc_folder(tmp_path / "cups", [f"cup {k}" for k in range(20)], train=["a"])
    with pytest.raises(UserError, match="mini_voc_train and cups_train have different classes"):
        Trainer(
            config(
                *UNTESTED,
                *("DATASETS.FOLDERS", [["cups", str(root)]]),
                *("DATASETS.TRAIN", ["mini_voc_train", "cups_train"]),
            )
        )


@pytest.mark.parametrize(
    "options", [("MODEL.ATTONET.NORM", "FrozenBN"), ("MODEL.BACKBONE.FREEZE_AT", 2)]
)
def test_frozen_norms_train_from_weights_alone(config, trained, options, tmp_path):
    with pytest.raises(UserError, match="frozen batch norms without trained statistics"):
        run.train(config(*UNTESTED, *options))
    run.train(config(*UNTESTED, *options, "MODEL.WEIGHTS", trained, "OUTPUT_DIR", tmp_path / "b"))
    before = checkpoint.load_checkpoint(trained)["model"]
    after = final(tmp_path / "b")["model"]
    key = "backbone.bottom_up.stem.conv.weight"
    key = next(k for k in before if ".stem." in k and k.endswith("running_var"))
    assert torch.equal(before[key], after[key])


def test_a_run_records_what_it_follows_from(config, tmp_path):
    run.train(config())
    out = tmp_path / "out"
    record = json.loads((out / "run.json").read_text())
    assert record["seed"] == 1
    assert record["processes"] == 1
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    assert "NUM_CLASSES: 20" in (out / "config.yaml").read_text()
    result = json.loads((out / "evaluation/mini_voc_val_0000002.json").read_text())
    assert result["protocol"]["images"] == 4
    rows = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [1]
    assert {"total_loss", "lr", "mini_voc_val/AP_m"} <= rows[0].keys()


def test_no_warning_reaches_the_user_in_a_step(config):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        run.train(config(*UNTESTED))


def test_deadline_makes_a_step_the_last_and_evaluates_it(config, tmp_path):
    results = run.train(config("SOLVER.MAX_ITER", 100_000), seconds=1)
    assert set(results) == {"mini_voc_val"}
    assert len(list(tmp_path.rglob("mini_voc_val_*.json"))) == 1


def test_training_starts_from_weights_of_timm_and_needs_their_file_no_more(config, tmp_path):
    name = "mobilenetv3_small_050"
    state = timm.create_model(name, num_classes=3).state_dict()
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    options = [*UNTESTED, "MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", name]
    options += ["MODEL.TIMM.WEIGHTS", path, "SOLVER.BASE_LR", 1e-60, "SOLVER.CHECKPOINT_PERIOD", 1]
    run.train(config(*options, "SOLVER.MAX_ITER", 1, "SOLVER.STEPS", "()"))
    path.unlink()
    run.train(config(*options, "SOLVER.STEPS", "()"), resume=True)
    trained = final(tmp_path / "out")["model"]
    key = "conv_stem.weight"
    assert torch.equal(trained[f"backbone.bottom_up.net.{key}"], state[key])
    assert Predictor(tmp_path / "out/model_final.pth").class_names


def test_pictures_held_out_choose_the_best_model(config, tmp_path):
    options = ["DATASETS.HOLD_OUT", 3, "SOLVER.MAX_ITER", 4, "TEST.EVAL_PERIOD", 2]
    results = run.train(config(*options, "TEST.PATIENCE", 5, "OUTPUT_DIR", tmp_path / "out"))
    assert list(results) == ["mini_voc_train_held_out", "mini_voc_val"]
    assert results["mini_voc_train_held_out"]["protocol"]["images"] == 3
    assert sorted(path.name for path in (tmp_path / "out/evaluation").iterdir()) == [
        "mini_voc_train_held_out_0000002.json",
        "mini_voc_train_held_out_0000004.json",
        "mini_voc_val_0000004.json",
    ]
    content = checkpoint.load_checkpoint(tmp_path / "out/model_final.pth")
    best = results["mini_voc_train_held_out"]["AP_m"]
    assert content["run"]["best"] >= best
