"""From records and detections to a result, without an engine."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from atto_det import data
from atto_det.evaluation import Detections
from atto_det.evaluation.arrays import encode_masks
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


@pytest.mark.parametrize("masks", [True, False])
def test_a_coco_file_with_crowd_regions_is_judged_as_cocoeval_does(tmp_path, masks):
    """From the file to the columns: half of its objects are crowd regions, given as polygons."""
    random = np.random.default_rng(2)
    content = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": k, "name": name} for k, name in ((3, "cup"), (7, "pot"))]
    for number in range(1, 9):
        row = {"id": number, "file_name": f"{number}.png", "height": 90, "width": 120}
        content["images"].append(row)
        Image.fromarray(np.full((90, 120, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
        for _ in range(6):
            (x, y), (w, h) = random.integers(0, [80, 50]), random.integers(8, 40, 2)
            x, y, w, h = map(int, (x, y, w, h))
            count = len(content["annotations"])
            row = {"id": count + 1, "image_id": number, "category_id": 3 + 4 * (count % 2)}
            row |= {"bbox": [x, y, w, h], "area": w * h, "iscrowd": count // 2 % 2}
            row["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            content["annotations"].append(row)
    (tmp_path / "own.json").write_text(json.dumps(content))
    dataset = data.load_coco(tmp_path / "own.json", tmp_path)
    assert dataset.crowds == 24

    detections = {}
    for record in dataset.records:
        truth = scoring.to_ground_truth(record)
        boxes = (truth.boxes + random.integers(-5, 6, truth.boxes.shape)).clip(0, [120, 90] * 2)
        drawn = np.zeros((len(boxes), 90, 120), bool)
        for mask, (x1, y1, x2, y2) in zip(drawn, boxes.astype(int), strict=True):
            mask[y1:y2, x1:x2] = True
        scores = random.random(len(boxes)).round(3)
        rles = encode_masks(drawn) if masks else None
        detections[record.image_id] = Detections(boxes, rles, truth.classes, scores)
    result = scoring.score(
        dataset, detections, name="own", score_floor=0.0, detections_per_image=100, output=tmp_path
    )
    found = json.loads((tmp_path / "evaluation/coco_instances_results_own.json").read_text())
    official = COCO(str(tmp_path / "own.json"))
    for name, kind in (("box", "bbox"), ("mask", "segm"))[: 1 + masks]:
        other = "segmentation" if kind == "bbox" else "bbox"  # beside masks COCO takes boxes' areas
        own = [{key: value for key, value in row.items() if key != other} for row in found]
        judge = COCOeval(official, official.loadRes(own), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        wanted = [None if value < 0 else 100 * value for value in judge.stats]
        assert list(result["coco"][name].values()) == pytest.approx(wanted, abs=1e-9)
        assert 5 < wanted[0] < 95
