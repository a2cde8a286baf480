"""Loads weights into a backbone, or into a detector of either engine: all of them, or an error.

They come from a checkpoint, or from the backbone file of a trained classifier.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from atto_det.errors import UserError
from atto_det.nets import FEATURES, Backbone, reset_lengths
from atto_det.nets.normalisation import Normalisation, absorb, difference
from atto_det.nets.registry import short_name
from atto_det.weights import backbone_file
from atto_det.weights.backbone_file import STEM, Weights, misfits
from atto_det.weights.checkpoint import load_checkpoint
from atto_det.weights.detector_file import holds_detector
from atto_det.weights.zoo import find_file

logger = logging.getLogger(__name__)


def read_weights(path: str | Path) -> dict[str, Any]:
    """The content of a weights file (`.pth` or `.safetensors`), or of one in the zoo.

    Returns:
        "model", tensors by name, and whatever else a checkpoint holds; for the backbone of a
        classifier also "backbone", its validated `Weights`.

    Raises:
        UserError: a missing, damaged or unsafe file, or one that holds no weights.
    """
    path = find_file(path)
    if path.suffix == ".safetensors" and not holds_detector(path):
        backbone = backbone_file.read_backbone(path)
        return {"model": backbone.state, "backbone": backbone}
    content = load_checkpoint(path)
    model = content.get("model", content)
    if not isinstance(model, dict) or not all(isinstance(v, Tensor) for v in model.values()):
        raise UserError(f"checkpoint {path} holds no weights of a model alone")
    if backbone_file.PART in content:  # exported for Detectron2, which would not validate it
        backbone = backbone_file.check_backbone(model, content[backbone_file.PART], path)
        return {"model": model, "backbone": backbone}
    return content | {"model": model}


def read_backbone(path: str | Path) -> Weights:
    """The backbone in a file of atto-det export, `.safetensors` or `.pth`.

    Raises:
        UserError: a missing, damaged or unsafe file, or one that holds more than a backbone.
    """
    content = read_weights(path)
    if "backbone" not in content:
        raise UserError(f"{path} is not a backbone file of atto_det: make one with atto-det export")
    return content["backbone"]


def fill_backbone(
    net: Backbone, backbone: Weights, where: str | Path, normalisation: Normalisation | None = None
) -> int:
    """Set every tensor of `net` from `backbone`, for pictures normalised as `normalisation`.

    Filters before trainable norms are rescaled for training, without changing what the network
    computes (`reset_lengths`). Stages that the network does not have are left out, and so are the
    batch counters of frozen norms, which have none.

    Args:
        where: the file that the weights come from, for errors.
        normalisation: of the pictures; None if it is that of the weights' training.

    Returns:
        The number of tensors that were set.

    Raises:
        UserError: a tensor that is missing, unexpected or of the wrong shape, or a mean that cannot
            be absorbed. In that case nothing is loaded.
    """
    state, description = backbone
    own = net.state_dict()
    unused = unused_stages(net)
    given = {
        key: value
        for key, value in state.items()
        if key.partition(".")[0] not in unused and not _counts_for_frozen(key, own)
    }
    if STEM in given:
        given[STEM] = _for_channels(given[STEM], own[STEM].shape[1])
    wrong = misfits(own, given)
    if wrong:
        raise UserError(
            f"{where} does not fit the network {short_name(description.network)}: {wrong}"
        )
    if normalisation is not None:
        given[STEM] = absorb(given[STEM], description.normalisation, normalisation)
    net.load_state_dict(given)
    reset_lengths(net)
    return len(given)


def _for_channels(weight: Tensor, channels: int) -> Tensor:
    """A stem's weight (O, 3, k, k) for images with `channels` channels: (O, channels, k, k).

    As in timm: for one channel, the sum over the colours, so that a grey picture has the same
    result as three equal channels; for other numbers, the colours' weights are repeated, scaled to
    the same sum.
    """
    if channels == 3:
        return weight
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    repeated = weight.repeat(1, -(-channels // 3), 1, 1)[:, :channels]
    return repeated * (3 / channels)


def unused_stages(net: Backbone) -> list[str]:
    """The stages that `net` was built without, since none of their features was requested."""
    return [stage for stage in FEATURES if not hasattr(net, stage)]


def load_backbone(
    model: nn.Module, cfg: Mapping[str, Any], backbone: Weights, where: str | Path
) -> set[str]:
    """Set every tensor of the network in `model`, a detector built from `cfg`, from `backbone`.

    As `fill_backbone`, for the detector's normalisation: the features stay the classifier's. Log
    lines say what was loaded and what was not.

    Args:
        where: the file that the weights come from, for errors and log lines.

    Returns:
        The names of the model's other tensors, which keep their values.

    Raises:
        UserError: another network, or an error of `fill_backbone`. In that case nothing is loaded.
    """
    description = backbone.description
    name, network = cfg["MODEL"]["ATTONET"]["NAME"], short_name(description.network)
    nets = [item for item in model.named_modules() if isinstance(item[1], Backbone)]
    if len(nets) != 1:
        raise UserError(
            f"{where} holds the backbone {network}, but MODEL.BACKBONE.NAME "
            f"{cfg['MODEL']['BACKBONE']['NAME']} builds no AttoNet: name "
            "build_attonet_fpn_backbone or another one of atto_det"
        )
    if description.network != name:
        raise UserError(
            f"{where} holds {network}, but MODEL.ATTONET.NAME is "
            f"{short_name(name)}: give the weights or the name of the other"
        )
    [(place, net)] = nets
    normalisation = Normalisation.of_detector(cfg, "the config")
    loaded, unused = fill_backbone(net, backbone, where, normalisation), unused_stages(net)

    fresh = set(model.state_dict()) - {f"{place}.{key}" for key in net.state_dict()}
    parts = {"FPN" if key.startswith("backbone.") else key.partition(".")[0] for key in fresh}
    logger.info("%s: %s", where, description)
    logger.info(
        "loaded %d tensors into %s, all that it has%s; absorbed by the stem: %s",
        loaded,
        place,
        f" ({' and '.join(unused)} of the file not used)" if unused else "",
        difference(description.normalisation, normalisation)
        or "nothing, the detector normalises as the training did",
    )
    logger.info(
        "from random weights start: %s (%d tensors); the file has no classifier head",
        ", ".join(sorted(parts)) or "none",
        len(fresh),
    )
    return fresh


def _counts_for_frozen(key: str, own: dict) -> bool:
    """Whether `key` is the batch counter of a norm that is frozen in the network with `own`."""
    norm, _, name = key.rpartition(".")
    return name == "num_batches_tracked" and key not in own and f"{norm}.running_mean" in own
