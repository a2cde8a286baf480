"""What leaves training is counted by its reason, with an example."""

import io
import json

import pytest
from PIL import Image
from rich.console import Console

from atto_det.data import load_coco, load_voc
from atto_det.data.training_report import format_report, training_report

SQUARE = [[0, 0, 2, 0, 2, 2, 0, 2]]


@pytest.fixture
def dataset(tmp_path):
    """Four pictures of 8x6: three objects in use, two crowd regions, three other losses."""
    rows = [
        {"image_id": 0, "segmentation": SQUARE},
        {"image_id": 0, "segmentation": SQUARE, "bbox": [-2, 0, 4, 2]},
        {"image_id": 1, "segmentation": [*SQUARE, [1, 1]]},
        {"image_id": 1, "segmentation": SQUARE, "iscrowd": 1},
        {"image_id": 2, "segmentation": SQUARE, "iscrowd": 1},
        {"image_id": 2, "segmentation": SQUARE, "bbox": [4, 4, 2, 2]},
        {"image_id": 2, "segmentation": []},
        {"image_id": 9, "segmentation": SQUARE},
    ]
    for number in range(4):
        Image.new("RGB", (8, 6)).save(tmp_path / f"{number}.jpg")
    content = {
        "images": [{"id": k, "file_name": f"{k}.jpg", "height": 6, "width": 8} for k in range(4)],
        "categories": [{"id": 1, "name": "[bold]cup"}],
        "annotations": [{"id": 10 + k, "category_id": 1} | row for k, row in enumerate(rows)],
    }
    (tmp_path / "x.json").write_text(json.dumps(content))
    return load_coco(tmp_path / "x.json", tmp_path)


def test_counts_by_hand(dataset):
    report = training_report({"own": dataset}, filter_empty=True)
    assert json.loads(json.dumps(report)) == report
    own = report["own"]
    assert (own["pictures"], own["objects"], own["without_objects"]) == (2, 3, 2)
    counts = {kind: entry["count"] for kind, entry in own["left_out"].items()}
    assert counts == {"crowd": 2, "box": 1, "no_mask": 1, "image": 1}
    assert sum(counts.values()) + own["objects"] == 8
    assert "(id 13) is a crowd region" in own["left_out"]["crowd"]["example"]
    assert own["clipped"]["count"] == 1
    assert "(id 11) has the box (-2.0, 0.0, 2.0, 2.0)" in own["clipped"]["example"]
    assert {kind: entry["count"] for kind, entry in own["notes"].items()} == {
        "polygon": 1, "boxes": 1
    }  # fmt: skip
    kept = training_report({"own": dataset}, filter_empty=False)["own"]
    assert (kept["pictures"], kept["without_objects"]) == (4, 2)


def test_the_table_says_it(dataset):
    out = io.StringIO()
    report = training_report({"[own]": dataset}, filter_empty=True)
    Console(file=out, width=160).print(format_report(report))
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert "[own]" in lines
    assert "pictures 2" in lines
    assert "pictures without objects 2" in lines
    for start in (
        "left out: crowd region 2", "left out: no mask 1", "boxes clipped at the edge 1",
        "stray polygons 1",
    ):  # fmt: skip
        assert any(line.startswith(start) for line in lines), start


def test_a_sound_set_has_two_rows(tiny_voc):
    tiny_voc.add("one")
    report = training_report({"x": load_voc(tiny_voc.root, "train")}, filter_empty=True)
    assert report["x"]["left_out"] == report["x"]["notes"] == {}
    out = io.StringIO()
    Console(file=out, width=80).print(format_report(report))
    assert len([line for line in out.getvalue().splitlines() if line.strip(" ─")]) == 4
