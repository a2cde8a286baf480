"""Training without Detectron2: exact resume, what it leaves behind, how it fails, and parity."""

import errno
import importlib.util
import itertools
import json
import os
import signal
import sys
from pathlib import Path

import pytest
import timm
import torch

from atto_det.errors import UserError
from atto_det.torchvision import run, training
from atto_det.torchvision.predictor import Predictor
from atto_det.torchvision.training import DetectorTraining
from atto_det.training import policy
from atto_det.training.lock import locked
from atto_det.weights import checkpoint

UNTESTED = ["DATASETS.TEST", "()"]
EIGHT = [*UNTESTED, "SOLVER.MAX_ITER", 8, "SOLVER.CHECKPOINT_PERIOD", 3]


@pytest.fixture(scope="module")
def checkpoint_of_two_steps(mini_voc, repository, tmp_path_factory):
    """Written by this engine."""
    from atto_det.torchvision import load_config

    output = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(mini_voc))
        patch.setenv("ATTO_DET_CACHE", str(output / "cache"))
        options = ["OUTPUT_DIR", str(output), *UNTESTED]
        run.train(load_config(repository / "tests/tiny_mini_voc.yaml", options))
    return output / "model_final.pth"


class Stop(Exception):
    """The run ends here, without any of the user's sentences."""


def train_until(iteration: int, cfg) -> None:
    """Train, and break off before `iteration`."""
    whole = DetectorTraining.training_step

    def training_step(self, batch, index):
        if self.iteration == iteration:
            raise Stop
        return whole(self, batch, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DetectorTraining, "training_step", training_step)
        with pytest.raises(Stop):
            run.train(cfg)


def final(folder) -> dict:
    content = checkpoint.load_checkpoint(folder / "model_final.pth")
    del content["atto_det"]  # its command and OUTPUT_DIR differ
    assert content.pop("engine") == "torchvision"
    return content


RECIPE = [
    *("SOLVER.EMA.DECAY", 0.9, "SOLVER.ACCUMULATE", 2),
    *("INPUT.LSJ.ENABLED", True, "INPUT.LSJ.SIZE", "(80, 96)"),
    *("INPUT.COPY_PASTE.PROBABILITY", 0.5, "INPUT.COLOR_JITTER.BRIGHTNESS", 0.4),
]


@pytest.mark.parametrize(
    ("workers", "stop", "recipe"), [(0, 3, []), (2, 4, []), (0, 7, []), (0, 5, RECIPE)]
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
    momentum = one["optimizer"]["state"]
    assert len(momentum) > 50
    assert any(state["momentum_buffer"].any() for state in momentum.values())
    kept = sorted(p.name for p in parts.glob("model_0*.pth"))
    assert kept == ["model_0000002.pth", "model_0000005.pth"]
    rows = [
        [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
        for folder in (whole, parts)
    ]
    assert [[row["iteration"] for row in own] for own in rows] == [[7], [7]]
    assert rows[0][0]["lr"] == rows[1][0]["lr"] == pytest.approx(0.002)  # a step at 6


def test_an_evaluation_that_fails_costs_no_weights_and_is_made_up_for(
    config, tmp_path, monkeypatch
):
    options = ["SOLVER.MAX_ITER", 4, "TEST.EVAL_PERIOD", 2]
    run.train(config(*options, "OUTPUT_DIR", tmp_path / "whole"))
    whole, parts = tmp_path / "whole", config(*options)

    def fail(*_):
        raise Stop

    evaluate = training.evaluate_model
    resume = False
    for last, broken in (("model_0000001.pth", 1), ("model_final.pth", 2)):
        calls = itertools.count(1)
        monkeypatch.setattr(
            training,
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
    monkeypatch.setattr(training, "evaluate_model", evaluate)
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
        self.seen: list[list[float]] = []

    def forward(self, images, targets):
        means = torch.stack([image.mean() / 255 for image in images])
        self.seen.append(means.tolist())
        return {"loss": self.weight * means.mean()}


def test_a_batch_in_parts_gives_the_gradient_of_the_whole(config):
    ends = {}
    for parts in (1, 2, 4):
        options = [*UNTESTED, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.MAX_ITER", 5]
        own = DetectorTraining(config(*options, "SOLVER.ACCUMULATE", parts))
        own.network, own.policy = Toy(), policy.Clock(own)
        own.fit()
        assert len(own.policy.ends) == 5
        assert {len(means) for means in own.network.seen} == {4 // parts}
        pictures = [value for means in own.network.seen for value in means]
        rate = own.trainer.optimizers[0].param_groups[0]["lr"]
        ends[parts] = own.network.weight.item(), pictures, rate, own.losses["total_loss"].item()
    assert ends[1][0] != 1
    assert ends[1][1:3] == ends[2][1:3] == ends[4][1:3]
    for parts in (2, 4):
        assert ends[parts][0] == pytest.approx(ends[1][0], abs=1e-6)
        assert ends[parts][3] == pytest.approx(ends[1][3], abs=1e-6)


def test_another_seed_ends_elsewhere(config, tmp_path):
    for seed in (1, 2):
        run.train(config(*UNTESTED, "SEED", seed, "OUTPUT_DIR", tmp_path / str(seed)))
    one, other = (final(tmp_path / str(seed))["model"] for seed in (1, 2))
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def scores(monkeypatch):
    """Evaluations that give the AP_m, or (AP_d, AP_m), of a list in turn, without a model."""

    def give(values):
        pairs = (value if isinstance(value, tuple) else (1.0, value) for value in values)
        result = lambda *args: dict(zip(("AP_d", "AP_m"), next(pairs), strict=True))  # noqa: E731
        monkeypatch.setattr(training, "evaluate_model", result)
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
    assert "optimizer" not in content
    rows = [json.loads(line) for line in (tmp_path / "out/metrics.json").read_text().splitlines()]
    found = {row["iteration"]: row["mini_voc_val/AP_m"] for row in rows}
    assert found == {1: 10.0, 3: 30.0, 5: 29.9, 7: 20.0}


def test_no_ap_is_no_best_and_a_later_better_one_replaces_it(config, tmp_path, scores):
    scores([(None, None), 0.0, 0.0, 5.0])
    run.train(config("SOLVER.MAX_ITER", 8, "TEST.EVAL_PERIOD", 2))
    assert best(tmp_path / "out") == 7
    scores([(None, None)])
    run.train(config("OUTPUT_DIR", tmp_path / "none"))
    assert not (tmp_path / "none/model_best.pth").exists()


def test_a_run_leaves_what_the_other_engine_leaves(config, tmp_path):
    results = run.train(config("SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 1))
    out = tmp_path / "out"
    names = {path.name for path in out.iterdir() if path.suffix != ".txt"}
    assert {name for name in names if not name.startswith("events.out.tfevents")} == {
        *("config.yaml", "run.json", "metrics.json", "evaluation", "last_checkpoint"),
        *("model_0000002.pth", "model_0000003.pth", "model_final.pth", "model_best.pth"),
    }
    assert (out / "last_checkpoint").read_text() == "model_final.pth"
    record = json.loads((out / "run.json").read_text())
    assert (record["seed"], record["processes"], record["device"]) == (1, 1, "cpu")
    assert "NUM_CLASSES: 20" in (out / "config.yaml").read_text()
    stored = json.loads((out / "evaluation/mini_voc_val_0000004.json").read_text())
    assert stored == results["mini_voc_val"]
    [row] = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    assert row.keys() == {
        *("loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "loss_rpn_loc", "total_loss"),
        *("iteration", "lr", "time", "data_time", "eta_seconds"),
        *("mini_voc_val/AP_d", "mini_voc_val/AP_m"),
    }
    assert "training from iteration 0 to 4" in (out / "log.txt").read_text()
    assert events(out) == {
        key: [(3, pytest.approx(value))] for key, value in row.items() if key != "iteration"
    }


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run: (step, value) by key."""
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = loading.EventAccumulator(str(folder))
    board.Reload()
    keys = board.Tags()["scalars"]
    return {key: [(e.step, e.value) for e in board.Scalars(key)] for key in keys}


def test_tensorboard_forgets_what_a_resumed_run_does_again(tmp_path):
    for rows in ([(19, 5.0), (39, 4.0), (59, 3.0)], [(39, 4.5), (59, 3.5)]):
        meter = training.Meter(tmp_path / "metrics.json")
        for iteration, loss in rows:
            meter.write({"total_loss": loss}, iteration, 100)
    assert events(tmp_path) == {"total_loss": [(19, 5.0), (39, 4.5), (59, 3.5)]}


def test_without_tensorboard_there_is_metrics_json(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    training.Meter(tmp_path / "metrics.json").write({"total_loss": 1.0}, 19, 100)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_a_finished_run_stays_and_can_be_prolonged(config, tmp_path):
    cfg = config(*UNTESTED)
    run.train(cfg)
    with pytest.raises(UserError, match=r"holds a run already: go on with it by --resume"):
        run.train(cfg)
    before = (tmp_path / "out/model_final.pth").read_bytes()
    assert run.train(cfg, resume=True) == {}
    assert (tmp_path / "out/model_final.pth").read_bytes() == before
    run.train(config(*UNTESTED, "SOLVER.MAX_ITER", 3, "SOLVER.STEPS", "()"), resume=True)
    assert final(tmp_path / "out")["iteration"] == 2


def test_killed_between_the_last_two_checkpoints_it_gets_its_final_one(config, tmp_path):
    cfg = config(*UNTESTED, "SOLVER.CHECKPOINT_PERIOD", 2)
    run.train(cfg)
    out = tmp_path / "out"
    whole = final(out)
    (out / "model_final.pth").unlink()
    (out / "last_checkpoint").write_text("model_0000001.pth")
    run.train(cfg, resume=True)
    torch.testing.assert_close(final(out), whole, rtol=0, atol=0)
    assert (out / "last_checkpoint").read_text() == "model_final.pth"


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
def test_resuming_with_another_config_is_refused(config, change, sentence):
    run.train(config(*UNTESTED))
    with pytest.raises(UserError, match=sentence):
        run.train(config(*UNTESTED, *change, "SOLVER.MAX_ITER", 4), resume=True)


def test_neither_engine_resumes_the_other_s_run(config, repository, tmp_path, data_root):
    pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    import atto_det.detectron2

    file, options = repository / "tests/tiny_mini_voc.yaml", [*UNTESTED, "OUTPUT_DIR"]
    run.train(config(*UNTESTED))
    theirs = atto_det.detectron2.load_config(file, [*options, str(tmp_path / "out")])
    with pytest.raises(UserError, match="with the engine torchvision: resume it with --engine tor"):
        atto_det.detectron2.run.train(theirs, resume=True)
    atto_det.detectron2.run.train(
        atto_det.detectron2.load_config(file, [*options, str(tmp_path / "other")])
    )
    with pytest.raises(UserError, match="with the engine detectron2: resume it with --engine det"):
        run.train(config(*options, tmp_path / "other"), resume=True)


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


def test_training_starts_from_given_weights_of_either_engine(
    config, checkpoint_of_two_steps, tmp_path, request
):
    given = [checkpoint_of_two_steps]
    if importlib.util.find_spec("detectron2"):
        given.append(request.getfixturevalue("trained"))
    for number, path in enumerate(given):
        out = tmp_path / str(number)
        options = [*UNTESTED, "MODEL.WEIGHTS", path, "SOLVER.BASE_LR", 0.0, "OUTPUT_DIR", out]
        run.train(config(*options, "SOLVER.MAX_ITER", 1, "SOLVER.STEPS", "()"))
        one, other = checkpoint.load_checkpoint(path)["model"], final(out)["model"]
        assert one.keys() == other.keys()
        for key in one:
            if "running_" not in key and "num_batches" not in key:
                assert torch.equal(one[key], other[key]), key


def test_weights_for_other_classes_start_what_fits(config, checkpoint_of_two_steps, voc_folder,
                                                   tmp_path, caplog):  # fmt: skip
    root = voc_folder(tmp_path / "parts", ["wheel", "door"], train=["one"])
    own = ["DATASETS.FOLDERS", [["parts", str(root)]], "DATASETS.TRAIN", ["parts_train"]]
    cfg = config(*UNTESTED, *own, "MODEL.WEIGHTS", checkpoint_of_two_steps)
    module = DetectorTraining(cfg)
    module.resume_or_load(False)
    given, loaded = checkpoint.load_checkpoint(checkpoint_of_two_steps)["model"], module.weights()
    differing = {key for key in given if not torch.equal(given[key], loaded[key])}
    assert differing == {
        f"roi_heads.{head}.{kind}"
        for head in ("box_predictor.cls_score", "box_predictor.bbox_pred", "mask_head.predictor")
        for kind in ("weight", "bias")
    }


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"model": {"a": "text"}}, "holds no weights"),
        ({"epoch": 3}, "holds no weights"),
        ({"model": {"other.weight": torch.zeros(2)}}, "no tensor of checkpoint .* fits"),
    ],
)
def test_weights_that_are_none_are_refused(config, tmp_path, content, sentence):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=sentence):
        run.train(config(*UNTESTED, "MODEL.WEIGHTS", tmp_path / "weights.pth"))


@pytest.mark.parametrize("path", ["detectron2://x.pkl", "zoo.pkl", "https://host/x.pth"])
def test_what_only_detectron2_reads_is_refused(config, path):
    with pytest.raises(UserError, match="URLs and pickles are for Detectron2"):
        run.train(config(*UNTESTED, "MODEL.WEIGHTS", path))


def test_a_backbone_file_gives_the_detector_its_backbone(config, classifier, tmp_path):
    from atto_det.weights import backbone_file

    path, net = classifier("attonet_d")
    state, description = backbone_file.read_pretraining(path)
    backbone_file.write_backbone(tmp_path / "d.safetensors", state, description)
    module = DetectorTraining(config(*UNTESTED, "MODEL.WEIGHTS", tmp_path / "d.safetensors"))
    before = module.weights()
    module.resume_or_load(False)
    after = module.weights()
    changed = {key for key in after if not torch.equal(before[key], after[key])}
    assert {key for key in after if key.startswith("backbone.bottom_up.")} >= changed
    key = next(k for k in net.state_dict() if k.startswith("res3.") and k.endswith("conv.weight"))
    ratio = (
        after[f"backbone.bottom_up.{key}"] / net.state_dict()[key]
    )  # another length, the same filter
    assert torch.equal(ratio, ratio[:, :1, :1, :1].expand_as(ratio))
    assert torch.equal(ratio.log2(), ratio.log2().round())


def test_a_loss_of_nan_is_a_sentence_and_leaves_what_was_saved(config, tmp_path, monkeypatch):
    whole = DetectorTraining.training_step

    def training_step(self, batch, index):
        if index == 3:
            for parameter in self.parameters():
                parameter.data.fill_(float("nan"))
        return whole(self, batch, index)

    monkeypatch.setattr(DetectorTraining, "training_step", training_step)
    with pytest.raises(UserError) as caught:
        run.train(config(*EIGHT))
    assert "NaN or infinite at iteration 3: lower SOLVER.BASE_LR (now 0.02)" in str(caught.value)
    assert (tmp_path / "out/last_checkpoint").read_text() == "model_0000002.pth"


def test_interrupted_by_the_keyboard_it_says_so_and_keeps_what_was_saved(
    config, tmp_path, monkeypatch
):
    whole = DetectorTraining.training_step

    def training_step(self, batch, index):
        if index == 4:
            raise KeyboardInterrupt
        return whole(self, batch, index)

    monkeypatch.setattr(DetectorTraining, "training_step", training_step)
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            run.train(config(*EIGHT))
    finally:
        signal.signal(signal.SIGINT, before)  # Lightning ignores further ones
    assert (tmp_path / "out/last_checkpoint").read_text() == "model_0000002.pth"


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_while_a_checkpoint_is_written(config, tmp_path, monkeypatch):
    real = os.fsync
    calls = itertools.count()
    # Lets the first checkpoint and its tag pass, after config.yaml and run.json.
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


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["DATASETS.TEST", "['mini_voc_trainval']"], "8 pictures of the test set"),
        (["DATASETS.TRAIN", "()"], "DATASETS.TRAIN names no data set"),
        (["SOLVER.IMS_PER_BATCH", 0], "SOLVER.IMS_PER_BATCH is 0"),
        (["SOLVER.STEPS", "(2,)"], "the keys of SOLVER give no schedule"),
        (["MODEL.WEIGHTS", "nothing.pth"], "nothing.pth does not exist"),
        (["MODEL.ATTONET.NORM", "FrozenBN"], "frozen batch norms without trained statistics"),
        (["DATASETS.NO_HORIZONTAL_FLIP", "['mini_vox']"], "mini_vox, which is no data set"),
    ],
)
def test_what_cannot_end_well_is_refused(config, options, sentence):
    with pytest.raises(UserError, match=sentence):
        run.train(config(*options))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_truncated_picture_is_one_sentence_in_training_and_in_testing(
    config, voc_folder, tmp_path, workers
):
    root = voc_folder(tmp_path / "parts", ["wheel"], train=["a", "b"], val=["c"])
    own = ["DATASETS.FOLDERS", [["parts", str(root)]], "DATALOADER.NUM_WORKERS", workers]
    own += ["DATASETS.TRAIN", ["parts_train"], "DATASETS.TEST", ["parts_val"]]
    for name, fault in (("b", "cannot be read"), ("c", "is cut short")):
        jpeg = root / f"JPEGImages/{name}.jpg"
        jpeg.write_bytes(jpeg.read_bytes()[:-40])
        with pytest.raises(UserError, match=rf"{name}.jpg {fault}.*replace") as caught:
            run.train(config(*own, "OUTPUT_DIR", tmp_path / name))
        assert "\n" not in str(caught.value)


def test_deadline_makes_a_step_the_last_and_evaluates_it(config, tmp_path):
    results = run.train(config("SOLVER.MAX_ITER", 100_000), seconds=1)
    assert set(results) == {"mini_voc_val"}
    assert len(list(tmp_path.rglob("mini_voc_val_*.json"))) == 1
    assert 0 <= final(tmp_path / "out")["iteration"] < 1000


def test_a_step_is_timed_without_leaving_a_trace(config, tmp_path):
    assert 0 < run.seconds_per_step(config(*UNTESTED), steps=2) < 60
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_alone_is_evaluated_as_at_the_end_of_its_training(config, tmp_path):
    [trained] = run.train(config()).values()
    path = tmp_path / "elsewhere.pth"
    (tmp_path / "out/model_final.pth").rename(path)
    before = (tmp_path / "out/config.yaml").read_bytes()
    cfg = run.read_config(None, ["MODEL.WEIGHTS", str(path)])
    assert run.evaluate(cfg)["mini_voc_val"] == trained
    assert json.loads((tmp_path / "out/evaluation/mini_voc_val.json").read_text()) == trained
    assert (tmp_path / "out/config.yaml").read_bytes() == before  # the training's stays
    with pytest.raises(UserError, match=r"--eval-only needs MODEL.WEIGHTS"):
        run.evaluate(config())
    content = checkpoint.load_checkpoint(path)
    content["atto_det"]["class_names"] = content["atto_det"]["class_names"][::-1]
    checkpoint.save_checkpoint(path, content)
    with pytest.raises(UserError, match="knows the classes tvmonitor"):
        run.evaluate(run.read_config(None, ["MODEL.WEIGHTS", str(path)]))


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
