"""From records and detections to a result, without an engine."""

import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from atto_det import data
from atto_det.evaluation import Detections
from atto_det.training import scoring


@pytest.fixture
def dataset(voc_folder, tmp_path) -> data.Dataset:
    root = voc_folder(tmp_path / "parts", ["wheel", "door"], val=["a", "b"])
    return data.load_voc(root, "val", cache=False)


def found(record: data.ImageRecord, score: float) -> Detections:
    """The objects of a record, found exactly."""
    truth = scoring.to_ground_truth(record)
    scores = np.full(len(truth.rles), score)
    return Detections(truth.boxes, truth.rles, truth.classes, scores)


def test_ground_truth_by_hand(dataset):
    truth = scoring.to_ground_truth(dataset.records[0])
    assert truth.boxes.tolist() == [[8, 16, 24, 40]]
    assert truth.classes.tolist() == [0]
    assert truth.difficult.tolist() == [False]
    empty = data.ImageRecord("c", "c.jpg", 48, 64, ())
    assert scoring.to_ground_truth(empty).boxes.shape == (0, 4)


def test_a_picture_that_is_missed_costs_its_share_and_all_is_reported(dataset, tmp_path, capsys):
    floor = {"score_floor": 0.05, "detections_per_image": 7}
    detections = {"a": found(dataset.records[0], 0.9)}
    half = scoring.score(dataset, detections, name="parts_val", **floor)
    assert (half["AP_d"], half["AP_m"]) == (50, 50)
    detections["b"] = found(dataset.records[1], 0.8)
    result = scoring.score(dataset, detections, name="parts_val", **floor)
    assert (result["AP_d"], result["AP_m"]) == (100, 100)
    assert result["classes_left_out"] == ["door"]
    protocol = result["protocol"]
    assert (protocol["split"], protocol["images"]) == ("parts_val", 2)
    assert (protocol["score_floor"], protocol["detections_per_image"]) == (0.05, 7)
    scoring.report(result, tmp_path / "deep/result.json")
    assert json.loads((tmp_path / "deep/result.json").read_text()) == result
    assert "AP in percent on parts_val" in capsys.readouterr().out


def test_the_detections_lie_beside_it_as_coco_s_results(dataset, tmp_path):
    detections = {record.image_id: found(record, 0.9) for record in dataset.records}
    floor = {"score_floor": 0.05, "detections_per_image": 7}
    scoring.score(dataset, detections, name="parts_val", **floor, output=tmp_path / "run")
    [path] = (tmp_path / "run/evaluation").iterdir()
    assert path.name == "coco_instances_results_parts_val.json"
    (tmp_path / "truth.json").write_text(json.dumps(data.to_coco(dataset, tmp_path)))
    official = COCO(str(tmp_path / "truth.json"))
    judge = COCOeval(official, official.loadRes(str(path)), "segm")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    assert judge.stats[0] == pytest.approx(1)
