"""Mask targets: as from whole masks copied for each region, bit by bit."""

import pytest
import torch
from torchvision.ops import roi_align

from atto_det.training.mask_targets import AT_ONCE, mask_targets


def drawn(count: int, regions: int, seed: int = 0):
    """Blocky masks (M, 37, 53), an object of each region, and regions, some beyond the border."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, 6, 8, generator=random)
    masks = torch.nn.functional.interpolate(coarse, (37, 53))[:, 0] > 0.5
    corners = torch.rand(regions, 2, 2, generator=random) * torch.tensor([60.0, 44.0]) - 4
    boxes = torch.cat([corners.amin(1), corners.amax(1) + 0.5], dim=1)
    return masks, torch.randint(count, (regions,), generator=random), boxes


@pytest.mark.parametrize("count", [1, AT_ONCE, 3 * AT_ONCE + 1])
def test_they_are_those_of_copies_for_each_region(count):
    masks, objects, regions = drawn(count, 60)
    rows = torch.arange(60.0)[:, None]
    places = torch.cat([rows, regions], dim=1)
    expected = roi_align(masks[objects, None].float(), places, 14, 1.0, 0, aligned=True)[:, 0]
    found = mask_targets(masks, objects, regions, 14)
    assert torch.equal(found, expected >= 0.5)
    assert 0.1 < found.float().mean() < 0.9
    assert torch.equal(mask_targets(masks.to(torch.uint8), objects, regions, 14), found)


def test_without_regions_or_objects_there_is_none():
    masks, objects, regions = drawn(3, 5)
    assert mask_targets(masks, objects[:0], regions[:0], 7).shape == (0, 7, 7)
    assert mask_targets(masks[:0], objects[:0], regions[:0], 7).shape == (0, 7, 7)


def test_detectron2s_masks_are_shared_and_give_the_same():
    structures = pytest.importorskip("detectron2.structures")
    from atto_det.detectron2.masks import SharedMasks

    masks, objects, regions = drawn(11, 40)
    plain, shared = structures.BitMasks(masks)[objects], SharedMasks(masks)[objects]
    assert shared.objects.data_ptr() == SharedMasks(shared.objects).objects.data_ptr()
    assert len(shared) == 40
    assert torch.equal(shared.crop_and_resize(regions, 14), plain.crop_and_resize(regions, 14))
    keep = objects % 2 == 0
    for item in (3, slice(2, 9), keep, keep.nonzero()[:, 0], [1, 1]):
        assert torch.equal(shared[item].tensor, plain[item].tensor)
        assert shared[item].objects is shared.objects
    assert torch.equal(shared.get_bounding_boxes().tensor, plain.get_bounding_boxes().tensor)
    assert torch.equal(SharedMasks.cat([shared, shared]).tensor, plain.cat([plain, plain]).tensor)
    assert shared.to("cpu").device.type == "cpu"
    assert isinstance(shared[keep].to("cpu"), SharedMasks)
