"""Networks by name or file, with random weights or those of a backbone file."""

from collections.abc import Sequence
from pathlib import Path

from atto_det import nets
from atto_det.design.networks import find_network
from atto_det.errors import UserError
from atto_det.nets import STAGES, Backbone, ImageClassifier
from atto_det.nets.normalisation import Normalisation
from atto_det.nets.registry import short_name
from atto_det.weights.transfer import fill_backbone, read_backbone
from atto_det.weights.zoo import find_weights


def create_backbone(
    name: str | Path,
    out_features: Sequence[str] = STAGES,
    *,
    seed: int | None = None,
    weights: str | Path | None = None,
    in_chans: int = 3,
    norm: str = "BN",
) -> Backbone:
    """Create the network `name` as a feature extractor.

    Its forward takes images (B, in_chans, H, W) and returns a dict from each name in `out_features`
    to a feature map (B, C, H / stride, W / stride), rounded up; see its `channels` and `strides`.

    Args:
        name: one of `list_backbones()`; or a YAML file with the spec of a network, or with a
            generator of networks (`atto_det.design.find_network`).
        seed: of the network to draw from a generator.
        out_features: among stem, res2, res3, res4, res5; stages after the last are not built.
        weights: a backbone file of atto-det export (`.safetensors`, `.pth`), or the name of weights
            that come with the package (`atto_det.weights.zoo`), such as "distilled"; the file says
            how images must be normalised. The network then computes the same as the trained one,
            with filters rescaled for further training (`reset_lengths`).
        in_chans: channels of the images. The trained weights for red, green and blue are summed up
            for one channel, and repeated for other numbers.
        norm: "BN", "FrozenBN" or "SyncBN".

    Raises:
        UserError: an unknown network, feature or norm (the message lists the known ones), no
            channels, or weights that are missing, damaged, unsafe, or of another network.
    """
    name = find_network(name, seed=seed)
    net = nets.create_backbone(name, out_features, norm=norm, in_chans=in_chans)
    if weights is not None:
        load_weights(net, name, weights)
    return net


def create_classifier(
    name: str | Path,
    num_classes: int,
    *,
    seed: int | None = None,
    weights: str | Path | None = None,
    in_chans: int = 3,
    norm: str = "BN",
) -> ImageClassifier:
    """Create the network `name` as a classifier of images (B, in_chans, H, W).

    Its forward returns logits (B, num_classes); its `backbone` is what `create_backbone` makes.

    Args:
        name, seed, weights, in_chans, norm: as for `create_backbone`. The dense layer is random.
        num_classes: at least 1.

    Raises:
        UserError: as `create_backbone`, or no classes.
    """
    name = find_network(name, seed=seed)
    net = nets.create_classifier(name, num_classes, norm=norm, in_chans=in_chans)
    if weights is not None:
        load_weights(net.backbone, name, weights)
    return net


def load_weights(
    net: Backbone, name: str, path: str | Path, normalisation: Normalisation | None = None
) -> None:
    """Set every tensor of `net`, the network `name`, from a backbone file (`fill_backbone`).

    Args:
        path: as `weights` of `create_backbone`.

    Raises:
        UserError: a file that is missing, damaged, unsafe, or of another network.
    """
    path = find_weights(path, name)
    backbone = read_backbone(path)
    network = backbone.description.network
    if network != name:
        raise UserError(
            f"{path} holds {short_name(network)}, not {short_name(name)}: give one of them"
        )
    fill_backbone(net, backbone, path, normalisation)
