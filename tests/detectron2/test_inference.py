"""A model made faster gives the same results; each replaced step equals Detectron2's own."""

import copy
import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2.layers import paste_masks_in_image
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision import ops

from atto_det.complexity.regions import spread_boxes
from atto_det.detectron2 import inference
from atto_det.detectron2.analysis import read_config
from atto_det.detectron2.baselines import build_baseline
from atto_det.detectron2.inference import optimise_for_inference
from atto_det.detectron2.model import build_model
from atto_det.detectron2.pooling import GatherPooler
from atto_det.detectron2.regions import fix_regions
from atto_det.ops.paste_masks import paste_masks
from atto_det.ops.roi_align import roi_align

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*maskrcnn*_voc.yaml"))
NAMES.append("carparts/ablation/norms")  # of separable heads
NAMES.append("r50-fpn")
# Made of the same modules as another of NAMES, or, as r50-c4, at length.
LONG = {"r50-c4", *(name for name in NAMES if re.search("_[bcd]_(lite_)?voc", name))}
SIZE = (96, 128)


@pytest.fixture(autouse=True)
def _masks_in_parts(monkeypatch):
    """So that 20 detections are more than the mask head takes at once."""
    monkeypatch.setattr(inference, "MASKS_AT_ONCE", 8)


def build(name: str) -> nn.Module:
    """A model whose batch norms have statistics, as trained ones have."""
    torch.manual_seed(0)
    if name.startswith("r50-"):
        model, _ = build_baseline(name, 20)
    else:
        model = build_model(read_config(CONFIGS / f"{name}.yaml", 20))
    for module in model.modules():
        if hasattr(module, "running_mean"):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
    return model.eval()


def outcome(model: nn.Module) -> dict[str, list[torch.Tensor]]:
    """What each part of a model gives for one picture, 60 proposals and 20 detections."""
    seen: dict[str, list[torch.Tensor]] = {}
    heads = model.roi_heads
    heads.box_predictor.test_topk_per_image = 20

    def note(name: str, choose):
        return lambda module, args, output: seen.update({name: choose(output)})

    hooks = [
        model.backbone.register_forward_hook(note("features", lambda o: list(o.values()))),
        model.proposal_generator.rpn_head.register_forward_hook(
            note("rpn", lambda o: [*o[0], *o[1]])
        ),
        heads.box_predictor.register_forward_hook(note("boxes", list)),
    ]
    fix_regions(model, 60, *SIZE)
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8, generator=generator)
    item = {"image": pixels, "height": 70, "width": 90}
    with torch.inference_mode():
        [raw] = model.inference([item], do_postprocess=False)
        [whole] = model([item])
    for hook in hooks:
        hook.remove()
    masks = raw.pred_masks
    found = whole["instances"]
    return seen | {
        "masks": [(masks if isinstance(masks, torch.Tensor) else masks.tensor).flatten(1)],
        "found": [found.pred_boxes.tensor, found.scores, found.pred_classes],
        "pasted": [found.pred_masks],
    }


@pytest.mark.parametrize(
    "name",
    [*(name for name in NAMES if name not in LONG)]
    + [pytest.param(name, marks=pytest.mark.slow) for name in sorted(LONG)],
)
def test_the_same_results(name):
    model = build(name)
    expected = outcome(copy.deepcopy(model))
    fast = optimise_for_inference(model)
    assert fast is model
    kinds = {type(module).__name__ for module in fast.modules()}
    assert not kinds & {"BatchNorm2d", "FrozenBatchNorm2d"}
    found = outcome(fast)
    pasted, differ = expected.pop("pasted")[0], found.pop("pasted")[0]
    assert len(pasted) == 20
    assert pasted.shape == differ.shape == (20, 70, 90)
    assert (pasted != differ).float().mean() < 1e-3  # where the value is within rounding of 0.5
    for part, tensors in expected.items():
        for one, other in zip(tensors, found[part], strict=True):
            scale = one.abs().max().clamp(min=1).item()
            torch.testing.assert_close(other, one, rtol=0, atol=1e-5 * scale, msg=part)


def test_what_cannot_be_folded_stays():
    conv = nn.Conv2d(3, 3, 1)
    shared = nn.ModuleList(nn.Sequential(conv, nn.BatchNorm2d(3)) for _ in range(2))
    behind = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3))
    model = nn.ModuleList([*shared, behind])
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_var, 0.5, 2)
    x = torch.rand(2, 3, 5, 6)
    expected = [part(x) for part in copy.deepcopy(model).eval()]
    optimise_for_inference(model)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == 3
    for part, one in zip(model, expected, strict=True):
        torch.testing.assert_close(part(x), one)


def test_the_rpn_s_proposals_are_the_very_same():
    """Pictures of one colour give equal scores, whose order must stay."""
    name = "atto_maskrcnn_tiny_voc"
    rpn, faster = build(name), optimise_for_inference(build(name)).proposal_generator
    plain = rpn.proposal_generator
    faster.rpn_head = plain.rpn_head  # the same scores to the last bit
    for pixels in (torch.rand(2, 3, *SIZE) * 255, torch.full((2, 3, *SIZE), 80.0)):
        images = rpn.preprocess_image([{"image": picture} for picture in pixels])
        with torch.inference_mode():
            features = rpn.backbone(images.tensor)
            for one, other in zip(
                plain(images, features)[0], faster(images, features)[0], strict=True
            ):
                assert len(one) > 10
                assert torch.equal(one.proposal_boxes.tensor, other.proposal_boxes.tensor)
                assert torch.equal(one.objectness_logits, other.objectness_logits)


coordinate = st.floats(-40, 140, width=32)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(*[coordinate] * 4), min_size=1, max_size=6),
    st.sampled_from([0, 1, 2]),
    st.sampled_from([(7, 0.25), (14, 0.125), (3, 0.5), (2, 1.0)]),
    st.tuples(st.integers(1, 14), st.integers(1, 18)),
)
def test_pooling_is_torchvision_s_roi_align(corners, samples, size_and_scale, shape):
    size, scale = size_and_scale
    boxes = torch.tensor(corners)
    low, high = torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])
    regions = torch.cat([torch.arange(len(boxes))[:, None] % 2, low, high], dim=1)
    features = torch.rand(2, 3, *shape, requires_grad=True)
    expected = ops.roi_align(features, regions, (size, size), scale, samples, aligned=True)
    levels = torch.zeros(len(boxes), dtype=torch.long)
    found = roi_align([features], regions, levels, (size, size), [scale], samples)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    change = torch.rand_like(expected) - 0.5
    # A region without area has no gradient.
    losses = [(y * change).sum() + 0 * features.sum() for y in (found, expected)]
    gradients = [torch.autograd.grad(loss, features)[0] for loss in losses]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("kind", ["ROIAlignV2", "ROIAlign", "ROIPool"])
@pytest.mark.parametrize("boxes", [0, 40])
def test_pooling_from_several_levels(kind, boxes):
    scales = [1 / 4, 1 / 8, 1 / 16]
    pooler = ROIPooler((7, 7), scales, 0, kind)
    faster = GatherPooler(pooler)
    features = [
        torch.rand(2, 5, int(400 * scale), int(600 * scale), requires_grad=True) for scale in scales
    ]
    lists = [Boxes(spread_boxes(count, 400, 600)) for count in (boxes, boxes // 2)]
    found, expected = faster(features, lists), pooler(features, lists)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-5)
    if boxes:
        change = torch.rand_like(expected) - 0.5
        ours, theirs = (torch.autograd.grad(y, features, change) for y in (found, expected))
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-4)
    if kind == "ROIAlignV2" and boxes:
        assert found.is_contiguous(memory_format=torch.channels_last)


def test_masks_are_pasted_as_detectron2_pastes_them():
    masks = torch.rand(40, 28, 28, generator=torch.Generator().manual_seed(0))
    boxes = spread_boxes(40, 120, 170)
    boxes[0] = torch.tensor([-20.0, -10.0, 300.0, 200.0])
    boxes[1] = torch.tensor([3.2, 4.1, 3.9, 4.6])
    boxes[2] = torch.tensor([160.0, 100.0, 400.0, 300.0])
    expected = paste_masks_in_image(masks, boxes, (120, 170), 0.5)
    found = paste_masks(masks, boxes, 120, 170, 0.5)
    assert found.dtype == torch.bool
    assert expected.any(dim=(1, 2)).float().mean() > 0.9
    assert (expected != found).sum() <= 2
    assert paste_masks(masks[:0], boxes[:0], 120, 170, 0.5).shape == (0, 120, 170)


@pytest.mark.parametrize("inference", [False, True])
def test_masks_of_large_pictures_are_pasted_in_threads(inference):
    masks = torch.rand(7, 28, 28, generator=torch.Generator().manual_seed(0))
    corners = torch.arange(7)[:, None] * torch.tensor([[150.0, 90.0]])
    boxes = torch.cat([corners, corners + torch.tensor([[700.0, 400.0]])], dim=1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with torch.inference_mode(inference):
            found = paste_masks(masks, boxes, 1500, 3500, 0.5)  # 37 million pixels: 3 threads
    finally:
        torch.set_num_threads(before)
    assert found.shape == (7, 1500, 3500)
    for index in range(7):  # 5 million: in this thread
        alone = paste_masks(masks[index : index + 1], boxes[index : index + 1], 1500, 3500, 0.5)
        assert alone.any()
        assert torch.equal(found[index], alone[0])


def test_nothing_found():
    model = optimise_for_inference(build("atto_maskrcnn_tiny_voc"))
    item = {"image": torch.zeros(3, *SIZE, dtype=torch.uint8), "height": 50, "width": 60}
    model.roi_heads.box_predictor.test_score_thresh = 1.0
    with torch.inference_mode():
        [found] = model([item])
    assert found["instances"].pred_masks.shape == (0, 50, 60)
