"""One batch through both engines in training: the same five losses, and the same gradients."""

import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2.utils.events import EventStorage

import atto_det.detectron2
from atto_det.detectron2 import loader as theirs
from atto_det.detectron2 import model as their_model
from atto_det.torchvision import build_model, load_config, mapping
from atto_det.torchvision.mapper import TrainLoader

# So many regions that nothing is left to draw.
EVERYTHING = ["MODEL.RPN.BATCH_SIZE_PER_IMAGE", "100000"]
EVERYTHING += ["MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "4000", "INPUT.RANDOM_FLIP", "none"]
SEPARABLE = [
    *("MODEL.BACKBONE.NAME", "build_separable_fpn_backbone", "MODEL.FPN.NORM", "BN"),
    *("MODEL.RPN.HEAD_NAME", "SeparableRPNHead", "MODEL.SEPARABLE.RPN_NORM", "BN"),
    *("MODEL.ROI_MASK_HEAD.NAME", "SeparableMaskHead", "MODEL.ROI_MASK_HEAD.NORM", "BN"),
]
OTHERS = [
    *("MODEL.RPN.SMOOTH_L1_BETA", "0.1", "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA", "0.5"),
    *("MODEL.RPN.LOSS_WEIGHT", "0.7", "MODEL.RPN.BBOX_REG_LOSS_WEIGHT", "1.3"),
    *("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT", "1.7", "INPUT.FORMAT", "BGR"),
    *("MODEL.RPN.BBOX_REG_WEIGHTS", "(2.0, 2.0, 3.0, 3.0)", "MODEL.RPN.NMS_THRESH", "0.6"),
    *("MODEL.ROI_HEADS.PROPOSAL_APPEND_GT", "False", "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", "5"),
]


BOXES_ALONE = ["MODEL.MASK_ON", "False"]


@pytest.mark.parametrize(
    "options",
    [[], SEPARABLE, OTHERS, BOXES_ALONE],
    ids=["plain", "separable", "others", "boxes alone"],
)
def test_losses_and_gradients_are_the_same(data_root, repository, options):
    file, options = repository / "tests/tiny_mini_voc.yaml", [*EVERYTHING, *options]
    cfg, other = load_config(file, options), atto_det.detectron2.load_config(file, options)
    torch.manual_seed(4)
    reference = their_model.build_model(other)
    for name, parameter in reference.named_parameters():
        if any(part in name for part in ("predictor", "logits", "deltas")):
            torch.nn.init.normal_(parameter, std=0.05)  # losses of size, in every class
    model = build_model(cfg)
    model.load_state_dict(mapping.to_torchvision(reference.state_dict(), cfg))
    batch, item = next(iter(TrainLoader(cfg))), next(iter(theirs.TrainLoader(other)))
    with EventStorage(0):
        expected = reference(item)
    losses = model([image.float() for image, _ in batch], [target for _, target in batch])
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        assert value > 1e-5
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=0, msg=name)
    for own in (losses, expected):
        sum(own.values()).backward()
    found = {name: p.grad for name, p in model.named_parameters()}
    found = mapping.to_detectron2(found, cfg)
    for name, parameter in reference.named_parameters():
        scale = parameter.grad.abs().max()
        close = (found[name] - parameter.grad).abs().max() <= 1e-3 * scale + 1e-7
        assert close, name
