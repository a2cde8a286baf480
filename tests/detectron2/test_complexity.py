"""What detectors cost: 1000 proposals, 100 detections, whatever the weights."""

import functools
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2 import model_zoo
from detectron2.config import CfgNode, instantiate
from detectron2.modeling import build_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from atto_det.complexity import Cost, count, merge, peak_memory
from atto_det.detectron2 import load_config
from atto_det.detectron2.baselines import build_baseline, torchvision_parts
from atto_det.detectron2.complexity import detector_cost, detector_parts, split
from atto_det.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def ours(name: str, *options: str) -> nn.Module:
    return build_model(load_config(CONFIGS / name, ["MODEL.DEVICE", "cpu", *options]))


def zoo(name: str) -> nn.Module:
    cfg: CfgNode = model_zoo.get_config(name)
    cfg.MODEL.DEVICE, cfg.MODEL.ROI_HEADS.NUM_CLASSES = "cpu", 20
    cfg.MODEL.RETINANET.NUM_CLASSES = 20
    return build_model(cfg)


MODELS = {
    "atto": lambda: ours("atto_maskrcnn_voc.yaml"),
    "atto, FC 1024": lambda: ours("atto_maskrcnn_voc.yaml", "MODEL.ROI_BOX_HEAD.FC_DIM", "1024"),
    "atto, 112": lambda: ours(
        "atto_maskrcnn_voc.yaml",
        *("MODEL.FPN.OUT_CHANNELS", "112", "MODEL.ROI_MASK_HEAD.CONV_DIM", "112"),
        *("MODEL.ROI_BOX_HEAD.FC_DIM", "768"),
    ),
    "lite": lambda: ours("atto_maskrcnn_lite_voc.yaml"),
    "tiny": lambda: ours("atto_maskrcnn_tiny_voc.yaml"),
    "r50": lambda: ours("r50_maskrcnn_voc.yaml"),
    "zoo FPN": lambda: zoo("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"),
    "zoo C4": lambda: zoo("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x.yaml"),
}


@functools.cache
def built(name: str) -> nn.Module:
    """One of MODELS, which counting does not change."""
    return MODELS[name]()


@functools.cache
def costs_of(name: str, height: int, width: int) -> list[Cost]:
    """Of one of MODELS by part."""
    return detector_cost(built(name), height, width)


# Millions of parameters, billions of multiply-adds.
@pytest.mark.parametrize(
    ("name", "parameters", "size", "macs"),
    [
        ("atto", 18.29, (1024, 1024), 181.9),
        ("atto, FC 1024", 23.12, (1024, 1024), 186.8),
        ("atto, FC 1024", 23.12, (800, 1088), 166.2),
        ("atto, 112", 9.15, (1024, 1024), 49.3),
        ("atto, 112", 9.15, (800, 1088), 43.5),
        ("lite", 6.02, (1024, 1024), 20.5),
        ("lite", 6.02, (800, 1088), 17.8),
        ("tiny", 1.33, (320, 320), 1.9),
        ("tiny", 1.33, (1024, 1024), 5.4),
        ("r50", 44.07, (1024, 1024), 262.4),
        ("zoo FPN", 44.02, (1024, 1024), 257.6),
        ("zoo FPN", 44.02, (800, 1088), 225.0),
        ("zoo C4", 35.28, (1024, 1024), 920.2),
        ("zoo C4", 35.28, (800, 1088), 902.5),
    ],
)
def test_reference_figures(name, parameters, size, macs):
    costs = costs_of(name, *size)
    assert round(sum(cost.parameters for cost in costs) / 1e6, 2) == parameters
    assert round(sum(cost.macs for cost in costs) / 1e9, 1) == macs


def total(name: str, height: int, width: int) -> Cost:
    return merge(costs_of(name, height, width), "total")[0]


def test_against_c4_as_published():
    """The paper's 2 times fewer parameters and 5 times fewer multiply-adds."""
    own, c4 = (total(name, 1024, 1024) for name in ("atto", "zoo C4"))
    assert round(c4.parameters / own.parameters, 2) == 1.93
    assert round(c4.macs / own.macs, 2) == 5.06


def test_c4_with_res5_on_the_proposals_alone():
    model = built("zoo C4")
    costs = detector_cost(model, 1024, 1024, stages=True)
    res5 = next(cost.macs for cost in costs if cost.name == "res5")
    once = sum(cost.macs for cost in costs) - res5 * 100 / 1100
    assert round(once / 1e9, 1) == 847.0


@pytest.mark.parametrize("size", [(1024, 1024), (800, 1088)])
def test_lite_is_ten_times_lighter_than_r50_fpn(size):
    own, fpn = (total(name, *size) for name in ("lite", "zoo FPN"))
    assert fpn.macs / own.macs >= 12.5
    assert fpn.parameters / own.parameters >= 7.3


def test_tiny_with_the_regions_of_its_own():
    model = built("tiny")
    assert model.proposal_generator.post_nms_topk[False] == 100
    macs = sum(cost.macs for cost in detector_cost(model, 320, 320, proposals=100))
    assert round(macs / 1e9, 2) == 1.07


def test_separable_heads_by_hand():
    costs = {c.name: c for c in detector_cost(built("lite"), 128, 128, detections=3)}
    separable, places = 9 * 96 + 96 * 96, 32**2 + 16**2 + 8**2 + 4**2
    laterals = 32**2 * 176 + 16**2 * 400 + 8**2 * 808 + 4**2 * 952
    assert costs["fpn"].macs == places * separable + laterals * 96
    assert costs["fpn"].activations == places * 96 * 3  # lateral, depthwise, 1×1
    assert costs["rpn"].macs == (places + 2**2) * (separable + 96 * 15)
    assert costs["rpn"].activations == (places + 2**2) * (96 + 96 + 15)
    up = 196 * 4 * 96 * 96 + 784 * 96 * 20
    assert costs["mask_head"].macs == 3 * (4 * 196 * separable + up)


def test_heads_by_hand():
    model = ours("atto_maskrcnn_voc.yaml")
    costs = {c.name: c for c in detector_cost(model, 128, 128, proposals=10, detections=3)}
    # Two dense layers, then 21 class scores and 20 boxes.
    assert costs["box_head"].macs == 10 * (256 * 49 * 688 + 688 * 688 + 688 * (21 + 80))
    # Four 3×3 convolutions on 14×14, a 2×2 deconvolution to 28×28, one map per class.
    convolutions = 4 * 196 * 9 * 256 * 256 + 196 * 4 * 256 * 256 + 784 * 256 * 20
    assert costs["mask_head"].macs == 3 * convolutions
    # On p2 to p6: one 3×3 convolution, 3 anchors with a score and 4 offsets each.
    places = 32**2 + 16**2 + 8**2 + 4**2 + 2**2
    assert costs["rpn"].macs == places * (9 * 256 * 256 + 256 * 15)


def test_a_c4_model_runs_res5_twice():
    costs = detector_cost(built("zoo C4"), 128, 128, proposals=1, detections=1)
    assert [cost.name for cost in costs] == ["backbone", "rpn", "box_head", "mask_head"]
    box, mask = costs[2:]
    # The mask head: a 2×2 deconvolution from 7×7 and a map per class, the rest is res5 again.
    assert mask.macs - (49 * 4 * 2048 * 256 + 196 * 256 * 20) == box.macs - 2048 * (21 + 80)


def test_parameters_are_those_of_the_model_and_it_stays_as_it_is():
    model = ours("atto_maskrcnn_d_voc.yaml").train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    costs = detector_cost(model, 100, 150)
    assert sum(cost.parameters for cost in costs) == sum(p.numel() for p in model.parameters())
    assert model.training
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert costs == detector_cost(model, 128, 160)  # padded to multiples of 32


@pytest.mark.parametrize("name", ["atto", "lite", "zoo FPN", "zoo C4"])
def test_stages_add_up_to_the_whole(name):
    model = built(name)
    costs = detector_cost(model, 128, 160, stages=True)
    names = [cost.name for cost in costs]
    stages = ["stem", "res2", "res3", "res4", "res5"]
    if name == "zoo C4":
        assert names == [*stages[:4], "rpn", "res5", "box_head", "mask_head"]
    else:
        assert names == [*stages, "fpn", "rpn", "box_head", "mask_head"]
    assert merge(costs, "total") == merge(detector_cost(model, 128, 160), "total")


class Loose(nn.Sequential):
    """A chain with work between its children."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x @ x)


def test_a_network_that_is_no_chain_of_children_stays_whole():
    layers, x = (nn.Linear(4, 4), nn.ReLU()), torch.zeros(4, 4)
    assert [name for name, *_ in split(("net", nn.Sequential(*layers), (x,)))] == ["0", "1"]
    assert [name for name, *_ in split(("net", Loose(*layers), (x,)))] == ["net"]


class Values(nn.Module):
    """A backbone whose forward pass gives a tuple, as tracing needs it."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.backbone(x).values())


@pytest.mark.parametrize("name", ["tiny", pytest.param("r50", marks=pytest.mark.slow)])
def test_the_backbone_s_figures_are_those_of_fvcore_and_torch(name):
    fvcore = pytest.importorskip("fvcore.nn", reason="fvcore is not installed")
    model = built(name).eval()
    costs = detector_cost(model, 128, 160)[:2]
    backbone, x = Values(model.backbone), torch.zeros(1, 3, 128, 160)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone(x)
    assert sum(cost.macs for cost in costs) == counter.get_total_flops() // 2
    macs = fvcore.FlopCountAnalysis(backbone, x).unsupported_ops_warnings(False).by_operator()
    assert sum(cost.macs for cost in costs) == macs["conv"]  # beside norms, which it counts too
    written = fvcore.ActivationCountAnalysis(backbone, x).unsupported_ops_warnings(False)
    assert sum(cost.activations for cost in costs) == written.total()


@pytest.mark.parametrize(("size", "macs"), [((1024, 1024), 262.4), ((800, 1088), 229.0)])
def test_torchvision(size, macs):
    model, _ = build_baseline("torchvision", 20)
    costs = merge(count(torchvision_parts(model, *size, proposals=1000, detections=100)))
    stages = ["stem", "res2", "res3", "res4", "res5"]
    assert [cost.name for cost in costs] == [*stages, "fpn", "rpn", "box_head", "mask_head"]
    assert sum(cost.parameters for cost in costs) == sum(p.numel() for p in model.parameters())
    assert round(sum(cost.macs for cost in costs) / 1e9, 1) == macs


def test_torchvision_and_detectron2_agree_on_the_same_network():
    """r50_maskrcnn_voc is torchvision's, but for a background mask and background box offsets."""
    model, _ = build_baseline("torchvision", 20)
    theirs = merge(count(torchvision_parts(model, 100, 150, proposals=7, detections=3)))
    ours = detector_cost(built("r50"), 100, 150, proposals=7, detections=3, stages=True)
    differ = {"box_head": 7 * 1024 * 4, "mask_head": 3 * 784 * 256}
    for own, their in zip(ours, theirs, strict=True):
        assert (own.name, own.macs + differ.get(own.name, 0)) == (their.name, their.macs)


def test_unknown_baselines_are_a_sentence():
    with pytest.raises(
        UserError, match=r"no baseline r101: choose among r50-fpn, .* or give a YAML file"
    ):
        build_baseline("r101", 20)


def test_peak_memory_of_a_stem_by_hand():
    parts = detector_parts(built("atto"), 128, 128, proposals=1, detections=1, stages=True)
    found = peak_memory(parts)
    # 7×7 convolution to 8 channels; norm: 4 vectors, a count of 8 bytes, 2 vectors that it returns;
    # picture; two maps of 8 × 64 × 64, the convolution's and the norm's, in which ReLU works.
    floats = 147 * 8 + 4 * 8 + 2 * 8 + 3 * 128**2 + 2 * 8 * 64**2
    assert found["stem"] == 4 * floats + 8


def test_without_masks():
    model = zoo("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml")
    costs = detector_cost(model, 128, 128)
    assert [cost.name for cost in costs] == ["bottom_up", "fpn", "rpn", "box_head"]


DENSE = "COCO-Detection/retinanet_R_50_FPN_3x.yaml"
PANOPTIC = "COCO-PanopticSegmentation/panoptic_fpn_R_50_3x.yaml"
CASCADE = "Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml"
KEYPOINT = "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x.yaml"
MASK_PLACES = 4 * 196 * 9 * 256 * 256 + 196 * 4 * 256 * 256 + 784 * 256 * 20


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (DENSE, ["bottom_up", "fpn", "dense_head"]),
        (PANOPTIC, ["bottom_up", "fpn", "rpn", "box_head", "mask_head", "sem_seg_head"]),
        (CASCADE, ["bottom_up", "fpn", "rpn", "box_head", "mask_head"]),
        (KEYPOINT, ["bottom_up", "fpn", "rpn", "box_head", "keypoint_head"]),
        ("Misc/semantic_R_50_FPN_1x.yaml", ["bottom_up", "fpn", "sem_seg_head"]),
        ("COCO-Detection/rpn_R_50_C4_1x.yaml", ["backbone", "rpn"]),
        ("COCO-Detection/fast_rcnn_R_50_FPN_1x.yaml", ["bottom_up", "fpn", "box_head"]),
        pytest.param(
            "Misc/panoptic_fpn_R_101_dconv_cascade_gn_3x.yaml",
            ["bottom_up", "fpn", "rpn", "box_head", "mask_head", "sem_seg_head"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_parts_of_other_architectures(name, parts):
    model = zoo(name)
    costs = detector_cost(model, 128, 160)
    assert [cost.name for cost in costs] == parts
    assert all(cost.macs and cost.activations for cost in costs)
    assert sum(cost.parameters for cost in costs) == sum(p.numel() for p in model.parameters())
    staged = detector_cost(model, 128, 160, stages=True)
    assert merge(staged, "total") == merge(costs, "total")


def part(model: nn.Module, name: str, **regions: int) -> int:
    """The multiply-adds of one part at 128×128."""
    return {cost.name: cost.macs for cost in detector_cost(model, 128, 128, **regions)}[name]


def test_a_dense_head_by_hand():
    # Four 3×3 convolutions for classes and four for boxes; 9 anchors of 20 classes, 4 offsets.
    model = zoo(DENSE)
    places = 16**2 + 8**2 + 4**2 + 2**2 + 1  # p3 to p7
    assert part(model, "dense_head") == places * 9 * 256 * (8 * 256 + 9 * 20 + 9 * 4)


def test_a_fcos_of_a_lazy_config():
    model = instantiate(model_zoo.get_config("COCO-Detection/fcos_R_50_FPN_1x.py").model)
    costs = detector_cost(model, 128, 128)
    assert [cost.name for cost in costs] == ["bottom_up", "fpn", "dense_head"]
    # Four 3×3 convolutions for classes and four for boxes; 80 classes, 4 distances, a centredness.
    places = 16**2 + 8**2 + 4**2 + 2**2 + 1  # p3 to p7
    assert costs[2].macs == places * 9 * 256 * (8 * 256 + 80 + 4 + 1)


def test_every_stage_of_a_cascade_sees_every_proposal():
    # Three stages of two dense layers, 21 class scores and one box for all classes.
    each = 256 * 49 * 1024 + 1024 * 1024 + 1024 * (21 + 4)
    model = zoo(CASCADE)
    assert part(model, "box_head", proposals=10) == 3 * 10 * each
    assert part(model, "mask_head", detections=3) == 3 * MASK_PLACES


def test_keypoints_by_hand():
    # Eight 3×3 convolutions on 14×14, a 4×4 deconvolution from each place to a map per keypoint.
    each = 196 * (9 * 512 * (256 + 7 * 512) + 16 * 512 * 17)
    assert part(zoo(KEYPOINT), "keypoint_head", detections=3) == 3 * each


def test_a_semantic_head_s_figures_are_those_of_fvcore():
    fvcore = pytest.importorskip("fvcore.nn", reason="fvcore is not installed")
    model = zoo(PANOPTIC).eval()
    features = {f"p{k}": torch.zeros(1, 256, 2 ** (7 - k), 2 ** (7 - k)) for k in range(2, 6)}
    counter = fvcore.FlopCountAnalysis(First(model.sem_seg_head), (features,))
    macs = counter.unsupported_ops_warnings(False).by_operator()
    assert part(model, "sem_seg_head") == macs["conv"]


class First(nn.Module):
    """The first of what a module gives, as tracing needs it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: dict) -> torch.Tensor:
        return self.module(x)[0]


def test_deformable_convolutions_cost_a_plain_one_and_their_offsets():
    plain, deformable = (
        part(zoo(name), "bottom_up")
        for name in (
            "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml",
            "Misc/mask_rcnn_R_50_FPN_3x_dconv_c3-c5.yaml",
        )
    )
    # 4, 6 and 3 blocks on 16×16, 8×8 and 4×4: a 3×3 convolution to 9 offsets of 2 coordinates.
    offsets = 9 * 18 * (4 * 16**2 * 128 + 6 * 8**2 * 256 + 3 * 4**2 * 512)
    assert deformable == plain + offsets


def test_what_detectron2_does_not_have_is_refused():
    with pytest.raises(UserError, match="the cost of a Linear is not defined here"):
        detector_cost(nn.Linear(2, 2), 128, 128)
    model = zoo("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml")
    model.further = nn.Linear(2, 2)
    with pytest.raises(UserError, match="the cost of a GeneralizedRCNN is not defined here"):
        detector_cost(model, 128, 128)
