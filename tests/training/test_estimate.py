"""What a step needs and takes: measured, compared with what there is, and without a trace."""

import json
import logging
import time

import numpy as np
import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from atto_det.errors import UserError
from atto_det.training import estimate
from atto_det.training.estimate import Measured
from atto_det.training.policy import Run
from atto_det.weights import checkpoint


def keys(**changes) -> CfgNode:
    cfg = CfgNode(
        {
            "INPUT": {
                "MIN_SIZE_TRAIN": (400, 800),
                "MIN_SIZE_TRAIN_SAMPLING": "choice",
                "MAX_SIZE_TRAIN": 1333,
                "LSJ": {"ENABLED": False, "SIZE": (1024, 512)},
            },
            "DATALOADER": {"NUM_WORKERS": 2},
            "SOLVER": {"EMA": {"DECAY": 0.0}},
            "MODEL": {"DEVICE": "cpu"},
        }
    )
    for key, value in changes.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    return cfg


SIZES = np.array([(300, 400), (400, 300), (100, 200)])


def test_the_sizes_in_training():
    found = estimate.resized(keys(), SIZES).tolist()
    assert found == [
        [[400, 533], [533, 400], [400, 800]],
        [[800, 1067], [1067, 800], [666, 1333]],  # the last one by MAX_SIZE_TRAIN
    ]
    assert estimate.resized(keys(), np.array([(3, 4000)])).tolist() == [[[1, 1333]]] * 2
    square = estimate.resized(keys(INPUT__LSJ__ENABLED=True), SIZES)
    assert square.tolist() == [[[1024, 512]] * 3]
    spread = estimate.resized(keys(INPUT__MIN_SIZE_TRAIN_SAMPLING="range"), SIZES[:1])
    assert spread[[0, 4, 8], 0, 0].tolist() == [400, 600, 800]


class Pictures:
    """One picture of 600 x 800; a sample is its size."""

    sizes, counts = np.array([(100, 100), (600, 800)]), np.array([5, 2])

    def sample(self, index, cfg):
        assert index == 1
        [short] = cfg.INPUT.MIN_SIZE_TRAIN
        return short, round(short * 4 / 3)


def test_a_large_picture_is_computed_from_smaller_ones():
    network, tried = nn.BatchNorm1d(1), []
    network.eval()

    def step(probe, size):
        assert probe is not network
        assert probe.training
        tried.append(size)
        probe(torch.ones(2, 1))
        torch.rand(3)
        held = torch.ones(size[0] * size[1] * 200 + 5_000_000, dtype=torch.uint8)
        time.sleep(0.03)  # as long as a step holds what it needs
        del held

    torch.manual_seed(3)
    state, before = torch.get_rng_state(), {k: v.clone() for k, v in network.state_dict().items()}
    cfg = keys(SOLVER__EMA__DECAY=0.9)
    measured = estimate.measure(cfg, Pictures(), network, step)
    assert tried == [(200, 267), (200, 267), (400, 533)]
    assert measured.size == (800, 1067)
    assert measured.picture == pytest.approx(200 * 800 * 1067 + 5_000_000, rel=0.2)
    assert measured.fixed == 2 * 4 * 3
    assert measured.seconds > 0
    assert measured.share == pytest.approx((160_000 + 400 * 533 + 640_000 + 853_600) / 4 / 853_600)
    assert torch.equal(torch.get_rng_state(), state)
    assert not network.training
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


MIB = 2**20
ONE = Measured((800, 1067), 0.5, 100 * MIB, 300 * MIB, 2 * MIB, 3.0)


def test_the_need_of_a_step():
    # gradients and momentum, the pictures of a part, and five batches that wait
    assert ONE.need(keys(), 8, 1) == (300 + 800 + 5 * 8 * 2) * MIB
    assert ONE.need(keys(), 8, 4) == (300 + 200 + 5 * 8 * 2) * MIB
    assert ONE.need(keys(MODEL__DEVICE="cuda:0"), 8, 8) == 400 * MIB
    for free, parts in ((2000, 1), (1000, 2), (700, 4), (600, 8), (9, 8), (None, 1)):
        assert estimate.parts_that_fit(ONE, keys(), 8, free and free * MIB) == parts
    assert estimate.parts_that_fit(ONE, keys(), 6, 900 * MIB) == 2
    assert estimate.parts_that_fit(ONE, keys(), 6, 650 * MIB) == 6  # 5 is no divisor


def test_it_is_said_or_refused(caplog):
    with caplog.at_level(logging.INFO):
        found = estimate.check(ONE, keys(), 8, 1, 36000, 2048 * MIB)
    assert (
        "a step of 8 pictures, the largest 1067x800, needs about 1.2 GiB of the 2.0 GiB that are "
        "free and takes about 24.0 seconds; the 36000 steps of this run take about 5 days"
    ) in caplog.text
    assert found["seconds_of_run"] == 24 * 36000 / 2
    with pytest.raises(UserError) as caught:
        estimate.check(ONE, keys(), 8, 1, 36000, 1000 * MIB)
    assert str(caught.value) == (
        "a step of 8 pictures, the largest 1067x800, needs about 1.2 GiB, and 1.0 GiB are free: "
        "set SOLVER.ACCUMULATE to 2, or to auto, lower SOLVER.IMS_PER_BATCH (with SOLVER.BASE_LR "
        "in proportion), INPUT.MIN_SIZE_TRAIN, or DATALOADER.NUM_WORKERS"
    )
    too_large = ONE._replace(picture=900 * MIB)
    with pytest.raises(UserError, match=r"0.8 GiB are free: lower SOLVER.IMS_PER") as caught:
        estimate.check(too_large, keys(), 8, 8, 1, 800 * MIB)
    assert "ACCUMULATE" not in str(caught.value)
    key = "set MODEL.BACKBONE.GRADIENT_CHECKPOINTING to True"
    with pytest.raises(UserError, match=f"0.8 GiB are free: {key}, lower SOLVER.IMS_PER"):
        estimate.check(too_large._replace(keeps=True), keys(), 8, 8, 1, 800 * MIB)


def test_the_limits_of_control_groups(tmp_path):
    def write(folder, names, values):
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in zip(names, values, strict=True):
            (folder / name).write_text(value)

    names = ("memory.max", "memory.current", "memory.stat")
    write(tmp_path / "a", names, ("5000\n", "1000\n", "anon 3\ninactive_file 200\n"))
    write(tmp_path / "a/b", names, ("max\n", "900\n", "anon 3\n"))
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
    write(tmp_path / "memory/c", names, ("7000\n", "500\n", "total_inactive_file 0\n"))
    own = tmp_path / "own"
    own.write_text("5:cpu:/a\n4:memory,x:/c\n0::/a/b\n")
    assert sorted(estimate._of_groups(tmp_path, own)) == [4200, 6500]
    assert list(estimate._of_groups(tmp_path, tmp_path / "none")) == []
    assert estimate.free_memory("cpu") > 0


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_out_of_memory_is_a_sentence(error):
    sentence = r"not enough memory for a step.*SOLVER.ACCUMULATE"
    with pytest.raises(UserError, match=sentence), estimate.out_of_memory_as_sentence():
        raise error


def test_other_errors_stay():
    with pytest.raises(RuntimeError, match="shape"), estimate.out_of_memory_as_sentence():
        raise RuntimeError("a shape")


THREE = ["DATASETS.TEST", "()", "SOLVER.IMS_PER_BATCH", 4, "SOLVER.MAX_ITER", 3]


class Stop(Exception):
    """The run ends here."""


def stop_at_the_last(policy, iteration) -> None:
    if iteration == 2:
        raise Stop


def weights(folder) -> dict:
    return checkpoint.load_checkpoint(folder / "model_final.pth")["model"]


def test_parts_that_fit_are_chosen_and_kept_and_measuring_changes_nothing(
    engine, config, tmp_path, monkeypatch
):
    run = engine.run
    given, chosen = tmp_path / "given", tmp_path / "chosen"
    with monkeypatch.context() as patch:
        patch.setattr(estimate, "measure", lambda *_: 1 / 0)  # what is not known stops nothing
        run.train(config(*THREE, "SOLVER.ACCUMULATE", 2, "OUTPUT_DIR", given))
    record = json.loads((given / "run.json").read_text())
    assert record["memory"] == {}
    assert record["data"]["mini_voc_train"]["pictures"] == 8

    real = estimate.measure
    monkeypatch.setattr(estimate, "measure", lambda *args: measured.append(real(*args)) or ONE)
    measured = []
    ample, short = 2000 * MIB, 700 * MIB  # 4 pictures: 700 MiB; in two parts 500
    options = ["SOLVER.ACCUMULATE", "auto", "SOLVER.CHECKPOINT_PERIOD", 1, "OUTPUT_DIR", chosen]
    cfg = config(*THREE, *options)
    monkeypatch.setattr(estimate, "free_memory", lambda device: short)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "before_step", stop_at_the_last)
        with pytest.raises(Stop):
            run.train(cfg)
    monkeypatch.setattr(estimate, "free_memory", lambda device: ample)
    run.train(cfg, resume=True)
    one, other = weights(given), weights(chosen)
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert json.loads((chosen / "run.json").read_text())["memory"]["parts"] == 2
    assert len(measured) == 2
    assert {min(found.size) for found in measured} == {96}  # the larger of INPUT.MIN_SIZE_TRAIN
    assert all(0 < found.picture < 500 * MIB and found.seconds > 0 for found in measured)


def test_what_cannot_fit_is_refused_before_the_first_step(engine, config, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "free_memory", lambda device: 1000)
    cfg = config(*THREE)
    with pytest.raises(UserError, match=r"a step of 4 pictures, .* and 0 MiB are free: ") as caught:
        engine.run.train(cfg)
    key = "MODEL.BACKBONE.GRADIENT_CHECKPOINTING"
    assert f"free: set {key} to True, lower SOLVER.IMS_PER_BATCH" in str(caught.value)
    with pytest.raises(UserError, match=r"free: lower SOLVER.IMS_PER_BATCH"):
        engine.run.train(config(*THREE, "OUTPUT_DIR", tmp_path / "other", key, True))
    assert not (tmp_path / "out/last_checkpoint").exists()
