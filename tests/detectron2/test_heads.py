"""Depthwise-separable FPN outputs, RPN head and mask head, on AttoNet and on ResNet-50."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from atto_det.detectron2 import SeparableMaskHead, SeparableRPNHead, load_config
from atto_det.detectron2.config import read_file
from atto_det.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NAMES = ("atto_maskrcnn_lite_voc", "atto_maskrcnn_tiny_voc")
CPU = ("MODEL.DEVICE", "cpu")
FEW_REGIONS = (
    *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", "50", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "10"),
    *("MODEL.RPN.PRE_NMS_TOPK_TEST", "50", "MODEL.RPN.POST_NMS_TOPK_TEST", "10"),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "8", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"),
)
RESNET = (
    *("MODEL.SEPARABLE.BACKBONE", "build_resnet_fpn_backbone"),
    *("MODEL.RESNETS.OUT_FEATURES", "['res2', 'res3', 'res4', 'res5']"),
    *("MODEL.RESNETS.NORM", "BN"),
)
NORMS = (
    *("MODEL.FPN.NORM", "BN", "MODEL.SEPARABLE.RPN_NORM", "BN", "MODEL.ROI_MASK_HEAD.NORM", "BN"),
)


def build(name: str = NAMES[0], *options: str) -> nn.Module:
    return build_model(load_config(CONFIGS / f"{name}.yaml", [*CPU, *FEW_REGIONS, *options]))


def picture(objects: int = 1) -> dict:
    """A picture of noise with `objects` rectangles of one place."""
    found = Instances((128, 160))
    found.gt_boxes = Boxes(torch.tensor([[16.0, 8, 96, 112]] * objects).reshape(-1, 4))
    found.gt_classes = torch.zeros(objects, dtype=torch.int64)
    mask = torch.zeros(objects, 128, 160, dtype=torch.bool)
    mask[:, 8:112, 16:96] = True
    found.gt_masks = BitMasks(mask)
    image = torch.randint(0, 256, (3, 128, 160), dtype=torch.uint8)
    return {"image": image, "instances": found, "height": 256, "width": 320}


@pytest.mark.parametrize("norms", [NORMS, ()], ids=["BN", "no norm"])
@pytest.mark.parametrize("backbone", [(), RESNET], ids=["attonet", "resnet"])
@pytest.mark.parametrize("name", NAMES)
def test_a_training_step_and_an_inference(name, backbone, norms):
    torch.manual_seed(0)
    model = build(name, *backbone, *norms)
    with EventStorage():
        losses = model([picture(), picture()])
    assert {"loss_mask", "loss_rpn_cls", "loss_box_reg"} <= set(losses)
    assert all(loss.isfinite() for loss in losses.values()), losses
    sum(losses.values()).backward()
    heads = [model.proposal_generator, model.roi_heads, *model.backbone.output_convs]
    for key, parameter in (pair for head in heads for pair in head.named_parameters()):
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    assert model.backbone.fpn_output2.depthwise.weight.grad.any()
    assert model.proposal_generator.rpn_head.convs[0].depthwise.weight.grad.any()
    assert model.roi_heads.mask_head.mask_fcn1.depthwise.weight.grad.any()
    model.eval()
    with torch.no_grad():
        [output] = model([picture()])
    found = output["instances"]
    assert found.image_size == (256, 320)
    assert len(found)
    assert found.pred_masks.shape == (len(found), 256, 320)


def test_a_step_without_objects_leaves_the_norms_as_they_are():
    torch.manual_seed(0)
    model = build(NAMES[0], *NORMS)
    before = model.roi_heads.mask_head.mask_fcn1.norm.running_mean.clone()
    with EventStorage():
        losses = model([picture(objects=0)])
        sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values()), losses
    assert torch.equal(model.roi_heads.mask_head.mask_fcn1.norm.running_mean, before)


def test_the_fpn_s_output_convolutions_are_all_replaced():
    model = build(NAMES[0], *NORMS)
    fpn = model.backbone
    assert [fpn.fpn_output5, fpn.fpn_output4, fpn.fpn_output3, fpn.fpn_output2] == fpn.output_convs
    for conv in fpn.output_convs:
        assert [key for key, _ in conv.named_children()] == ["depthwise", "pointwise", "norm"]
    with torch.no_grad():
        features = model.eval().backbone(torch.zeros(1, 3, 64, 96))
    assert {key: tuple(value.shape) for key, value in features.items()} == {
        "p2": (1, 96, 16, 24),
        "p3": (1, 96, 8, 12),
        "p4": (1, 96, 4, 6),
        "p5": (1, 96, 2, 3),
        "p6": (1, 96, 1, 2),
    }
    assert {s.channels for s in fpn.output_shape().values()} == {96}


@pytest.mark.parametrize("norm", ["", "BN"])
def test_rpn_head_takes_its_list_of_features(norm):
    head = SeparableRPNHead(in_channels=8, num_anchors=3, levels=2, conv_dims=(-1, 12), norm=norm)
    features = [torch.randn(2, 8, 6, 10), torch.randn(2, 8, 3, 5)]
    scores, offsets = head(features)
    assert [tuple(x.shape) for x in scores] == [(2, 3, 6, 10), (2, 3, 3, 5)]
    assert [tuple(x.shape) for x in offsets] == [(2, 12, 6, 10), (2, 12, 3, 5)]
    assert [conv.pointwise.out_channels for conv in head.convs] == [8, 12]
    norms = [module for module in head.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == (4 if norm else 0)  # two levels, two convolutions


def test_each_level_has_statistics_of_its_own():
    torch.manual_seed(0)
    head = SeparableRPNHead(in_channels=8, num_anchors=3, levels=2, norm="BN")
    features = [torch.randn(2, 8, 6, 10), 5 + 3 * torch.randn(2, 8, 3, 5)]
    head(features)
    for x, norm in zip(features, head.norms[0], strict=True):
        seen = head.convs[0](x).transpose(0, 1).flatten(1)
        torch.testing.assert_close(norm.running_mean, 0.1 * seen.mean(1))
        torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * seen.var(1))


@pytest.mark.parametrize("norm", ["", "BN"])
def test_mask_head_layers(norm):
    head = SeparableMaskHead(
        ShapeSpec(channels=8, width=14, height=14),
        num_classes=5,
        conv_dims=[6, 7, 7],
        conv_norm=norm,
    )
    x = torch.randn(3, 8, 14, 14)
    assert head.layers(x).shape == (3, 5, 28, 28)
    assert head.layers(x[:0]).shape == (0, 5, 28, 28)
    order = ["mask_fcn1", "mask_fcn2", "deconv", "deconv_relu", "predictor"]
    assert [key for key, _ in head.named_children()] == order
    assert [head.mask_fcn1, head.mask_fcn2] == head.conv_norm_relus
    expected = head.mask_fcn2(head.mask_fcn1(x))
    expected = head.predictor(head.deconv_relu(head.deconv(expected)))
    torch.testing.assert_close(head.layers(x), expected)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("MODEL.SEPARABLE.BACKBONE", "nonsense"), "'nonsense': name a builder of an FPN"),
        (("MODEL.SEPARABLE.BACKBONE", "build_separable_fpn_backbone"), "name a builder of an FPN"),
        (
            ("MODEL.SEPARABLE.BACKBONE", "build_attonet_backbone"),
            "AttoNetBackbone, which has no FPN",
        ),
        (("MODEL.SEPARABLE.RPN_NORM", "GN"), "RPN_NORM is 'GN': choose one of '', 'BN'"),
        (("MODEL.ROI_MASK_HEAD.NORM", "LN"), "unknown norm 'LN': choose one of BN"),
    ],
)
def test_what_cannot_be_built_is_a_sentence(options, sentence):
    with pytest.raises(UserError, match=sentence):
        build(NAMES[0], *options, "MODEL.RESNETS.OUT_FEATURES", "['res2', 'res5']")


def test_tiny_pictures_have_at_most_320_pixels_a_side():
    from detectron2.data.transforms import ResizeShortestEdge

    cfg = read_file(CONFIGS / "atto_maskrcnn_tiny_voc.yaml")
    for height, width in ((375, 500), (500, 333), (1000, 1000), (60, 80)):
        size = ResizeShortestEdge.get_output_shape(
            height, width, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
        )
        assert max(size) == 320


def test_lite_has_the_recipe_and_the_regions_of_the_baseline():
    lite, r50 = (read_file(CONFIGS / f"{n}.yaml") for n in (NAMES[0], "r50_maskrcnn_voc"))
    for section in ("SOLVER", "INPUT", "DATALOADER", "DATASETS", "TEST"):
        assert lite[section] == r50[section]
    assert lite.MODEL.ROI_HEADS == r50.MODEL.ROI_HEADS
    assert {**lite.MODEL.RPN, "HEAD_NAME": ""} == {**r50.MODEL.RPN, "HEAD_NAME": ""}
