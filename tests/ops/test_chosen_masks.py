"""Masks of one class give what the layers of torchvision and of Detectron2 give for all."""

import pytest
import torch
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor

from atto_det.ops.chosen_masks import chosen_masks, convolve


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("way", ["convolution", "matrix product"])
def test_masks_of_each_regions_own_class(count, way):
    pointwise = convolve
    if way == "matrix product":
        pytest.importorskip("detectron2", reason="Detectron2 is not installed")
        from atto_det.detectron2.inference import _fused as pointwise
    torch.manual_seed(3)
    layers = MaskRCNNPredictor(6, 5, 21)
    for name, parameter in layers.named_parameters():
        torch.nn.init.normal_(parameter, std=1.0 if "bias" in name else 0.3)
    x, chosen = torch.randn(count, 6, 5, 4), torch.arange(count) % 20 + 1
    with torch.no_grad():
        masks = chosen_masks(x, chosen, (5, 4), layers[0], layers[2], pointwise)
        wanted = layers(x).sigmoid()[torch.arange(count), chosen][:, None]
    assert masks.shape == (count, 1, 10, 8)
    torch.testing.assert_close(masks, wanted, rtol=0, atol=1e-6)
