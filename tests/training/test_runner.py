"""SOLVER.ACCUMULATE auto with several processes: whose memory counts, and that all agree."""

import json
from types import SimpleNamespace

import pytest
from torch import nn
from yacs.config import CfgNode

from atto_det.errors import UserError
from atto_det.training import estimate, runner
from atto_det.training.estimate import Measured

MIB = 2**20
ONE = Measured((800, 1067), 0.5, 100 * MIB, 300 * MIB, 2 * MIB, 3.0)


class Trial:
    """A runner of which one process is looked at, and a training of 16 pictures a step."""

    def __init__(self, tmp_path, device: str, processes: int, is_main: bool = True) -> None:
        engine = SimpleNamespace(processes=processes, is_main=is_main, configs=None)
        self.runner, self.used = runner.Runner(engine), []
        self.cfg = CfgNode(
            {
                "MODEL": {"DEVICE": device},
                "SOLVER": {"IMS_PER_BATCH": 16, "ACCUMULATE": "auto"},
                "DATALOADER": {"NUM_WORKERS": 2},
                "OUTPUT_DIR": str(tmp_path),
            }
        )
        self.training = SimpleNamespace(
            policy=SimpleNamespace(parts=0),
            network=nn.Identity(),
            loader=SimpleNamespace(sample=None),
            try_step=None,
            use_parts=self.used.append,
            start_iter=0,
            max_iter=10,
        )

    def fit(self) -> dict:
        return self.runner._fit_into_memory(self.cfg, self.training)


@pytest.fixture
def trial(tmp_path, monkeypatch):
    def make(device: str, processes: int, free: int, *, is_main: bool = True) -> Trial:
        monkeypatch.setattr(estimate, "measure", lambda *_: ONE)
        monkeypatch.setattr(estimate, "free_memory", lambda device: free * MIB)
        return Trial(tmp_path, device, processes, is_main)

    return make


# 300 MiB and 100 for each picture of a part; on a CPU five batches that wait as well, of 2 MiB a
# picture. 85 % of what is free may be used.
@pytest.mark.parametrize(
    ("device", "processes", "free", "parts"),
    [
        ("cpu", 2, 2800, 1),  # 8 pictures each, of 1400 MiB: 1180 of 1190
        ("cpu", 2, 2400, 2),  # of 1200 MiB: 780 of 1020
        ("cuda:0", 2, 1300, 1),  # each has a GPU of its own: 1100 of 1105
        ("cuda:0", 2, 1200, 2),  # 700 of 1020
        ("cuda:0", 8, 600, 1),  # 2 pictures each: 500 of 510
        ("cuda:0", 8, 500, 2),  # 400 of 425
    ],
)
def test_each_process_has_its_share_of_pictures_and_memory(trial, device, processes, free, parts):
    found = trial(device, processes, free)
    result = found.fit()
    assert found.used == [parts]
    assert found.training.policy.parts == parts
    assert result["parts"] == parts
    assert result["pictures_per_step"] == 16 // processes


def test_parts_of_before_are_kept(trial):
    found = trial("cuda:0", 2, 5000)
    found.training.policy.parts = 4  # a resumed run
    assert found.fit()["parts"] == 4
    assert found.used == [4]


def test_a_process_that_the_main_one_started_reads_its_choice(trial, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"memory": {"parts": 4}}))
    found = trial("cuda:0", 2, 5000, is_main=False)
    assert found.fit() == {"parts": 4}
    assert found.used == [4]


def test_processes_of_one_group_measure_together_and_the_main_one_decides(trial, monkeypatch):
    found = trial("cuda:0", 2, 100, is_main=False)
    calls = []
    monkeypatch.setattr(runner, "ranks", lambda: (1, 2))
    monkeypatch.setattr(runner, "agreed", lambda own: calls.append(own) or 2)
    assert found.fit() == {"parts": 2}  # what does not fit is said by the main process
    assert calls == [8]
    assert found.used == [2]

    def unreadable(*_: object) -> None:
        raise UserError("cut short")

    monkeypatch.setattr(estimate, "measure", unreadable)
    found.training.policy.parts = 0
    assert found.fit() == {"parts": 2}
    found.runner.engine.is_main = True
    with pytest.raises(UserError, match="cut short"):
        found.fit()
