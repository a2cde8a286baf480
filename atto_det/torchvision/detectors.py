"""AttoNets in torchvision's own detectors, with its conventions: anchors, heads, labels, names.

    model = atto_det.torchvision.maskrcnn_attonet_fpn("attonet_a", num_classes=21)

Importing this module registers `maskrcnn_attonet_a_fpn` and the like with torchvision, so that
`torchvision.models.get_model` and its reference scripts can build them by name. For the weights and
the exact behaviour of this project's detectors see `build_model`.
"""

from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from torchvision.models import list_models
from torchvision.models._api import register_model
from torchvision.models.detection import FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.backbone_utils import _validate_trainable_layers
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from atto_det.design.networks import find_network
from atto_det.errors import UserError
from atto_det.nets import FEATURES, STAGES, create_backbone, list_backbones
from atto_det.nets.normalisation import IMAGENET_MEAN, IMAGENET_STD, Normalisation
from atto_det.weights.create import load_weights

from .classifiers import NetworkWeights
from .model import AttoNetFPN


def maskrcnn_attonet_fpn(
    network: str = "attonet_a", *, weights: NetworkWeights | None = None, **arguments: Any
) -> MaskRCNN:
    """torchvision's Mask R-CNN on a network of the registry with FPN.

    Args:
        network: one of `atto_det.list_backbones()`, or a file of a network.
        num_classes: including the background, which is class 0; 91 by default.
        weights_backbone: a backbone file of atto-det export.
        trainable_backbone_layers: 0 to 5, counted from res5 down to the stem; by default 3 with
            weights. Frozen layers have frozen batch norms. Without weights all layers are trained,
            with a warning, as in torchvision.
        norm: of the backbone, one of `atto_det.nets.NORMS`; "BN" by default.
        out_channels: of the pyramid's maps; 256 by default, which torchvision's mask head expects.
        **arguments: all others of `torchvision.models.detection.MaskRCNN`: min_size, image_mean,
            box_score_thresh …. `weights` and `progress` are accepted for compatibility with
            torchvision; there are no weights of whole detectors, and nothing is downloaded.

    Raises:
        UserError: an unknown network or norm, weights of another network or trained on another mean
            colour, or a number of layers outside 0 to 5.
    """
    return _detector(MaskRCNN, network, weights=weights, **arguments)


def fasterrcnn_attonet_fpn(
    network: str = "attonet_a", *, weights: NetworkWeights | None = None, **arguments: Any
) -> FasterRCNN:
    """torchvision's Faster R-CNN on an AttoNet with FPN; arguments as `maskrcnn_attonet_fpn`."""
    return _detector(FasterRCNN, network, weights=weights, **arguments)


def retinanet_attonet_fpn(
    network: str = "attonet_a", *, weights: NetworkWeights | None = None, **arguments: Any
) -> RetinaNet:
    """torchvision's RetinaNet on an AttoNet: levels of strides 8 to 128, p6 and p7 from p5.

    Arguments as `maskrcnn_attonet_fpn`.
    """
    return _detector(RetinaNet, network, weights=weights, **arguments)


def _detector(
    kind: type[nn.Module],
    network: str,
    *,
    num_classes: int = 91,
    weights: NetworkWeights | None = None,
    weights_backbone: str | Path | None = None,
    trainable_backbone_layers: int | None = None,
    norm: str = "BN",
    out_channels: int = 256,
    progress: bool = True,
    **arguments: Any,
) -> nn.Module:
    if weights is not None:
        raise UserError(
            "there are no weights of whole detectors: leave weights out; weights_backbone takes a "
            "backbone file of atto-det export"
        )
    network = find_network(network)
    body = create_backbone(network, STAGES[1:] if kind is RetinaNet else STAGES, norm=norm)
    layers = trainable_backbone_layers
    if layers is not None and not 0 <= layers <= len(FEATURES):
        raise UserError(f"trainable_backbone_layers is {layers}; it must be between 0 and 5")
    layers = _validate_trainable_layers(weights_backbone is not None, layers, len(FEATURES), 3)
    body.freeze(len(FEATURES) - layers)
    if weights_backbone is not None:
        mean = arguments.get("image_mean") or IMAGENET_MEAN
        std = arguments.get("image_std") or IMAGENET_STD
        load_weights(body, network, weights_backbone, Normalisation.of_unit_range(mean, std))
    if kind is RetinaNet:
        extra, names = LastLevelP6P7(out_channels, out_channels), ["p6", "p7"]
    else:
        extra, names = LastLevelMaxPool(), ["pool"]
    levels = {stage: str(index) for index, stage in enumerate(body.out_features)}
    levels |= {name: name for name in names}
    fpn = FeaturePyramidNetwork(list(body.channels.values()), out_channels, extra)
    return kind(AttoNetFPN(body, fpn, levels), num_classes, **arguments)


for _name in list_backbones():
    for _kind, _build in (
        ("maskrcnn", maskrcnn_attonet_fpn),
        ("fasterrcnn", fasterrcnn_attonet_fpn),
        ("retinanet", retinanet_attonet_fpn),
    ):
        if f"{_kind}_{_name}_fpn" not in list_models():
            register_model(f"{_kind}_{_name}_fpn")(partial(_build, _name))
