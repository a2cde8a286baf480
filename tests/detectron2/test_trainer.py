"""Training that Detectron2 alone does; what both engines do is in tests/training/test_runs.py."""

import errno
import os
import warnings

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2.utils.events import JSONWriter

from atto_det.detectron2 import Predictor, Trainer, run
from atto_det.detectron2.pooling import GatherPooler
from atto_det.drawing import gallery
from atto_det.errors import UserError
from atto_det.evaluation.coco import COLUMNS
from atto_det.training import policy
from atto_det.weights import checkpoint

UNTESTED = ["DATASETS.TEST", "()"]


def final(folder) -> dict:
    content = checkpoint.load_checkpoint(folder / "model_final.pth")
    return {key: content[key] for key in ("model", "trainer", "iteration", "run")}


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
    assert (gallery.draw_detections(image, found, predictor.class_names, 0) != image).any()


def test_trainings_pool_regions_by_weighted_sums(config):
    heads = Trainer(config(*UNTESTED)).network.roi_heads
    assert type(heads.box_pooler) is type(heads.mask_pooler) is GatherPooler


class Toy(torch.nn.Module):
    """Whose loss is known: weight · mean of each picture, averaged over the pictures."""

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


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_while_metrics_are_written(config, monkeypatch):
    monkeypatch.setattr(JSONWriter, "write", full)
    with pytest.raises(UserError, match="out was not written: the disk is full"):
        run.train(config(*UNTESTED))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["MODEL.META_ARCHITECTURE", "ProposalNetwork"],
         "ProposalNetwork, which does not detect objects.*set DATASETS.TEST to"),
        (["TEST.PRECISE_BN.ENABLED", True], "TEST.PRECISE_BN.ENABLED is True"),
        (["SOLVER.ACCUMULATE", 3], "1 processes with SOLVER.ACCUMULATE 3 need a multiple of 3"),
        (["SOLVER.ACCUMULATE", 0], "SOLVER.ACCUMULATE is 0: it must be at least 1"),
        (["SOLVER.EMA.DECAY", 1.5], "SOLVER.EMA.DECAY is 1.5"),
        (["SOLVER.LR_SCHEDULER_NAME", "Cosine"], "the keys of SOLVER give no schedule"),
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
    key = next(k for k in before if ".stem." in k and k.endswith("running_var"))
    assert torch.equal(before[key], after[key])


def test_no_warning_reaches_the_user_in_a_step(config):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        run.train(config(*UNTESTED))
