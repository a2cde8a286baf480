"""The folder of a run: what is read, kept and forgotten."""

import json

import pytest
import torch
import yaml
from yacs.config import CfgNode

from atto_det.errors import UserError
from atto_det.training import run_folder
from atto_det.weights import checkpoint

CONFIG = "SEED: 1\nDATASETS:\n  TRAIN: [own_train]\nSOLVER:\n  IMS_PER_BATCH: 4\n  MAX_ITER: 9\n"


def save(path, config="SEED: 1\n", **content) -> None:
    described = checkpoint.description(config, ["wheel", "door"])
    checkpoint.save_checkpoint(path, {"model": {}, "atto_det": described} | content)


def test_metrics_after_the_checkpoint_are_forgotten_with_what_was_cut_short(tmp_path):
    path = tmp_path / "metrics.json"
    run_folder.forget_after(path, 3)  # none yet
    lines = ['{"iteration": 1}', '{"iteration": 2, "lr": 0.1}', '{"iteration": 3}', '{"iterat']
    path.write_text("\n".join(lines))
    run_folder.forget_after(path, 3)
    assert path.read_text().splitlines() == lines[:2]


def test_checkpoints_before_an_iteration_and_no_half_written_ones(tmp_path):
    copies = ("model_0000009_good", "model_0000009_2")
    numbered = ("model_0000009", "model_0000019", "model_0000029")
    for name in (*numbered, "model_final", ".model_00", *copies):
        (tmp_path / f"{name}.pth").write_bytes(b"")
    found = run_folder.old_checkpoints(tmp_path, 29)
    assert [path.name for path in found] == ["model_0000009.pth", "model_0000019.pth"]
    assert not (tmp_path / ".model_00.pth").exists()


def test_a_used_folder_is_refused(tmp_path):
    run_folder.refuse_used(tmp_path)
    run_folder.tag_last(tmp_path, "model_final.pth")
    with pytest.raises(UserError, match="already holds a run: continue it with --resume"):
        run_folder.refuse_used(tmp_path)


def test_the_last_checkpoint_is_of_this_engine_and_of_these_classes(tmp_path):
    save(tmp_path / "model_final.pth", engine="torchvision", iteration=7)
    run_folder.tag_last(tmp_path, "model_final.pth")
    path, content = run_folder.read_last(tmp_path, "torchvision", ["wheel", "door"])
    assert path == tmp_path / "model_final.pth"
    assert content["iteration"] == 7
    with pytest.raises(UserError, match="was trained on other classes"):
        run_folder.read_last(tmp_path, "torchvision", ["door", "wheel"])
    with pytest.raises(UserError, match="resume it with --engine torchvision, or start from its"):
        run_folder.read_last(tmp_path, "detectron2", ["wheel", "door"])
    save(tmp_path / "model_final.pth")  # before engines were noted there was but one
    run_folder.read_last(tmp_path, "detectron2", ["wheel", "door"])
    (tmp_path / "model_final.pth").unlink()
    with pytest.raises(UserError, match=r"model_final.pth does not exist"):
        run_folder.read_last(tmp_path, "detectron2", ["wheel", "door"])


def test_the_config_that_a_checkpoint_carries(tmp_path):
    save(tmp_path / "a.pth")
    options = ["SEED", "3", "MODEL.WEIGHTS", str(tmp_path / "a.pth")]
    found = run_folder.carried_config(options)
    assert found == (str(tmp_path / "a.pth"), "SEED: 1\n", ["wheel", "door"])
    with pytest.raises(UserError, match=r"give --config-file, or MODEL.WEIGHTS and a checkpoint"):
        run_folder.carried_config(["SEED", "3"])
    with pytest.raises(UserError, match=r"b.safetensors holds a backbone and no config"):
        run_folder.carried_config(["MODEL.WEIGHTS", "b.safetensors"])
    torch.save({"model": {}}, tmp_path / "foreign.pth")
    with pytest.raises(UserError, match="does not carry its config"):
        run_folder.carried_config(["MODEL.WEIGHTS", str(tmp_path / "foreign.pth")])


def test_the_records_of_a_resumed_run_stay(tmp_path, monkeypatch):
    for seed, command in enumerate(("first", "second", "third")):
        monkeypatch.setattr("sys.argv", [command])
        run_folder.record(tmp_path, seed=seed, processes=1, device="cpu")
        run_folder.tag_last(tmp_path, "model_0000009.pth")
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["command"], record["seed"]) == (["third"], 2)
    assert [(one["command"], one["seed"]) for one in record["earlier"]] == [
        (["first"], 0),
        (["second"], 1),
    ]
    assert all("earlier" not in one for one in record["earlier"])


def test_a_new_run_over_one_without_checkpoints_starts_afresh(tmp_path):
    for _ in range(2):
        run_folder.record(tmp_path, seed=1, processes=1, device="cpu")
    assert "earlier" not in json.loads((tmp_path / "run.json").read_text())


OWN = ("torchvision", ["wheel", "door"])


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def names_nothing(content: bytes):
    return lambda out: (out / "last_checkpoint").write_bytes(content)


def is_a_folder(out) -> None:
    (out / "last_checkpoint").unlink()
    (out / "last_checkpoint").mkdir()


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        (lambda out: cut(out / "model_0000007.pth"), "model_0000003.pth"),
        (lambda out: (out / "model_0000007.pth").unlink(), "model_0000003.pth"),
        (names_nothing(b""), "model_0000007.pth"),
        (names_nothing(b"\xff\x00\xfe"), "model_0000007.pth"),
        (names_nothing(b"../model_0000007.pth"), "model_0000007.pth"),
        (is_a_folder, "model_0000007.pth"),
    ],
    ids=["cut", "gone", "empty", "binary", "elsewhere", "folder"],
)
def test_the_newest_sound_checkpoint_takes_the_place_of_a_damaged_one(
    tmp_path, caplog, damage, left
):
    for iteration in (3, 7):
        save(tmp_path / f"model_{iteration:07d}.pth", engine="torchvision", iteration=iteration)
    save(tmp_path / "model_final.pth", engine="detectron2", iteration=99)  # of another run
    (tmp_path / "model_0000008.pth").write_bytes(b"no checkpoint")
    run_folder.tag_last(tmp_path, "model_0000007.pth")
    damage(tmp_path)
    with caplog.at_level("WARNING"):
        path, content = run_folder.read_last(tmp_path, *OWN)
    assert (path.name, content["iteration"]) == (left, int(left[6:13]))
    assert f"continuing from {left} instead" in caplog.text
    assert (tmp_path / "last_checkpoint").read_text() == left
    assert run_folder.read_last(tmp_path, *OWN)[0] == path
    assert (tmp_path / "last_checkpoint.damaged").exists() == (damage is is_a_folder)
    for path in tmp_path.glob("model_*"):
        path.unlink()
    with pytest.raises(UserError, match=f"{left} does not exist"):
        run_folder.read_last(tmp_path, *OWN)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"SEED": 2}, r"SEED is 2, but .*model_final.pth was trained with 1: resume with that, or"),
        ({"DATASETS": {"TRAIN": ("other_train",)}}, r"DATASETS.TRAIN is \['other_train'\], but"),
        ({"SOLVER": {"IMS_PER_BATCH": 8, "MAX_ITER": 9}}, "SOLVER.IMS_PER_BATCH is 8, but .* 4:"),
        ({"SOLVER": {"IMS_PER_BATCH": 4, "MAX_ITER": 20}}, None),
    ],
)
def test_what_the_steps_follow_from_stays_over_a_resume(tmp_path, change, sentence):
    save(tmp_path / "model_final.pth", CONFIG, engine="torchvision", iteration=7)
    run_folder.tag_last(tmp_path, "model_final.pth")
    cfg = CfgNode(yaml.safe_load(CONFIG) | change)
    if sentence is None:
        assert run_folder.read_last(tmp_path, *OWN, cfg)[1]["iteration"] == 7
        return
    with pytest.raises(UserError, match=sentence):
        run_folder.read_last(tmp_path, *OWN, cfg)


def test_the_pictures_stay_over_a_resume(tmp_path):
    save(tmp_path / "model_final.pth", engine="torchvision", run={"best": 1.0, "pictures": 3})
    run_folder.tag_last(tmp_path, "model_final.pth")
    run_folder.read_last(tmp_path, *OWN, None, 3)
    with pytest.raises(UserError, match="was trained on other pictures or annotations than"):
        run_folder.read_last(tmp_path, *OWN, None, 4)


def test_damaged_records_are_named_and_kept_aside(tmp_path, caplog):
    run_folder.tag_last(tmp_path, "model_final.pth")
    for name, content in (
        ("run.json", b"\x80\xff"), ("run.json", b"[1]"), ("metrics.json", b"\x80\xff"),
        ("metrics.json", b'{"iteration": 1}\nno line\n{"iteration": 2}\n{"iter'),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with caplog.at_level("WARNING"):
            run_folder.record(tmp_path, seed=1, processes=1, device="cpu")
            run_folder.forget_after(tmp_path / "metrics.json", 9)
        assert f"{name} is damaged: it is kept as {name}.damaged" in caplog.text
        assert content in [path.read_bytes() for path in tmp_path.glob(f"{name}.damaged*")]
        (tmp_path / "metrics.json").touch()
    assert len(list(tmp_path.glob("*.damaged*"))) == 4
    (tmp_path / "metrics.json").unlink()
    (tmp_path / "metrics.json").mkdir()
    run_folder.forget_after(tmp_path / "metrics.json", 9)
    assert (tmp_path / "metrics.json").read_bytes() == b""


def test_lines_around_a_damaged_one_go_on(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"iteration": 1}\n\0\0\n{"iteration": 2}\n')
    run_folder.forget_after(path, 9)
    assert path.read_text() == '{"iteration": 1}\n{"iteration": 2}\n'
