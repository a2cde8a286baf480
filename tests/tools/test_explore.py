"""`atto-det explore` on generated pictures."""

import itertools
import json
import re
import shutil
import subprocess
import sys
import time

import pytest
import yaml

from atto_det.cli.explore import main
from atto_det.design import Generator
from atto_det.design.requirements import netscore
from atto_det.errors import UserError
from atto_det.nets.cost import classifier_cost
from atto_det.nets.spec_file import spec_from_dict

pytest.importorskip("optuna", reason="Optuna is not installed")

from atto_det.exploration.settings import read_settings
from atto_det.exploration.stages import Exploration
from atto_det.exploration.studies import TimeIsOver

STAGES = ("res2", "res3", "res4", "res5")
CONFIG = {
    "seed": 1,
    "data": {
        **{"root": "colours", "image_size": 32, "batch_size": 9, "workers": 0, "hold_out": 0.25},
        "crop_share": 1.0,
    },
    "prototype": "attonet_d",
    "performance": "netscore",
    "requirements": {"parameters": 60_000},
    "recipe": {"warmup_epochs": 0, "ema_decay": 0.0},
    "supernet": {"epochs": 1, "between": 1},
    "search": {"rounds": 2, "population": 3, "seeds": 1},
    "alone": {"epochs": 1, "candidates": 2, "ranking": 2, "finals": 1, "final_epochs": 2},
    "space": {
        "stem": [4, 8],
        "width": {stage: [16, 24] for stage in STAGES},
        "compress": {stage: [4, 8] for stage in STAGES},
        "mix": {stage: [4, 8] for stage in STAGES},
        "kinds": ["atto", "condenser", "identity"],
        "depth": {"res2": 1, "res3": 2, "res4": 2, "res5": 1},
    },
}


def explore(colours, folder, monkeypatch, *flags, **changes) -> int:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(colours))
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(CONFIG | changes))
    return main(["--config", str(path), "--output", str(folder / "out"), *flags])


def test_from_requirements_to_a_network(colours, tmp_path, monkeypatch, capsys):
    # No time: each call does an epoch, or a network, and the next goes on.
    assert explore(colours, tmp_path, monkeypatch, "--hours", "1e-9") == 0
    assert "time is up" in capsys.readouterr().out
    assert explore(colours, tmp_path, monkeypatch) == 0
    out = tmp_path / "out/generator-1"
    content = json.loads((out / "exploration.json").read_text())
    assert len(content["networks"]) == 6
    assert content["run"]["versions"]
    assert [g["number"] for g in content["generators"]] == [0, 1, 2]
    assert {g["seeds"] for g in content["generators"]} == {1}
    assert len(content["candidates"]) == 2
    assert set(content["ranking"]["networks"][0]) > {"supernet", "top1", "synflow", "naswot"}
    [final] = content["finals"]
    best = spec_from_dict(yaml.safe_load((out / "found.yaml").read_text()), "found.yaml")
    generators = [Generator.load(out / f"generator_{k}.yaml") for k in range(3)]
    assert [generator.number for generator in generators] == [0, 1, 2]
    assert generators[0].space.spec(final["point"]) == best
    # U by hand, from a training alone; val is looked at after it.
    cost = classifier_cost(best, classes=3, size=32)
    assert final["u"] == pytest.approx(netscore(final["top1"], cost))
    assert set(json.loads((out / "val.json").read_text())) == {
        final["network"],
        content["prototype"]["network"],
    }
    assert 0 <= final["val"] <= 100
    page = (out / "exploration.html").read_text()
    assert not re.findall(r"(?:src|href)=[\"']?(?!data:)", page)  # nothing from elsewhere
    assert all(part in page for part in (final["network"], "G_k", "generator-1"))
    assert (out / "exploration.png").stat().st_size > 10_000
    assert "Trained alone to the end" in capsys.readouterr().out


def test_the_prototype_s_top1_as_requirement(colours, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(colours))
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(CONFIG | {"requirements": {"top1": "prototype"}}))
    place = {"output": tmp_path / "out", "storage": str(tmp_path / "journal.log")}
    reached = {1: 30.0, 2: 41.7}  # after so many epochs

    def exploration() -> Exploration:
        found = Exploration(read_settings(path), **place, sampler="generator", seed=1)
        monkeypatch.setattr(found.trainings, "alone", lambda point, epochs: reached[epochs])
        monkeypatch.setattr(found, "score", lambda point: 13.9)
        found.train_prototype()
        return found

    found = exploration()
    assert found.settings.requirements.top1 == found.first.requirements.top1 == 41.7
    assert found.sampler.first is found.first
    # A network that scores as the prototype meets the requirement, to the last bit.
    assert found.estimate(found.prototype) == 41.7
    reached[2] = 0.0
    with pytest.raises(UserError, match="gets no picture right"):
        exploration()


def test_a_training_that_diverges_counts_as_nothing_right(colours, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(colours))
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(CONFIG | {"recipe": CONFIG["recipe"] | {"learning_rate": 1e30}}))
    place = {"output": tmp_path / "out", "storage": str(tmp_path / "journal.log")}
    found = Exploration(read_settings(path), **place, sampler="generator", seed=1)
    assert found.trainings.alone(found.prototype, 1) == 0.0
    assert "counts as 0 %: the loss is" in caplog.text
    with pytest.raises(UserError, match="gets no picture right"):
        found.train_prototype()


def test_halving_does_not_depend_on_interruptions(colours, tmp_path, monkeypatch):
    """Four candidates train for an epoch, the better two for two, the best for all four."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(colours))
    path = tmp_path / "space.yaml"
    alone = {"epochs": 4, "candidates": 4, "ranking": 2, "finals": 1, "final_epochs": 8}
    path.write_text(yaml.safe_dump(CONFIG | {"alone": alone}))

    def explored(folder: str, interrupted: set[int]) -> list[list]:
        place = {"output": tmp_path / folder, "storage": str(tmp_path / folder / "journal.log")}
        calls = 0

        def top1(point, epochs=1, until=None) -> float:
            nonlocal calls
            calls += 1
            if calls in interrupted:
                raise TimeIsOver
            chance = sum(map(ord, str(point))) % 37
            return 10.0 + (until or epochs) + chance

        done = False
        while not done:
            found = Exploration(read_settings(path), **place, sampler="random", seed=1)
            monkeypatch.setattr(found.trainings, "alone", top1)
            monkeypatch.setattr(found, "score", top1)
            monkeypatch.setattr(found, "train_supernet", lambda: None)
            monkeypatch.setattr(found, "rank", lambda: True)
            monkeypatch.setattr(found, "look_at_val", lambda: None)
            done = found.run()
        stages = ("", "short-1", "short-2", "short-4", "final")
        return [[(t.params, t.value) for t in found.study(stage).trials] for stage in stages]

    whole = explored("whole", set())
    assert [len(stage) for stage in whole] == [6, 4, 2, 1, 1]
    for before, after in itertools.pairwise(whole[1:]):
        best = sorted(before, key=lambda pair: -pair[1])
        assert [params for params, _ in after] == [params for params, _ in best][: len(after)]
    assert explored("parts", {3, 5, 9, 14, 15, 21}) == whole


@pytest.mark.slow
def test_workers_and_engines_share_a_folder(colours, tmp_path, monkeypatch, repository):
    """Two workers of one command, of which one is killed; then another engine beside it."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(colours))
    path, out = tmp_path / "space.yaml", tmp_path / "out"
    larger = {"search": {"rounds": 3, "population": 8, "seeds": 2}}
    path.write_text(yaml.safe_dump(CONFIG | larger))
    tool = str(repository / "tools/explore.py")
    command = [sys.executable, tool, "--config", str(path), "--output", str(out)]
    doomed, other = (subprocess.Popen(command) for _ in range(2))
    deadline = time.monotonic() + 900
    while not list(out.glob("locks/generator-1/trial_*")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    doomed.kill()
    doomed.wait()
    assert other.wait(900) == 0
    content = json.loads((out / "generator-1/exploration.json").read_text())
    assert len(content["networks"]) == 24
    assert len({one["number"] for one in content["networks"]}) == 24
    names = [one["network"] for one in content["candidates"]]
    assert len(set(names)) == len(names) == 2
    # Another engine, and another seed, take the supernet and what was trained alone as they are.
    trained = {p.parent.name: p.stat().st_mtime_ns for p in out.glob("*/**/last.ckpt")}
    assert subprocess.run([*command, "--sampler", "random", "--seed", "2"]).returncode == 0
    again = {p.parent.name: p.stat().st_mtime_ns for p in out.glob("*/**/last.ckpt")}
    assert "supernet" in trained
    assert {name: again[name] for name in trained} == trained
    ranking = content["ranking"]
    content = json.loads((out / "random-2/exploration.json").read_text())
    assert [one["name"] for one in content["samplers"]] == ["generator-1", "random-2"]
    assert content["generators"] == []
    assert content["ranking"] == ranking


@pytest.mark.parametrize(
    ("flags", "changes", "message"),
    [
        (
            [],
            {"requirements": {"parameters": 10}},
            "no network of the space meets the requirements: the smallest",
        ),
        ([], {"prototype": "attonet_z"}, "prototype is 'attonet_z'"),
        (
            [],
            {"requirements": {"milliseconds": 1e-6}},
            "no network of the space meets the requirements: the smallest takes",
        ),
        ([], {"performance": "beauty"}, "performance is 'beauty': choose netscore"),
        ([], {"search": {"rounds": 0}}, "search.rounds is 0"),
        ([], {"seed": "one"}, "seed is 'one'"),
        ([], {"seed": -5}, "seed is -5"),
        (["--seed", "4294967296"], {}, "--seed is 4294967296"),
        ([], {"requirements": {"top1": "best"}}, "give a number above 0, prototype or null"),
        ([], {"colour": 1}, "unknown key 'colour'"),
        ([], {"data": {"image_size": 32, "hold_out": 0.2}}, "root"),
        ([], {"data": {"root": "colours"}}, "data.hold_out is missing"),
        ([], {"recipe": {"learning_rate": "fast"}}, "recipe: "),
        ([], {"recipe": {"colour": 1}}, "recipe: "),
        ([], {"data": {"root": "nowhere", "hold_out": 0.2}}, "nowhere"),
        (["--hours", "-1"], {}, "--hours is -1.0"),
    ],
)
def test_mistakes_are_one_sentence(colours, tmp_path, monkeypatch, capsys, flags, changes, message):
    assert explore(colours, tmp_path, monkeypatch, *flags, **changes) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_data_of_one_class(colours, tmp_path, monkeypatch, capsys):
    shutil.copytree(colours / "colours/train/red", tmp_path / "reds/train/red")
    data = CONFIG["data"] | {"root": "reds"}
    assert explore(tmp_path, tmp_path, monkeypatch, data=data) == 1
    assert capsys.readouterr().err.endswith("reds has one class: there is nothing to tell apart\n")


def test_the_settings_that_come_with_the_package():
    settings = read_settings("explore/tiny_imagenet50.yaml")
    assert settings.search.population * settings.search.rounds == 256
    assert settings.requirements.top1 == "prototype"
