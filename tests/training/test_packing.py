"""Masks that pass between processes as bits, and arrive as they were."""

import pickle

import pytest
import torch

from atto_det.training.packing import PackedInTransit, packed_in_transit


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8])
@pytest.mark.parametrize("shape", [(3, 7, 5), (1, 8, 8), (0, 7, 5), (2, 100, 30)])
def test_masks_arrive_as_they_were(shape, dtype):
    masks = (torch.rand(shape) < 0.4).to(dtype)
    packed = packed_in_transit(masks)
    assert packed.data_ptr() == masks.data_ptr()  # nothing is copied
    arrived = pickle.loads(pickle.dumps(packed))
    assert type(arrived) is torch.Tensor
    assert arrived.dtype is dtype
    assert torch.equal(arrived, masks)


def test_masks_need_not_lie_in_one_piece():
    masks = torch.rand(4, 9, 6) < 0.4
    for part in (masks.transpose(1, 2), masks[::2], masks[:, :, 1:4]):
        assert torch.equal(pickle.loads(pickle.dumps(packed_in_transit(part))), part)


def test_they_take_an_eighth_in_between():
    masks = torch.zeros(10, 200, 300, dtype=torch.bool)
    assert len(pickle.dumps(packed_in_transit(masks))) < masks.numel() / 8 + 1000


def test_operations_return_plain_tensors():
    masks = packed_in_transit(torch.rand(4, 9, 6) < 0.4)
    assert type(masks) is PackedInTransit
    for found in (masks[1:], masks.float(), masks & masks, masks.any(1)):
        assert type(found) is torch.Tensor


@pytest.fixture
def masks_by_worker(engine, config):
    """A function from a number of workers to the masks in the first batches of an engine."""
    if engine.ENGINE == "detectron2":
        from atto_det.detectron2.loader import TrainLoader
    else:
        from atto_det.torchvision.mapper import TrainLoader

    def masks_of(item):
        if engine.ENGINE == "detectron2":
            return item["instances"].gt_masks.objects
        return item[1]["masks"]

    def load(workers):
        cfg = config("DATALOADER.NUM_WORKERS", workers, "SOLVER.MAX_ITER", 4)
        batches = iter(TrainLoader(cfg))
        return [masks_of(item) for _ in range(3) for item in next(batches)]

    return load


def test_workers_pass_the_same_masks(masks_by_worker):
    own, passed = masks_by_worker(0), masks_by_worker(2)
    assert len(own) == len(passed) == 6
    for one, other in zip(own, passed, strict=True):
        assert type(one) is PackedInTransit  # what is pickled in a worker
        assert type(other) is torch.Tensor
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
