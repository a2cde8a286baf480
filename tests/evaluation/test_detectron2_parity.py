"""AP_d per class against Detectron2's own VOC evaluator, fed where they cannot differ.

It ignores difficult objects, wants IoU > 0.5, rounds scores to 3 decimals and boxes to 0.1,
sorts unstably, and gives classes without objects 0. So: difficult ignored, whole-numbered boxes,
no IoU of exactly 0.5, distinct scores of 3 decimals, objects of every class.
"""

from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from pycocotools import mask as rle_masks

from atto_det.evaluation import Detections, GroundTruth, evaluate
from atto_det.evaluation.matching import box_iou

REASON = "Detectron2 is not installed"
voc_evaluation = pytest.importorskip(
    "detectron2.evaluation.pascal_voc_evaluation", reason=REASON, exc_type=ImportError
)
NAMES = ("cat", "dog", "cow")
EMPTY = rle_masks.encode(np.zeros((100, 100), dtype=np.uint8, order="F"))


def make(rng: np.random.Generator) -> tuple[dict, dict]:
    """Random objects, and detections around them or anywhere, with distinct scores."""
    # Prime numbers of objects, so that 11-point's recalls .1 … .9 never hit one exactly.
    classes = rng.permutation([0] * 13 + [1] * 7 + [2] * 11)
    hard = np.zeros(len(classes), dtype=bool)
    extra = rng.integers(0, 3, 9)  # difficult ones on top
    classes, hard = np.append(classes, extra), np.append(hard, np.ones(9, dtype=bool))
    image = rng.integers(0, 12, len(classes))
    near = rng.integers(0, 60, (len(classes), 2))
    boxes = np.hstack([near, near + rng.integers(8, 40, near.shape)]).astype(float)
    scores = rng.permutation(999)[:150] / 1000 + 0.001

    truth, found = {}, {}
    picks = rng.integers(0, len(classes), 150)
    moved = boxes[picks] + rng.integers(-4, 5, (150, 4)) * (rng.random((150, 1)) < 0.7)
    labels = np.where(rng.random(150) < 0.9, classes[picks], rng.integers(0, 3, 150))
    for k in range(12):
        mine, finds = image == k, image[picks] == k
        overlap = box_iou(moved, boxes[mine])
        finds &= ~np.isclose(overlap, 0.5).any(axis=1)
        truth[f"{k:06}"] = GroundTruth(boxes[mine], [EMPTY] * mine.sum(), classes[mine], hard[mine])
        found[f"{k:06}"] = Detections(
            moved[finds], [EMPTY] * finds.sum(), labels[finds], scores[finds]
        )
    return truth, found


def write_voc(root: Path, truth: dict) -> None:
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "val.txt").write_text("\n".join(truth))
    for image_id, objects in truth.items():
        page = ET.Element("annotation")
        for box, category, difficult in zip(
            objects.boxes, objects.classes, objects.difficult, strict=True
        ):
            thing = ET.SubElement(page, "object")
            for key, value in (("name", NAMES[category]), ("pose", ""), ("truncated", 0)):
                ET.SubElement(thing, key).text = str(value)
            ET.SubElement(thing, "difficult").text = str(int(difficult))
            corners = ET.SubElement(thing, "bndbox")
            # VOC counts pixels from 1 and includes the last.
            for key, value in zip(
                ("xmin", "ymin", "xmax", "ymax"), box + np.array([1, 1, 0, 0]), strict=True
            ):
                ET.SubElement(corners, key).text = str(int(value))
        ET.ElementTree(page).write(root / "Annotations" / f"{image_id}.xml")


@pytest.mark.parametrize(("year", "style"), [(2012, "area"), (2007, "11point")])
@pytest.mark.parametrize("seed", range(3))
def test_boxes_agree_class_by_class(tmp_path, monkeypatch, seed, year, style) -> None:
    import torch
    from detectron2.data import MetadataCatalog
    from detectron2.structures import Boxes, Instances

    truth, found = make(np.random.default_rng(seed))
    write_voc(tmp_path, truth)
    name = f"parity_{seed}_{style}"
    MetadataCatalog.get(name).set(
        dirname=str(tmp_path), split="val", year=year, thing_classes=list(NAMES)
    )
    per_class = {}
    original = voc_evaluation.voc_eval

    def recorded(*args, **options):
        result = original(*args, **options)
        per_class[args[3], options["ovthresh"]] = 100 * result[2]
        return result

    monkeypatch.setattr(voc_evaluation, "voc_eval", recorded)
    judge = voc_evaluation.PascalVOCDetectionEvaluator(name)
    judge.reset()
    for image_id, finds in found.items():
        instances = Instances((100, 100))
        instances.pred_boxes = Boxes(torch.as_tensor(finds.boxes))
        instances.scores = torch.as_tensor(finds.scores)
        instances.pred_classes = torch.as_tensor(finds.classes)
        judge.process([{"image_id": image_id}], [{"instances": instances}])
    theirs = judge.evaluate()["bbox"]
    MetadataCatalog.remove(name)

    ours = evaluate(
        truth,
        found,
        NAMES,
        split=name,
        score_floor=0,
        detections_per_image=150,
        objects_left_out=0,
        code_version="0",
        difficult_counts=False,
        style=style,
    )
    for category in NAMES:
        expected = per_class[category, 0.5]
        assert 1 < expected < 99  # the case is neither trivial nor hopeless
        assert ours["classes"][category]["AP_d"] == pytest.approx(expected)
    assert ours["AP_d"] == pytest.approx(theirs["AP50"])
