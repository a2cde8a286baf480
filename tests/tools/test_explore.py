"""`atto-det explore` on generated pictures."""

import json

import pytest
import yaml

from atto_det.cli.explore import main
from atto_det.design import Generator
from atto_det.nets.spec_file import spec_from_dict

pytest.importorskip("optuna", reason="Optuna is not installed")

STAGES = ("res2", "res3", "res4", "res5")
CONFIG = {
    "data": {"root": "colours", "size": 32, "judged": 0.3},
    "prototype": "attonet_d",
    "requirements": {"parameters": 60_000},
    "supernet": {"steps": 2, "batch": 8},
    "search": {"rounds": 2, "population": 4},
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
    assert explore(colours, tmp_path, monkeypatch) == 0
    out = tmp_path / "out"
    content = json.loads((out / "exploration.json").read_text())
    assert len(content["networks"]) == 8
    assert content["run"]["versions"]
    best = spec_from_dict(yaml.safe_load((out / "found.yaml").read_text()), "found.yaml")
    generators = [Generator.load(out / f"generator_{k}.yaml") for k in range(3)]
    assert [generator.number for generator in generators] == [0, 1, 2]
    satisfying = [n for n in content["networks"] if n["u"] is not None]
    top = max(satisfying, key=lambda one: one["u"])
    assert generators[0].space.spec(top["point"]) == best
    assert "The best of 8 judged" in capsys.readouterr().out
    before = (out / "found.yaml").read_bytes()
    assert explore(colours, tmp_path, monkeypatch) == 0  # there is nothing left to do
    assert (out / "found.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "changes", "message"),
    [
        ([], {"requirements": {"parameters": 10}}, "none of 2,000 networks drawn meets"),
        ([], {"prototype": "attonet_z"}, "prototype is 'attonet_z'"),
        ([], {"search": {"rounds": 0}}, "search.rounds is 0"),
        ([], {"colour": 1}, "unknown key 'colour'"),
        ([], {"data": {"size": 32}}, "root"),
        ([], {"data": {"root": "nowhere"}}, "nowhere"),
        (["--hours", "-1"], {}, "--hours is -1.0"),
    ],
)
def test_mistakes_are_one_sentence(colours, tmp_path, monkeypatch, capsys, flags, changes, message):
    assert explore(colours, tmp_path, monkeypatch, *flags, **changes) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_settings_that_come_with_the_package():
    from atto_det.exploration.settings import read_settings

    settings = read_settings("explore/tiny_imagenet50.yaml")
    assert settings.search.population * settings.search.rounds == 256
    assert settings.requirements.top1 == 20
