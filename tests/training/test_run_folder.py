"""The folder of a run: what is read, kept and forgotten."""

import json

import pytest
import torch

from atto_det.errors import UserError
from atto_det.training import run_folder
from atto_det.weights import checkpoint


def save(path, **content) -> None:
    described = checkpoint.description("SEED: 1\n", ["wheel", "door"])
    checkpoint.save_checkpoint(path, {"model": {}, "atto_det": described} | content)


def test_metrics_after_the_checkpoint_are_forgotten_with_what_was_cut_short(tmp_path):
    path = tmp_path / "metrics.json"
    run_folder.forget_after(path, 3)  # none yet
    lines = ['{"iteration": 1}', '{"iteration": 2, "lr": 0.1}', '{"iteration": 3}', '{"iterat']
    path.write_text("\n".join(lines))
    run_folder.forget_after(path, 3)
    assert path.read_text().splitlines() == lines[:2]


def test_checkpoints_before_an_iteration_and_no_half_written_ones(tmp_path):
    for name in ("model_0000009", "model_0000019", "model_0000029", "model_final", ".model_00"):
        (tmp_path / f"{name}.pth").write_bytes(b"")
    found = run_folder.old_checkpoints(tmp_path, 29)
    assert [path.name for path in found] == ["model_0000009.pth", "model_0000019.pth"]
    assert not (tmp_path / ".model_00.pth").exists()


def test_a_used_folder_is_refused(tmp_path):
    run_folder.refuse_used(tmp_path)
    run_folder.tag_last(tmp_path, "model_final.pth")
    with pytest.raises(UserError, match="holds a run already: go on with it by --resume"):
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
    assert run_folder.carried_config(options) == (str(tmp_path / "a.pth"), "SEED: 1\n")
    with pytest.raises(UserError, match=r"give --config-file, or --eval-only with MODEL.WEIGHTS"):
        run_folder.carried_config(["SEED", "3"])
    with pytest.raises(UserError, match=r"b.safetensors holds a backbone and no config"):
        run_folder.carried_config(["MODEL.WEIGHTS", "b.safetensors"])
    torch.save({"model": {}}, tmp_path / "foreign.pth")
    with pytest.raises(UserError, match="does not carry its config"):
        run_folder.carried_config(["MODEL.WEIGHTS", str(tmp_path / "foreign.pth")])


def test_the_records_of_a_resumed_run_stay(tmp_path, monkeypatch):
    for seed, command in enumerate(("first", "second", "third")):
        monkeypatch.setattr("sys.argv", [command])
        run_folder.record(tmp_path, "SEED: 1\n", seed=seed, processes=1, device="cpu")
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
        run_folder.record(tmp_path, "SEED: 1\n", seed=1, processes=1, device="cpu")
    assert "earlier" not in json.loads((tmp_path / "run.json").read_text())
