"""Instances become plain arrays, and several processes give the result of one."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from torch import multiprocessing

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2.structures import Boxes, Instances

from atto_det.detectron2 import VOCInstanceEvaluator, evaluate_model, load_dataset
from atto_det.detectron2.evaluator import to_detections
from atto_det.errors import UserError
from atto_det.training.scoring import to_ground_truth


def instances(boxes, masks, classes, scores) -> Instances:
    result = Instances(masks.shape[1:])
    result.pred_boxes = Boxes(torch.as_tensor(boxes, dtype=torch.float32))
    result.pred_masks = torch.as_tensor(masks)
    result.pred_classes = torch.as_tensor(classes)
    result.scores = torch.as_tensor(scores, dtype=torch.float32)
    return result


def test_instances_become_plain_arrays():
    masks = np.zeros((2, 6, 9), bool)
    masks[0, 1:4, 2:7] = masks[1, 5, 8] = True
    boxes = [[2.0, 1.0, 7.0, 4.0], [8.0, 5.0, 9.0, 6.0]]
    found = to_detections(instances(boxes, masks, [3, 0], [0.75, 0.5]))
    assert found.boxes.tolist() == boxes
    assert found.boxes.dtype == found.scores.dtype == np.float64
    assert found.classes.tolist() == [3, 0]
    assert found.classes.dtype == np.int64
    assert found.scores.tolist() == [0.75, 0.5]
    assert [rle["size"] for rle in found.rles] == [[6, 9], [6, 9]]  # height, width
    assert np.array_equal(mask_util.decode(found.rles).transpose(2, 0, 1), masks)


def test_no_instances_become_empty_arrays():
    found = to_detections(instances(np.zeros((0, 4)), np.zeros((0, 6, 9), bool), [], []))
    assert found.boxes.shape == (0, 4)
    assert found.rles == []
    assert len(found.classes) == len(found.scores) == 0


def perfect(record) -> Instances:
    """The objects of a record as detections, all sure."""
    objects = record.instances
    masks = mask_util.decode([o.rle for o in objects]).transpose(2, 0, 1).astype(bool)
    return instances(
        [o.box for o in objects], masks, [o.category for o in objects], [1.0] * len(objects)
    )


def evaluator() -> VOCInstanceEvaluator:
    result = VOCInstanceEvaluator("mini_voc_val", score_floor=0.0, detections_per_image=50)
    result.reset()
    return result


def feed(target: VOCInstanceEvaluator, records) -> None:
    for record in records:
        target.process([{"image_id": record.image_id}], [{"instances": perfect(record)}])


def test_perfect_detections_score_100(data_root):
    one = evaluator()
    records = load_dataset("mini_voc_val").records
    feed(one, records)
    assert one.evaluate() == {"bbox": {"AP_d": 100}, "segm": {"AP_m": 100}}
    result = one.result
    assert result["AP_d"] == result["AP_m"] == 100
    assert result["protocol"]["images"] == 4
    assert result["protocol"]["images_without_detections"] == 0
    assert result["protocol"]["split"] == "mini_voc_val"
    objects = sum(row["objects"] for row in result["classes"].values())
    assert objects == sum(len(record.instances) for record in records)
    one.reset()
    assert one.result is None
    assert one.evaluate()["segm"]["AP_m"] == 0  # nothing is kept from before


def test_a_wrong_class_scores_nothing_and_a_missed_picture_counts(data_root):
    one = evaluator()
    records = load_dataset("mini_voc_val").records
    feed(one, records[:-1])
    assert one.evaluate()["segm"]["AP_m"] < 100
    assert one.result["protocol"]["images_without_detections"] == 1


def test_detections_of_another_data_set_are_refused(data_root):
    one = evaluator()
    feed(one, load_dataset("mini_voc_train").records[:1])
    with pytest.raises(UserError, match="not in the ground truth of mini_voc_val"):
        one.evaluate()


def test_ground_truth_keeps_difficult_and_native_masks(data_root):
    for record in load_dataset("mini_voc_val").records:
        truth = to_ground_truth(record)
        assert truth.boxes.shape == (len(record.instances), 4)
        assert truth.difficult.tolist() == [o.difficult for o in record.instances]
        assert all(rle["size"] == [record.height, record.width] for rle in truth.rles)


def share(rank: int, port: int, root: str, cache: str, queue) -> None:
    """One of two processes: every second picture, then the gathered result."""
    import os

    os.environ |= {"DETECTRON2_DATASETS": root, "ATTO_DET_CACHE": cache}
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    from detectron2.utils import comm

    comm.create_local_process_group(2)
    one = evaluator()
    feed(one, load_dataset("mini_voc_val").records[rank::2][: 2 - rank])
    one.evaluate()
    queue.put((rank, one.result))
    comm.synchronize()
    torch.distributed.destroy_process_group()


def test_two_processes_gather_to_the_result_of_one(data_root, tmp_path, free_port):
    whole = evaluator()
    feed(whole, load_dataset("mini_voc_val").records[:3])
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    arguments = (free_port, str(data_root), str(tmp_path / "cache"), queue)
    processes = [context.Process(target=share, args=(rank, *arguments)) for rank in (0, 1)]
    for process in processes:
        process.start()
    results = dict(queue.get() for _ in processes)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert results[1] is None
    whole.evaluate()
    assert results[0] == whole.result
    assert results[0]["protocol"]["images_without_detections"] == 1


def test_a_model_that_finds_no_objects_is_refused(config):
    cfg = config("MODEL.META_ARCHITECTURE", "SemanticSegmentor")
    with pytest.raises(UserError, match=r"SemanticSegmentor, which does not detect objects"):
        evaluate_model(cfg, None, "mini_voc_val")
