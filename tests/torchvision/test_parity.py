"""The torchvision engine computes what Detectron2 computes."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2.data import transforms as T

from atto_det import data
from atto_det.detectron2.evaluator import to_detections
from atto_det.torchvision import predictor

from .conftest import PLAIN, R18, R50, SEPARABLE

NORMS = ["MODEL.FPN.NORM", "BN", "MODEL.ROI_MASK_HEAD.NORM", "BN"]
TIMM = ["MODEL.TIMM.NAME", "mobilenetv3_small_050"]
VARIANTS = [
    (PLAIN, ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", *TIMM]),
    (SEPARABLE, ["MODEL.SEPARABLE.BACKBONE", "build_timm_fpn_backbone", *TIMM]),
    (PLAIN, []),
    (PLAIN, NORMS),
    (SEPARABLE, []),
    (SEPARABLE, [*NORMS, "MODEL.SEPARABLE.RPN_NORM", "BN"]),
    (PLAIN, ["MODEL.ANCHOR_GENERATOR.SIZES", "[[24, 48]]", "INPUT.FORMAT", "BGR"]),
    (R50, []),
    (R50, R18),
]
RESNETS = [
    [],
    ["MODEL.RESNETS.STRIDE_IN_1X1", "True", "MODEL.RESNETS.NORM", "FrozenBN"],
    ["MODEL.RESNETS.NUM_GROUPS", "32", "MODEL.RESNETS.WIDTH_PER_GROUP", "4"],
    ["MODEL.BACKBONE.FREEZE_AT", "3", *R18],
]


@pytest.mark.parametrize("options", RESNETS)
def test_resnets_are_detectron2_s(pair, options):
    both = pair(R50, options)
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted, found = both.detectron2.backbone(x), both.torchvision.backbone(x)
    for level, feature in wanted.items():
        torch.testing.assert_close(found[level], feature, rtol=1e-5, atol=1e-5)
    theirs, ours = (
        sum(p.numel() for p in model.backbone.parameters() if p.requires_grad)
        for model in (both.detectron2, both.torchvision)
    )
    assert theirs == ours


def photo(photos, number: int) -> np.ndarray:
    files = sorted((photos / "VOC2012/JPEGImages").glob("*.jpg"))
    return data.read_image(files[number])


@pytest.mark.parametrize(("config", "options"), VARIANTS)
def test_features_and_proposals_are_equal_on_real_photos(pair, photos, config, options):
    both = pair(config, options)
    for number in (0, 7):
        pixels = predictor.prepare(both.cfg, photo(photos, number))
        with torch.inference_mode():
            theirs = both.detectron2.preprocess_image([{"image": pixels}])
            ours, _ = both.torchvision.transform([pixels])
            assert torch.allclose(theirs.tensor, ours.tensors, atol=1e-5)
            wanted = both.detectron2.backbone(theirs.tensor)
            found = both.torchvision.backbone(ours.tensors)
            assert list(wanted) == list(found) == ["p2", "p3", "p4", "p5", "p6"]
            for level, feature in wanted.items():
                scale = feature.abs().max()
                assert torch.allclose(feature / scale, found[level] / scale, atol=1e-4), level
            theirs_rpn = both.detectron2.proposal_generator.rpn_head(list(wanted.values()))
            ours_rpn = both.torchvision.rpn.head(list(found.values()))
            for kind in (0, 1):  # logits, offsets
                for one, other in zip(theirs_rpn[kind], ours_rpn[kind], strict=True):
                    assert torch.allclose(one, other, atol=1e-4 * float(one.abs().max()))
            wanted, _ = both.detectron2.proposal_generator(theirs, wanted)
            found, _ = both.torchvision.rpn(ours, found)
        assert len(found[0]) > 50
        assert torch.allclose(wanted[0].proposal_boxes.tensor, found[0], atol=1e-3)


@pytest.mark.parametrize(("config", "options"), VARIANTS)
def test_detections_are_equal_on_real_photos(pair, photos, config, options):
    both = pair(config, options)
    matched = total = 0
    for number in (3, 11):
        image = photo(photos, number)
        height, width = image.shape[:2]
        pixels = predictor.prepare(both.cfg, image)
        item = {"image": pixels, "height": height, "width": width}
        with torch.inference_mode():
            wanted = to_detections(both.detectron2([item])[0]["instances"])
        found = predictor.detect(both.torchvision, both.cfg, image)
        pairs, count = match(wanted, found)
        matched, total = matched + pairs, total + count
    assert total > 50
    assert matched >= 0.99 * total


def match(wanted, found) -> tuple[int, int]:
    """How many detections above 0.05 have a twin, and how many there are."""
    rows = np.flatnonzero(wanted.scores > 0.05)
    matched = 0
    for row in rows:
        same = np.flatnonzero(found.classes == wanted.classes[row])
        boxes = mask_util.iou(
            corners(found.boxes[same]), corners(wanted.boxes[row : row + 1]), [False]
        )
        masks = mask_util.iou([found.rles[i] for i in same], [wanted.rles[row]], [False])
        empty = mask_util.area(wanted.rles[row]) == 0  # two empty masks have no IoU
        fits = (np.ravel(boxes) > 0.99) & ((np.ravel(masks) > 0.98) | empty)
        matched += bool(fits.any())
    return matched, len(rows)


def corners(boxes: np.ndarray) -> np.ndarray:
    """x1 y1 x2 y2 as x y w h."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def test_resizing_is_the_same_pixel_by_pixel(pair, photos):
    cfg = pair(SEPARABLE).cfg.clone()
    for short, longest in ((160, 1333), (224, 260), (501, 501)):
        cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = short, longest
        resize = T.ResizeShortestEdge([short, short], longest)
        for number in range(6):
            image = photo(photos, number)
            wanted = resize.get_transform(image).apply_image(image)
            found = predictor.prepare(cfg, image).numpy().transpose(1, 2, 0)
            assert np.array_equal(wanted, found)


def test_a_picture_without_objects_trains(pair):
    model = pair(SEPARABLE).torchvision.train()
    target = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 96, 128, dtype=torch.uint8),
    }
    losses = model([torch.full((3, 96, 128), 90.0)], [target])
    assert losses["loss_mask"].item() == losses["loss_box_reg"].item() == 0
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


CASES = [
    (PLAIN, []),
    (SEPARABLE, []),
    (R50, []),
    (R50, ["MODEL.BACKBONE.NAME", "build_resnet_fpn_started_as_attonet_backbone"]),
]


@pytest.mark.parametrize(("config", "changes"), CASES)
def test_random_weights_spread_as_detectron2_s(repository, config, changes):
    """Each tensor's standard deviation, from the same config."""
    from atto_det.detectron2.config import read_file
    from atto_det.detectron2.model import build_model
    from atto_det.torchvision import config as torchvision_config
    from atto_det.torchvision import mapping
    from atto_det.torchvision.model import build_model as build_torchvision

    options = ["MODEL.DEVICE", "cpu", "MODEL.ROI_HEADS.NUM_CLASSES", "20", *changes]
    torch.manual_seed(0)
    theirs = build_model(read_file(repository / config, options)).state_dict()
    cfg = torchvision_config.read_file(repository / config, options)
    ours = mapping.to_detectron2(build_torchvision(cfg).state_dict(), cfg)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        if tensor.is_floating_point() and tensor.numel() > 500:
            wanted, found = tensor.std().item(), ours[name].std().item()
            # Of n draws the standard deviation is known within 1 / sqrt(2 n): four times that.
            assert found == pytest.approx(wanted, rel=0.02 + 5.6 / tensor.numel() ** 0.5), name
