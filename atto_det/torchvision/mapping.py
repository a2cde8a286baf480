"""Converts weights between Detectron2's and torchvision's names, tensor by tensor.

The two differ in names and in the position of the background: in Detectron2 it is the last score
and has neither boxes nor masks; in torchvision it is the first, with boxes and masks that are not
used.
"""

import torch
from torch import Tensor
from yacs.config import CfgNode

from atto_det.config import backbones
from atto_det.errors import UserError

from . import resnet

State = dict[str, Tensor]
Prefixes = list[tuple[str, str]]  # Detectron2's, torchvision's

ALWAYS: Prefixes = [
    ("backbone.bottom_up.", "backbone.body."),
    ("proposal_generator.rpn_head.objectness_logits.", "rpn.head.cls_logits."),
    ("proposal_generator.rpn_head.anchor_deltas.", "rpn.head.bbox_pred."),
    ("roi_heads.box_head.fc1.", "roi_heads.box_head.fc6."),
    ("roi_heads.box_head.fc2.", "roi_heads.box_head.fc7."),
    ("roi_heads.box_predictor.", "roi_heads.box_predictor."),
    ("roi_heads.mask_head.deconv.", "roi_heads.mask_predictor.conv5_mask."),
    ("roi_heads.mask_head.predictor.", "roi_heads.mask_predictor.mask_fcn_logits."),
]
SCORES = "roi_heads.box_predictor.cls_score."  # K classes and the background
BOXES = "roi_heads.box_predictor.bbox_pred."  # four for each class
MASKS = "roi_heads.mask_head.predictor."


def to_torchvision(state: State, cfg: CfgNode) -> State:
    """The weights of Detectron2's model under the names of the model `build_model(cfg)`.

    The background's boxes and masks, which Detectron2 does not have, become zero.

    Raises:
        UserError: a name that the config's model does not have.
    """
    pairs = _prefixes(cfg)
    return {_rename(key, pairs): _with_background(key, value) for key, value in state.items()}


def to_detectron2(state: State, cfg: CfgNode) -> State:
    """The weights of `build_model(cfg)` under Detectron2's names: the inverse of `to_torchvision`.

    Raises:
        UserError: a name that the config's model does not have.
    """
    pairs = [(ours, theirs) for theirs, ours in _prefixes(cfg)]
    renamed = {_rename(key, pairs): value for key, value in state.items()}
    return {key: _without_background(key, value) for key, value in renamed.items()}


def _prefixes(cfg: CfgNode) -> Prefixes:
    model, pairs = cfg.MODEL, list(ALWAYS)
    if backbones.builder(cfg) in backbones.RESNETS:
        [(theirs, ours), *_] = ALWAYS
        within = resnet.names(model.RESNETS.DEPTH)
        pairs = [(theirs + one, ours + other) for one, other in within] + pairs
    separable = model.BACKBONE.NAME == backbones.SEPARABLE
    for index, stage in enumerate(model.FPN.IN_FEATURES):
        level = stage.removeprefix("res")
        inner, layer = (f"backbone.fpn.{kind}_blocks.{index}." for kind in ("inner", "layer"))
        pairs += _conv_and_norm(f"backbone.fpn_lateral{level}.", inner)
        output = f"backbone.fpn_output{level}."
        pairs += [(output, layer)] if separable else _conv_and_norm(output, layer)
    head = "proposal_generator.rpn_head."
    if model.RPN.HEAD_NAME == "SeparableRPNHead":
        pairs += [(f"{head}{part}.", f"rpn.head.{part}.") for part in ("convs", "norms")]
    else:
        pairs.append((f"{head}conv.", "rpn.head.conv.0.0."))
    for index in range(model.ROI_MASK_HEAD.NUM_CONV):
        theirs, ours = f"roi_heads.mask_head.mask_fcn{index + 1}.", f"roi_heads.mask_head.{index}."
        separable = model.ROI_MASK_HEAD.NAME == "SeparableMaskHead"
        pairs += [(theirs, ours)] if separable else _conv_and_norm(theirs, ours)
    return pairs


def _conv_and_norm(theirs: str, ours: str) -> Prefixes:
    """Detectron2's convolution contains its norm; torchvision has both in a sequence."""
    return [(f"{theirs}norm.", f"{ours}1."), (theirs, f"{ours}0.")]


def _rename(key: str, pairs: Prefixes) -> str:
    for old, new in pairs:
        if key.startswith(old):
            return new + key.removeprefix(old)
    raise UserError(
        f"the weights hold {key}, which the config's model does not have: they belong to another "
        "model, or need another config"
    )


def _with_background(key: str, value: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        return value  # from a damaged checkpoint; loading it reports the error
    if key.startswith(SCORES):
        return torch.cat([value[-1:], value[:-1]])
    if key.startswith((BOXES, MASKS)):
        rows = 4 if key.startswith(BOXES) else 1
        return torch.cat([torch.zeros_like(value[:rows]), value])
    return value


def _without_background(key: str, value: Tensor) -> Tensor:
    if key.startswith(SCORES):
        return torch.cat([value[1:], value[:1]])
    if key.startswith((BOXES, MASKS)):
        return value[4 if key.startswith(BOXES) else 1 :]
    return value
