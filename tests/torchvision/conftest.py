"""One set of weights in both engines."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn


class Pair(NamedTuple):
    """The same model twice, in evaluation mode, and Detectron2's weights."""

    detectron2: nn.Module
    torchvision: nn.Module
    weights: dict[str, torch.Tensor]
    cfg: object  # of the torchvision engine


PLAIN = "configs/atto_maskrcnn_voc.yaml"
SEPARABLE = "configs/atto_maskrcnn_lite_voc.yaml"
R50 = "configs/r50_maskrcnn_voc.yaml"
R18 = ["MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"]
NARROW = [
    *("MODEL.DEVICE", "cpu", "MODEL.ROI_HEADS.NUM_CLASSES", "7", "MODEL.ATTONET.NAME", "attonet_d"),
    *("MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "32"),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", "12", "INPUT.MIN_SIZE_TEST", "160", "SEED", "3"),
]


@pytest.fixture
def pair(repository: Path) -> Callable[..., Pair]:
    """A function from a config and options to a `Pair` whose weights find objects everywhere."""
    pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    from atto_det.detectron2.config import read_file
    from atto_det.detectron2.model import build_model
    from atto_det.torchvision import config, mapping
    from atto_det.torchvision.model import build_model as build_torchvision

    def make(name: str, options: Sequence[str] = ()) -> Pair:
        options = [*NARROW, *options]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            theirs = build_model(read_file(repository / name, options))
            stir(theirs)
        cfg = config.read_file(repository / name, options)
        ours, weights = build_torchvision(cfg), theirs.state_dict()
        ours.load_state_dict(mapping.to_torchvision(weights, cfg))
        return Pair(theirs.eval(), ours.eval(), weights, cfg)

    return make


@pytest.fixture
def engine():
    """The engine's package, for `config`."""
    import atto_det.torchvision

    return atto_det.torchvision


def stir(model: nn.Module) -> None:
    """Norms that all do something, and scores and offsets of every size."""
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
        if name.endswith(("objectness_logits", "anchor_deltas", "bbox_pred")):
            nn.init.normal_(module.weight, std=0.1)
            nn.init.normal_(module.bias, std=0.1)
        if name.endswith(("cls_score", "mask_head.predictor")):
            nn.init.normal_(module.weight, std=1.0)
