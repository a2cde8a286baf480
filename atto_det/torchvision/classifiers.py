"""The networks as torchvision classifiers, for its reference scripts.

    model = torchvision.models.get_model("attonet_a", num_classes=50)

Importing this module registers each network of the registry under its name.
"""

from functools import partial
from pathlib import Path

from torchvision.models import WeightsEnum, list_models
from torchvision.models._api import register_model

from atto_det.errors import UserError
from atto_det.nets import ImageClassifier, list_backbones
from atto_det.weights.create import create_classifier


class NetworkWeights(WeightsEnum):
    """The published weights of these networks, for `get_model_weights`: there are none."""


def classifier(
    network: str = "attonet_a",
    *,
    weights: NetworkWeights | None = None,
    progress: bool = True,
    num_classes: int = 1000,
    weights_backbone: str | Path | None = None,
    norm: str = "BN",
) -> ImageClassifier:
    """A network as a classifier, with torchvision's arguments.

    Args:
        network: one of `atto_det.list_backbones()`, or a file of a network.
        weights, progress: for compatibility with torchvision; there are no weights to download.
        num_classes: outputs of the dense layer.
        weights_backbone: a backbone file of atto-det export.
        norm: one of `atto_det.nets.NORMS`.

    Raises:
        UserError: `weights` is given, or an error of `atto_det.create_classifier`.
    """
    if weights is not None:
        raise UserError(
            "there are no weights of whole classifiers: leave weights out; weights_backbone takes "
            "a backbone file of atto-det export"
        )
    return create_classifier(network, num_classes, weights=weights_backbone, norm=norm)


for _name in list_backbones():
    if _name not in list_models():
        register_model(_name)(partial(classifier, _name))
