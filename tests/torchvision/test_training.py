"""Training that torchvision alone does; what both engines do is in tests/training/test_runs.py."""

import json
import signal
import sys
from pathlib import Path

import pytest
import torch

from atto_det.errors import UserError
from atto_det.torchvision import run, training
from atto_det.torchvision.training import DetectorTraining
from atto_det.training import policy
from atto_det.weights import checkpoint

UNTESTED = ["DATASETS.TEST", "()"]
EIGHT = [*UNTESTED, "SOLVER.MAX_ITER", 8, "SOLVER.CHECKPOINT_PERIOD", 3]


def final(folder) -> dict:
    content = checkpoint.load_checkpoint(folder / "model_final.pth")
    del content["atto_det"]  # its command and OUTPUT_DIR differ
    assert content.pop("engine") == "torchvision"
    return content


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run: (step, value) by key."""
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = loading.EventAccumulator(str(folder))
    board.Reload()
    keys = board.Tags()["scalars"]
    return {key: [(e.step, e.value) for e in board.Scalars(key)] for key in keys}


def test_tensorboard_shows_what_metrics_json_says(trained_by_torchvision):
    folder = trained_by_torchvision.parent
    row = json.loads((folder / "metrics.json").read_text())
    assert row.pop("iteration") == 1
    assert events(folder) == {key: [(1, pytest.approx(value))] for key, value in row.items()}


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


class Toy(torch.nn.Module):
    """Whose loss is known: weight · mean of each picture, averaged over the pictures."""

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


def test_weights_for_other_classes_start_what_fits(config, trained_by_torchvision, voc_folder,
                                                   tmp_path):  # fmt: skip
    root = voc_folder(tmp_path / "parts", ["wheel", "door"], train=["one"])
    own = ["DATASETS.FOLDERS", [["parts", str(root)]], "DATASETS.TRAIN", ["parts_train"]]
    cfg = config(*UNTESTED, *own, "MODEL.WEIGHTS", trained_by_torchvision)
    module = DetectorTraining(cfg)
    module.resume_or_load(False)
    given, loaded = checkpoint.load_checkpoint(trained_by_torchvision)["model"], module.weights()
    differing = {key for key in given if not torch.equal(given[key], loaded[key])}
    assert differing == {
        f"roi_heads.{head}.{kind}"
        for head in ("box_predictor.cls_score", "box_predictor.bbox_pred", "mask_head.predictor")
        for kind in ("weight", "bias")
    }


@pytest.mark.parametrize("path", ["detectron2://x.pkl", "zoo.pkl", "https://host/x.pth"])
def test_what_only_detectron2_reads_is_refused(config, path):
    with pytest.raises(UserError, match="URLs and pickles are for Detectron2"):
        run.train(config(*UNTESTED, "MODEL.WEIGHTS", path))


def test_a_backbone_file_gives_the_detector_its_backbone(config, backbone):
    file, net = backbone()
    module = DetectorTraining(config(*UNTESTED, "MODEL.WEIGHTS", file))
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


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["SOLVER.IMS_PER_BATCH", 0], "SOLVER.IMS_PER_BATCH is 0"),
        (["DATASETS.NO_HORIZONTAL_FLIP", "['mini_vox']"], "mini_vox, which is neither a data set"),
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
    assert json.loads((tmp_path / "evaluation/mini_voc_val.json").read_text()) == trained
    assert (tmp_path / "out/config.yaml").read_bytes() == before  # the training's stays
    with pytest.raises(UserError, match=r"--eval-only needs MODEL.WEIGHTS"):
        run.evaluate(config())
    content = checkpoint.load_checkpoint(path)
    content["atto_det"]["class_names"] = content["atto_det"]["class_names"][::-1]
    checkpoint.save_checkpoint(path, content)
    with pytest.raises(UserError, match="knows the classes tvmonitor"):
        run.evaluate(run.read_config(None, ["MODEL.WEIGHTS", str(path)]))
