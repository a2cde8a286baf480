"""What a run's folder says of it."""

import json

from atto_det import runs


def test_the_records_of_a_resumed_run_stay(tmp_path, monkeypatch):
    for seed, command in enumerate(("first", "second", "third")):
        monkeypatch.setattr("sys.argv", [command])
        runs.record(tmp_path, "SEED: 1\n", seed=seed, processes=1, device="cpu")
        runs.tag_last(tmp_path, "model_0000009.pth")
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["command"], record["seed"]) == (["third"], 2)
    assert [(one["command"], one["seed"]) for one in record["earlier"]] == [
        (["first"], 0),
        (["second"], 1),
    ]
    assert all("earlier" not in one for one in record["earlier"])


def test_a_new_run_over_one_without_checkpoints_starts_afresh(tmp_path):
    for _ in range(2):
        runs.record(tmp_path, "SEED: 1\n", seed=1, processes=1, device="cpu")
    assert "earlier" not in json.loads((tmp_path / "run.json").read_text())
