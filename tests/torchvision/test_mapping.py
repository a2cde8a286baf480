"""Weights move both ways without loss, and what does not belong is named."""

import pytest
import torch

from atto_det.errors import UserError
from atto_det.torchvision import config, mapping
from atto_det.torchvision.model import build_model

from .conftest import NARROW, PLAIN, R18, R50, SEPARABLE

ALL = ["MODEL.RESNETS.OUT_FEATURES", "['res2', 'res3', 'res4', 'res5']"]
NORMS = ["MODEL.FPN.NORM", "BN", "MODEL.ROI_MASK_HEAD.NORM", "BN"]
VARIANTS = [
    (PLAIN, []),
    (PLAIN, NORMS),
    (SEPARABLE, []),
    (SEPARABLE, [*NORMS, "MODEL.SEPARABLE.RPN_NORM", "BN"]),
    (R50, []),
    (SEPARABLE, ["MODEL.SEPARABLE.BACKBONE", "build_resnet_fpn_backbone", *ALL, *R18]),
]


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_there_and_back_changes_nothing(repository, name, options):
    cfg = config.read_file(repository / name, [*NARROW, *options])
    model = build_model(cfg)
    theirs = mapping.to_detectron2(model.state_dict(), cfg)
    again = mapping.to_detectron2(mapping.to_torchvision(theirs, cfg), cfg)
    assert list(again) == list(theirs)
    assert all(torch.equal(again[key], value) for key, value in theirs.items())
    model.load_state_dict(mapping.to_torchvision(theirs, cfg))  # strict


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_the_names_are_detectron2_s(pair, name, options):
    both = pair(name, options)
    names = mapping.to_detectron2(both.torchvision.state_dict(), both.cfg)
    assert names.keys() == both.weights.keys()
    assert all(torch.equal(names[key], value) for key, value in both.weights.items())


def test_the_background_changes_places(repository):
    cfg = config.read_file(repository / PLAIN, NARROW)
    scores = torch.arange(8.0)  # seven classes, then the background
    boxes, masks = torch.arange(28.0), torch.arange(7.0)
    given = {
        "roi_heads.box_predictor.cls_score.bias": scores,
        "roi_heads.box_predictor.bbox_pred.bias": boxes,
        "roi_heads.mask_head.predictor.bias": masks,
    }
    found = mapping.to_torchvision(given, cfg)
    assert found["roi_heads.box_predictor.cls_score.bias"].tolist() == [7, 0, 1, 2, 3, 4, 5, 6]
    assert found["roi_heads.box_predictor.bbox_pred.bias"].tolist() == [0] * 4 + boxes.tolist()
    masks_found = found["roi_heads.mask_predictor.mask_fcn_logits.bias"]
    assert masks_found.tolist() == [0, *masks.tolist()]


def test_a_foreign_tensor_is_named(repository):
    cfg = config.read_file(repository / PLAIN, NARROW)
    with pytest.raises(UserError, match=r"hold backbone\.bottom_down\.x, which the config's model"):
        mapping.to_torchvision({"backbone.bottom_down.x": torch.zeros(1)}, cfg)
    separable = "proposal_generator.rpn_head.convs.0.depthwise.weight"
    with pytest.raises(UserError, match=r"rpn_head\.convs"):
        mapping.to_torchvision({separable: torch.zeros(1)}, cfg)
