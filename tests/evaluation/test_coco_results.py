"""COCO's results JSON is what pycocotools reads, and gives the figures of the COCO columns."""

import contextlib
import io
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rectangles import rectangle

from atto_det.data import Dataset, ImageRecord, Instance, coco_ids, load_coco, to_coco
from atto_det.errors import UserError
from atto_det.evaluation.coco import coco_metrics
from atto_det.evaluation.coco_results import coco_results, write_coco_results
from atto_det.training.scoring import to_ground_truth


def test_by_hand(found) -> None:
    rows = coco_results({"a": found((1, 0.75, (2, 3, 10, 20)))}, {"a": 42}, [7, "nine"])
    counts = rows[0]["segmentation"].pop("counts")
    assert isinstance(counts, str)
    assert rows == [
        {"image_id": 42, "category_id": "nine", "bbox": [2, 3, 8, 17], "score": 0.75,
         "segmentation": {"size": [60, 60]}}
    ]  # fmt: skip


def test_unknown_images_and_classes(found) -> None:
    one = {"a": found((1, 0.75, (2, 3, 10, 20)))}
    with pytest.raises(UserError, match="hold image a, which the annotations do not have"):
        coco_results(one, {"b": 1}, [1, 2])
    with pytest.raises(UserError, match="have class 1, but the annotations 1 categories"):
        coco_results(one, {"a": 1}, [1])


@pytest.mark.parametrize("masks", [True, False])
def test_pycocotools_reads_it_and_counts_as_we_do(tmp_path, found, masks) -> None:
    """From a JSON with ids of its own, over detections, back to pycocotools."""
    rng = np.random.default_rng(3)
    corners = rng.integers(0, 30, (6, 4, 2))
    records, detections = [], {}
    for number, places in enumerate(corners):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (60, 60)).save(path)
        boxes = [(x, y, x + 12, y + 20) for x, y in places.tolist()]
        items = []
        for index, box in enumerate(boxes):
            items.append(Instance(index % 2, tuple(map(float, box)), rectangle(60, 60, box)))
        records.append(ImageRecord(str(number), str(path), 60, 60, tuple(items)))
        moved = [(x + rng.integers(0, 4), y, x2, y2) for x, y, x2, y2 in boxes]
        detections[str(number)] = found(
            *((k % 2, float(rng.random()), box) for k, box in enumerate(moved))
        )
    content = to_coco(Dataset(("cup", "pot"), tuple(records)), tmp_path)
    for item in content["categories"] + content["images"]:
        item["id"] += 100
    for item in content["annotations"]:
        item["category_id"] += 100
        item["image_id"] += 100
    (tmp_path / "truth.json").write_text(json.dumps(content))
    dataset = load_coco(tmp_path / "truth.json", tmp_path)
    if not masks:
        for image_id, one in detections.items():
            detections[image_id] = type(one)(one.boxes, None, one.classes, one.scores)
    write_coco_results(tmp_path / "found.json", detections, *coco_ids(dataset))

    truth = {record.image_id: to_ground_truth(record) for record in dataset.records}
    ours = coco_metrics(truth, detections, dataset.class_names)
    with contextlib.redirect_stdout(io.StringIO()):
        official = COCO(str(tmp_path / "truth.json"))
        results = official.loadRes(str(tmp_path / "found.json"))
        for name, kind in (("box", "bbox"), ("mask", "segm"))[: 1 + masks]:
            judge = COCOeval(official, results, kind)
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
            assert ours[name]["AP"] == pytest.approx(100 * judge.stats[0])
            assert 5 < ours[name]["AP"] < 100


def test_ids_of_a_set_that_came_from_no_json() -> None:
    records = tuple(ImageRecord(name, name, 1, 1, ()) for name in "ab")
    assert coco_ids(Dataset(("x", "y"), records)) == ({"a": 1, "b": 2}, [1, 2])
