"""Regions in another order give what torchvision's own layers give."""

import pytest
import torch
from torchvision.ops import roi_align

from atto_det.torchvision.pooling import AlignedPooler


@pytest.mark.parametrize("traced", [True, False])  # torchvision's kernel, and ours
@pytest.mark.parametrize("samples", [0, 2])
def test_pooled_regions_keep_their_places(samples, traced, monkeypatch):
    monkeypatch.setattr(torch.jit, "is_tracing", lambda: traced)
    torch.manual_seed(4)
    features = {f"p{i}": torch.randn(2, 3, 256 // 2**i, 512 // 2**i) for i in (2, 3, 4)}
    boxes = [torch.rand(60, 4) * 240, torch.rand(1, 4) * 240]
    for own in boxes:
        own[:, 2:] += own[:, :2] + 1
    pooler = AlignedPooler(list(features), [4, 8, 16], 7, samples)
    found = pooler(features, boxes, [(256, 512)] * 2)
    assert pooler(features, [own[:0] for own in boxes], []).shape == (0, 3, 7, 7)
    assert found.shape == (61, 3, 7, 7)
    levels_met = set()
    for index, box in enumerate(torch.cat(boxes)):
        side = ((box[2] - box[0]) * (box[3] - box[1])).sqrt()
        level = int((4 + (side / 224).log2()).floor().clamp(2, 4))  # arXiv 1612.03144, eq. 1
        levels_met.add(level)
        picture = torch.tensor([float(index >= 60)])
        region = torch.cat([picture, box])[None]
        wanted = roi_align(features[f"p{level}"], region, 7, 0.5**level, samples, aligned=True)
        torch.testing.assert_close(found[index], wanted[0], rtol=0, atol=1e-4)
    assert len(levels_met) > 1


@pytest.mark.parametrize("samples", [0, 2])
def test_gradients_are_those_of_torchvision_s_kernel(samples, monkeypatch):
    torch.manual_seed(4)
    names, strides = ["p2", "p3"], [4, 8]
    features = {f"p{i}": torch.randn(2, 3, 256 // 2**i, 512 // 2**i) for i in (2, 3)}
    boxes = [torch.rand(20, 4) * 200 for _ in range(2)]
    for own in boxes:
        own[:, 2:] += own[:, :2] + 1
    change, found = torch.rand(40, 3, 7, 7) - 0.5, []
    for traced in (True, False):
        monkeypatch.setattr(torch.jit, "is_tracing", lambda traced=traced: traced)
        maps = {name: map_.clone().requires_grad_() for name, map_ in features.items()}
        pooled = AlignedPooler(names, strides, 7, samples)(maps, boxes, [(256, 512)] * 2)
        (pooled * change).sum().backward()
        found.append([maps[name].grad for name in names])
    for theirs, ours in zip(*found, strict=True):
        assert theirs.abs().max() > 0.1
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-4)
