import json
import math

import pytest
from PIL import Image

from atto_det.cli import plot_training
from atto_det.errors import UserError
from atto_det.reports import curves

ROWS = [
    {"iteration": 19, "loss_cls": 2.0, "loss_mask": 0.7},
    {"iteration": 39, "loss_cls": 1.0, "loss_mask": 0.5, "mini_voc_val/AP_m": 12.5},
]


def test_plot_is_a_picture_of_the_rows(tmp_path):
    metrics = tmp_path / "metrics.json"
    metrics.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert curves.read_metrics(metrics) == ROWS
    curves.plot_training(metrics, tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.size == (1200, 480)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curve.png", "metrics.json"]


@pytest.mark.parametrize("name", ["curve", "curve.json", "curve.xyz"])
def test_a_picture_of_no_known_format_is_one_sentence(tmp_path, capsys, name):
    (tmp_path / "metrics.json").write_text(json.dumps(ROWS[0]) + "\n")
    assert plot_training.main([str(tmp_path), "--output", str(tmp_path / name)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / name} was not written: ")
    assert error.endswith("matplotlib writes; use .png or .svg\n")
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "has no line yet"),
        ('{"iteration": 19, "lo', "has no line yet"),  # being written
        ('{"iteration": 19}\n{broken\n', "line 2, is damaged"),
        ("3\n", "line 1, holds no metrics"),
        ('{"loss_cls": 1.0}\n', "line 1, holds no metrics"),
        ('{"iteration": 19, "val/AP_m": null}\n', "line 1, holds no metrics"),
    ],
)
def test_unreadable_metrics_are_named(tmp_path, text, part):
    metrics = tmp_path / "metrics.json"
    metrics.write_text(text)
    with pytest.raises(UserError, match=part) as caught:
        curves.read_metrics(metrics)
    assert str(metrics) in str(caught.value)
    with pytest.raises(UserError, match="cannot be read"):
        curves.read_metrics(tmp_path / "none.json")


def test_a_run_at_work(tmp_path, capsys):
    rows = [
        {"iteration": 19, "loss_cls": 2.0, "lr": 0.01, "eta_seconds": 300.0},
        {"iteration": 29, "own_val/AP_m": math.nan},
        {"iteration": 39, "loss_cls": 1.0, "lr": 0.02, "eta_seconds": 120.0, "own_val/AP_m": 12.5},
        {"iteration": 59, "loss_cls": 1.0, "lr": 0.02, "eta_seconds": 60.0, "own_val/AP_m": 11.0},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "metrics.json").write_text(text + '{"iteration": 79, "lo')
    assert plot_training.main([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "iteration 60, 1 minutes left" in said
    assert "own_val/AP_m 12.5 at best, after 40" in said
    assert (tmp_path / "curve.png").stat().st_size > 10_000
    assert plot_training.main([str(tmp_path / "none")]) == 1
    assert "is not a folder: give the OUTPUT_DIR" in capsys.readouterr().err
