"""What detectors cost: 1000 proposals, 100 detections, whatever the weights."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2 import model_zoo
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from atto_det.detection import load_config
from atto_det.detection.complexity import detector_cost
from atto_det.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def ours(name: str, *options: str) -> nn.Module:
    return build_model(load_config(CONFIGS / name, ["MODEL.DEVICE", "cpu", *options]))


def zoo(name: str) -> nn.Module:
    cfg: CfgNode = model_zoo.get_config(name)
    cfg.MODEL.DEVICE, cfg.MODEL.ROI_HEADS.NUM_CLASSES = "cpu", 20
    return build_model(cfg)


MODELS = {
    "atto": lambda: ours("atto_maskrcnn_voc.yaml"),
    "atto, FC 1024": lambda: ours("atto_maskrcnn_voc.yaml", "MODEL.ROI_BOX_HEAD.FC_DIM", "1024"),
    "r50": lambda: ours("r50_maskrcnn_voc.yaml"),
    "zoo FPN": lambda: zoo("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"),
    "zoo C4": lambda: zoo("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x.yaml"),
}


# Millions of parameters, thousand millions of multiply-adds.
@pytest.mark.parametrize(
    ("name", "parameters", "size", "macs"),
    [
        ("atto", 18.29, (1024, 1024), 181.9),
        ("atto, FC 1024", 23.12, (1024, 1024), 186.8),
        ("atto, FC 1024", 23.12, (800, 1088), 166.2),
        ("r50", 44.07, (1024, 1024), 262.4),
        ("zoo FPN", 44.02, (1024, 1024), 257.6),
        ("zoo FPN", 44.02, (800, 1088), 225.0),
        ("zoo C4", 35.28, (1024, 1024), 920.2),
        ("zoo C4", 35.28, (800, 1088), 902.5),
    ],
)
def test_reference_figures(name, parameters, size, macs):
    costs = detector_cost(MODELS[name](), *size)
    assert round(sum(cost.parameters for cost in costs) / 1e6, 2) == parameters
    assert round(sum(cost.macs for cost in costs) / 1e9, 1) == macs


def test_the_main_model_stays_within_its_budget():
    costs = detector_cost(ours("atto_maskrcnn_voc.yaml"), 1024, 1024)
    assert sum(cost.macs for cost in costs) <= 182e9
    assert [cost.name for cost in costs] == ["bottom_up", "fpn", "rpn", "box_head", "mask_head"]


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
    costs = detector_cost(MODELS["zoo C4"](), 128, 128, proposals=1, detections=1)
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


def test_without_masks():
    model = zoo("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml")
    costs = detector_cost(model, 128, 128)
    assert [cost.name for cost in costs] == ["bottom_up", "fpn", "rpn", "box_head"]


@pytest.mark.parametrize(
    "name",
    [
        "COCO-Detection/retinanet_R_50_FPN_3x.yaml",
        "COCO-PanopticSegmentation/panoptic_fpn_R_50_3x.yaml",
        "Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml",
        "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x.yaml",
    ],
)
def test_other_architectures_are_refused(name):
    with pytest.raises(UserError, match="give a Faster or Mask R-CNN"):
        detector_cost(zoo(name), 128, 128)
