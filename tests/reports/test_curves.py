import json

import pytest
from PIL import Image

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


@pytest.mark.parametrize(("text", "part"), [("", "is empty"), ("{broken", "cannot be read")])
def test_unreadable_metrics_are_named(tmp_path, text, part):
    metrics = tmp_path / "metrics.json"
    metrics.write_text(text)
    with pytest.raises(UserError, match=part) as caught:
        curves.read_metrics(metrics)
    assert str(metrics) in str(caught.value)
    with pytest.raises(UserError, match="cannot be read"):
        curves.read_metrics(tmp_path / "none.json")
