"""tools/analyze_errors.py as a user runs it."""

import json

import pytest

from atto_det.cli.analyze_errors import main

pytest.importorskip("detectron2", reason="Detectron2 is not installed")


def test_it_writes_page_and_figures(trained, data_root, tmp_path, capsys):
    arguments = ["--checkpoint", str(trained), "--dataset", "mini_voc_val", "--worst", "2"]
    assert main([*arguments, "--output", str(tmp_path), "--threshold", "0.1"]) == 0
    content = json.loads((tmp_path / "errors.json").read_text())
    assert content["images"] == 4
    assert set(content["kinds"]) == {"box", "mask"}
    assert content["run"]["versions"]
    assert (tmp_path / "errors.html").read_text().count("data:image/jpeg;base64,") == 2
    assert "localisation" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--dataset", "no_such_set"], "no_such_set"),
        (["--threshold", "7"], "it must be between 0 and 1"),
        (["--worst", "-1"], "give 0 or more"),
        (["--checkpoint", "missing.pth"], "does not exist"),
    ],
)
def test_mistakes_are_one_sentence(trained, data_root, tmp_path, capsys, changes, message):
    arguments = ["--checkpoint", str(trained), "--dataset", "mini_voc_val"]
    assert main([*arguments, "--output", str(tmp_path), *changes]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
