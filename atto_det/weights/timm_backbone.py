"""Any timm network as the backbone of a detector, and its weights from a local file."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atto_det.errors import UserError
from atto_det.nets.backbone import STAGES, STRIDES
from atto_det.nets.blocks import reset_lengths
from atto_det.nets.recomputation import recomputed
from atto_det.nets.registry import is_backbone
from atto_det.weights.backbone_file import misfits
from atto_det.weights.checkpoint import load_checkpoint
from atto_det.weights.tensor_file import read_tensors

logger = logging.getLogger(__name__)
STATE_KEYS = ("state_dict", "model")  # where training scripts store the tensors in checkpoints


class TimmBackbone(nn.Module):
    """A timm network that returns feature maps, with random weights.

    Args:
        name: of the network, as listed by `timm.list_models()`.
        out_features: which of `STAGES` it returns: `res2` is the last map of stride 4 ….

    Attributes:
        out_features: as above, from the finest map to the coarsest.
        channels, strides: by feature.
        recomputes: whether training computes the activations of the whole network again instead of
            keeping them (`atto_det.nets.recomputation`); False.

    Raises:
        UserError: timm has no such network, or the network has no such feature map.
    """

    def __init__(self, name: str, out_features: Sequence[str]) -> None:
        import timm  # imported here since it takes two seconds

        super().__init__()
        if not timm.is_model(name):
            close = timm.list_models(f"*{name.partition('.')[0]}*")[:5]
            hint = f"; near it are {', '.join(close)}" if close else ""
            raise UserError(
                f"MODEL.TIMM.NAME is {name!r}, which is not a network of timm's{hint}: "
                "timm.list_models() names them"
            )
        places = _places(name)
        lacking = [feature for feature in out_features if feature not in places]
        if lacking or not out_features:
            raise UserError(
                f"MODEL.FPN.IN_FEATURES is {list(out_features)}; timm's {name} has "
                f"{', '.join(places) or 'none of ' + ', '.join(STAGES)}"
            )
        self.name = name
        self.out_features = tuple(feature for feature in STAGES if feature in out_features)
        self.indices = tuple(places[feature] for feature in self.out_features)
        self.net = self._create()
        self.channels = dict(zip(self.out_features, self.net.feature_info.channels(), strict=True))
        self.strides = {feature: STRIDES[feature] for feature in self.out_features}
        self.recomputes = False

    def _create(self, **kwargs: Any) -> nn.Module:
        import timm

        return timm.create_model(self.name, features_only=True, out_indices=self.indices, **kwargs)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) to maps (B, channels, H / stride, W / stride) by feature."""
        maps = recomputed(self.net, x) if self.recomputes and self.training else self.net(x)
        return dict(zip(self.out_features, maps, strict=True))

    def freeze(self, stages: int) -> "TimmBackbone":
        """Itself, if MODEL.BACKBONE.FREEZE_AT is 0.

        Raises:
            UserError: stages are to be frozen, but the network does not say where they end.
        """
        if stages > 0:
            raise UserError(
                f"MODEL.BACKBONE.FREEZE_AT is {stages}, but timm's networks are trained as a "
                "whole: set it to 0"
            )
        return self

    def load(self, path: str | Path) -> None:
        """Load the weights of a classifier with this network.

        An AttoNet's filters are rescaled for training (`reset_lengths`), as for a backbone file.
        Those of timm's own networks are not: they are no longer than initially (ImageNet's
        EfficientNet-Lite0: 0.7 in the median, while timm starts with 1.1), and pretrained features
        should change direction less than random ones.

        Args:
            path: `.safetensors`, or a file of `torch.save`, which is read with `weights_only`. Its
                tensors have timm's names, or else the same order and shapes, which is logged.

        Raises:
            UserError: a missing, damaged or unsafe file, or tensors that are not the network's.
        """
        import timm

        given = read_state(path)
        key = f"{timm.get_pretrained_cfg(self.name).classifier}.weight"
        head = given[key] if key in given else list(given.values())[-1]  # its bias, by order
        whole = timm.create_model(self.name, num_classes=head.shape[0] if head.ndim else 0)
        state = fitted(whole.state_dict(), given, self.name, path)
        filled = self._create(pretrained=True, pretrained_cfg_overlay={"state_dict": state})
        self.net.load_state_dict(filled.state_dict())
        if is_backbone(self.name):
            reset_lengths(self.net)
        count = len(self.net.state_dict())
        logger.info(
            "loaded %d of the %d tensors of %s into timm's %s: all but its head",
            *(count, len(state), path, self.name),
        )


def _places(name: str) -> dict[str, int]:
    """The index of the last feature map of each stride."""
    import timm

    with torch.device("meta"):
        info = timm.create_model(name, features_only=True).feature_info
    strides = {STRIDES[stage]: stage for stage in STAGES}
    found = zip(info.reduction(), info.get_dicts(), strict=True)
    return {strides[s]: index for index, (s, _) in enumerate(found) if s in strides}


def initialise(model: nn.Module, cfg: Mapping[str, Any]) -> None:
    """Load `MODEL.TIMM.WEIGHTS` into the timm network of a detector, if there are both.

    A warning is logged if the detector normalises pictures differently than the training of the
    network did.

    Raises:
        UserError: as `TimmBackbone.load`.
    """
    path = cfg["MODEL"]["TIMM"]["WEIGHTS"]
    nets = [module for module in model.modules() if isinstance(module, TimmBackbone)]
    if path and not nets:
        raise UserError(
            f"MODEL.TIMM.WEIGHTS is {path}, but MODEL.BACKBONE.NAME "
            f"{cfg['MODEL']['BACKBONE']['NAME']} builds no timm network: name "
            "build_timm_fpn_backbone, or leave WEIGHTS empty"
        )
    if not path:
        return
    for net in nets:
        net.load(path)
        _check_normalisation(net.name, cfg)


def _check_normalisation(name: str, cfg: Mapping[str, Any]) -> None:
    import timm

    trained = timm.get_pretrained_cfg(name)
    order = -1 if cfg["INPUT"]["FORMAT"] == "BGR" else 1
    for key, values in (("PIXEL_MEAN", trained.mean), ("PIXEL_STD", trained.std)):
        expected = [round(255 * value, 3) for value in values[::order]]
        stated = list(cfg["MODEL"][key])
        if any(abs(a - b) > 0.5 for a, b in zip(expected, stated, strict=True)):
            logger.warning(
                "MODEL.%s is %s, but timm's %s was trained with %s", key, stated, name, expected
            )


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file by name, in its order.

    Raises:
        UserError: a missing, damaged or unsafe file, or one that holds more than tensors.
    """
    if str(path).endswith(".safetensors"):
        return read_tensors(path, "weights file")[0]
    content = load_checkpoint(path)
    for key in STATE_KEYS:
        if isinstance(content.get(key), dict):
            content = content[key]
    if not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path} holds no state dict: weights are tensors by name")
    return content


def fitted(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], name: str, path: str | Path
) -> dict[str, Tensor]:
    """`given` under the names of `own`: matched by name, or else by order and shape.

    Args:
        own: tensors of timm's network `name`.
        path: the source of `given`.

    Raises:
        UserError: the tensors do not match.
    """
    wrong = misfits(own, given)
    if not wrong:
        return dict(given)
    if [value.shape for value in own.values()] != [value.shape for value in given.values()]:
        raise UserError(f"{path} holds no weights of timm's {name}: {wrong}")
    logger.info(
        "%s: its %d tensors have other names than those of timm's %s and were matched by order and "
        "shape, which agree",
        path,
        len(given),
        name,
    )
    return dict(zip(own, given.values(), strict=True))
