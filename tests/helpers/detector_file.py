"""Checkpoints of a tiny detector whose random weights find something everywhere."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from torch import nn

from atto_det.torchvision import config, mapping
from atto_det.torchvision.model import build_model
from atto_det.weights import checkpoint

REPOSITORY = Path(__file__).resolve().parents[2]
CLASSES = ["cat", "dög", "owl"]


def write(path: Path, *options: object, class_names: Sequence[str] = CLASSES) -> Path:
    """A checkpoint of `tests/tiny_mini_voc.yaml`, made separable, with options."""
    fixed = ["MODEL.DEVICE", "cpu", "MODEL.ROI_HEADS.NUM_CLASSES", str(len(class_names))]
    fixed += ["DATASETS.TRAIN", "()"]
    separable = [
        *("MODEL.BACKBONE.NAME", "build_separable_fpn_backbone", "MODEL.FPN.NORM", "BN"),
        *("MODEL.RPN.HEAD_NAME", "SeparableRPNHead", "MODEL.SEPARABLE.RPN_NORM", "BN"),
        *("MODEL.ROI_MASK_HEAD.NAME", "SeparableMaskHead", "MODEL.ROI_MASK_HEAD.NORM", "BN"),
    ]
    given = list(map(str, options))
    cfg = config.read_file(REPOSITORY / "tests/tiny_mini_voc.yaml", [*fixed, *separable, *given])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(cfg)
        stir(model)
    text = yaml.safe_dump(json.loads(json.dumps(cfg)))
    content = {
        "model": mapping.to_detectron2(model.state_dict(), cfg),
        "atto_det": checkpoint.description(text, list(class_names)),
    }
    checkpoint.save_checkpoint(path, content)
    return path


def stir(model: nn.Module) -> None:
    """Features, scores, boxes and masks of every size, and norms that all do something."""
    for name, module in model.named_modules():
        if ".body." in name and isinstance(module, nn.Conv2d):  # short filters: tiny features
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
        if name.endswith(("cls_logits", "rpn.head.bbox_pred", "box_predictor.bbox_pred")):
            nn.init.normal_(module.weight, std=0.1)
            nn.init.normal_(module.bias, std=0.1)
        if name.endswith(("cls_score", "mask_fcn_logits")):
            nn.init.normal_(module.weight, std=1.0)
