"""What people and programs get to see of a result."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from atto_det.errors import UserError
from atto_det.evaluation import format_table, write_json

A, B = (0, 0, 10, 10), (20, 20, 30, 30)


@pytest.fixture
def result(truth, found, score) -> dict:
    objects = {"1": truth((0, False, A), (0, True, B))}
    return score(objects, {"1": found((0, 0.9, A, (0, 0, 10, 4)))}, objects_left_out=3)


def printed(result: dict, width: int = 120) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(format_table(result))
    return console.export_text()


def test_the_table_shows_figures_counts_and_protocol(result) -> None:
    lines = [" ".join(line.split()) for line in printed(result).splitlines()]
    assert "cat 50.00 0.00 2 1 1" in lines
    assert "dog – – 0 0 0" in lines
    assert "mean, sum 50.00 0.00 2 1 1" in lines
    assert "difficult ignored 100.00 0.00" in lines
    assert "IoU ≥ 0.25 50.00 50.00" in lines
    assert any(line.startswith("COCO AP@[.5:.95] ") for line in lines)
    assert "Classes without objects, left out of the mean: dog" in lines
    protocol = " ".join(" ".join(lines).split("Protocol: ")[1].split())
    assert protocol == (
        "toy, 1 images (0 without detections); area under the curve; IoU ≥ 0.5; difficult counted; "
        "score ≥ 0.05; at most 200 detections an image (COCO: 200 of an image and class); "
        "3 objects left out; atto_det 0"
    )


def test_boxes_alone_are_named(truth, found, score) -> None:
    alone = replace(found((0, 0.9, A)), rles=None)
    text = printed(score({"1": truth((0, False, A))}, {"1": alone}))
    assert "cat 100.00 – 1 0 1" in [" ".join(line.split()) for line in text.splitlines()]
    assert "Boxes alone are compared: the detector or the data has no masks." in text


def test_a_class_name_is_no_markup(truth, score) -> None:
    assert "[bold]x" in printed(score({"1": truth((0, False, A))}, {}, ("cat", "[bold]x")))


def test_a_narrow_terminal_keeps_the_figures(result) -> None:
    assert "50.00" in printed(result, width=60)


def test_json_holds_the_result_with_null_for_what_does_not_exist(result, tmp_path) -> None:
    path = tmp_path / "new folder" / "metrics.json"
    write_json(result, path)
    assert json.loads(path.read_text(encoding="utf-8")) == result
    assert json.loads(path.read_text(encoding="utf-8"))["classes"]["dog"]["AP_m"] is None
    assert [entry.name for entry in path.parent.iterdir()] == ["metrics.json"]


def test_json_that_cannot_be_written_leaves_nothing(result, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"metrics\.json was not written"):
        write_json(result, tmp_path / "file" / "metrics.json")
    broken = {**result, "AP_m": float("nan")}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(broken, tmp_path / "metrics.json")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
