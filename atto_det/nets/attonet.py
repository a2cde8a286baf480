"""AttoNets A to D (arXiv 1903.07209, Table 1) as feature extractors.

The table below is the network; `AttoNet` only reads it. Stem: 7x7 convolution with stride 2, 3x3
max pool with stride 2. Then the stages `res2` to `res5` with strides 4, 8, 16, 32. 69 convolutions.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from atto_det.errors import UserError
from atto_det.nets.blocks import AttoModule, conv_norm, freeze, is_untrained_frozen_norm
from atto_det.nets.blocks import AttoModuleSpec as Module

STAGES = ("res2", "res3", "res4", "res5")
FEATURES = ("stem", *STAGES)
STRIDES = {"stem": 4, "res2": 4, "res3": 8, "res4": 16, "res5": 32}


@dataclass(frozen=True)
class AttoNetSpec:
    """Channels of the stem, and the modules of each stage.

    The first module of every stage is of Type B; from `res3` on it has stride 2.
    """

    stem: int
    res2: tuple[Module, ...]
    res3: tuple[Module, ...]
    res4: tuple[Module, ...]
    res5: tuple[Module, ...]


# Module(compress, multiplier, mix, expand). Two misprints of the paper are mended: in D the third
# module prints mix 65 (6 gives the published size, 65 does not), and the eighth prints no stride.
ATTONETS = {
    "attonet_a": AttoNetSpec(
        stem=8,
        res2=(
            Module(8, 4, 16, 176),
            Module(16, 4, 16, 176),
            Module(16, 4, 16, 176),
        ),
        res3=(
            Module(40, 4, 40, 400),
            Module(32, 4, 24, 400),
            Module(40, 4, 32, 400),
            Module(40, 4, 32, 400),
        ),
        res4=(
            Module(80, 4, 64, 808),
            Module(72, 4, 72, 808),
            Module(80, 4, 72, 808),
            Module(72, 4, 72, 808),
            Module(72, 4, 64, 808),
            Module(56, 4, 56, 808),
        ),
        res5=(
            Module(160, 4, 128, 952),
            Module(120, 4, 88, 952),
            Module(112, 4, 88, 952),
        ),
    ),
    "attonet_b": AttoNetSpec(
        stem=8,
        res2=(
            Module(8, 4, 16, 168),
            Module(16, 4, 8, 168),
            Module(16, 4, 16, 168),
        ),
        res3=(
            Module(32, 4, 24, 368),
            Module(16, 4, 24, 368),
            Module(24, 4, 24, 368),
            Module(24, 4, 32, 368),
        ),
        res4=(
            Module(64, 4, 48, 728),
            Module(40, 4, 40, 728),
            Module(48, 4, 48, 728),
            Module(56, 4, 48, 728),
            Module(48, 4, 40, 728),
            Module(32, 4, 32, 728),
        ),
        res5=(
            Module(112, 4, 96, 736),
            Module(72, 4, 48, 736),
            Module(72, 4, 56, 736),
        ),
    ),
    "attonet_c": AttoNetSpec(
        stem=6,
        res2=(
            Module(7, 2, 8, 139),
            Module(5, 2, 5, 139),
            Module(7, 2, 6, 139),
        ),
        res3=(
            Module(19, 2, 14, 328),
            Module(13, 2, 9, 328),
            Module(19, 2, 8, 328),
            Module(20, 2, 12, 328),
        ),
        res4=(
            Module(39, 2, 24, 628),
            Module(29, 2, 28, 628),
            Module(37, 2, 26, 628),
            Module(37, 2, 32, 628),
            Module(37, 2, 27, 628),
            Module(17, 2, 24, 628),
        ),
        res5=(
            Module(67, 2, 52, 527),
            Module(46, 2, 30, 527),
            Module(49, 2, 31, 527),
        ),
    ),
    "attonet_d": AttoNetSpec(
        stem=3,
        res2=(
            Module(7, 4, 8, 112),
            Module(5, 4, 5, 112),
            Module(7, 4, 6, 112),
        ),
        res3=(
            Module(8, 4, 8, 264),
            Module(8, 4, 8, 264),
            Module(8, 4, 8, 264),
            Module(8, 4, 8, 264),
        ),
        res4=(
            Module(8, 4, 8, 467),
            Module(8, 4, 8, 467),
            Module(8, 4, 8, 467),
            Module(8, 4, 8, 467),
            Module(8, 4, 8, 467),
            Module(8, 4, 8, 467),
        ),
        res5=(
            Module(16, 4, 8, 140),
            Module(8, 4, 8, 140),
            Module(8, 4, 8, 140),
        ),
    ),
}


def known_spec(name: str) -> AttoNetSpec:
    """The table of network `name`.

    Raises:
        UserError: no such network; the message lists the known ones.
    """
    if name not in ATTONETS:
        raise UserError(f"unknown network {name!r}: choose one of {', '.join(ATTONETS)}")
    return ATTONETS[name]


class AttoNet(nn.Module):
    """A stem and the stages up to the last one asked for.

    Args:
        spec: the network as data, one of `ATTONETS` or your own.
        out_features: which of `FEATURES` the forward pass returns.
        norm: one of `atto_det.nets.NORMS`.

    Attributes:
        out_features: the names returned, in the order of the network.
        channels: feature name to channels.
        strides: feature name to stride in input pixels.

    Raises:
        UserError: `out_features` is empty, repeats or names no feature, or `norm` is unknown.
    """

    def __init__(
        self, spec: AttoNetSpec, out_features: Sequence[str] = STAGES, *, norm: str = "BN"
    ) -> None:
        super().__init__()
        if isinstance(out_features, str) or not out_features:
            raise UserError(f"out_features must be a list of names among {', '.join(FEATURES)}")
        unknown = [name for name in out_features if name not in FEATURES]
        if unknown or len(set(out_features)) < len(out_features):
            raise UserError(
                f"out_features {list(out_features)} must be distinct names among "
                f"{', '.join(FEATURES)}"
            )
        self.spec = spec
        self.out_features = tuple(name for name in FEATURES if name in out_features)
        self.stem = nn.Sequential(
            OrderedDict(
                conv=conv_norm(3, spec.stem, 7, stride=2, norm=norm),
                pool=nn.MaxPool2d(3, stride=2, padding=1),
            )
        )
        channels = {"stem": spec.stem}
        width = spec.stem
        for stage in STAGES[: FEATURES.index(self.out_features[-1])]:
            modules = []
            for index, module in enumerate(getattr(spec, stage)):
                opens = index == 0
                stride = 2 if opens and stage != "res2" else 1
                modules.append(AttoModule(width, module, type_b=opens, stride=stride, norm=norm))
                width = module.expand
            self.add_module(stage, nn.Sequential(*modules))
            channels[stage] = width
        self.channels = {name: channels[name] for name in self.out_features}
        self.strides = {name: STRIDES[name] for name in self.out_features}
        self._frozen_check = self.register_forward_pre_hook(_refuse_untrained_frozen_norms)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) to feature maps (B, channels, ceil(H / stride), ceil(W / stride))."""
        features = {}
        for name in FEATURES[: FEATURES.index(self.out_features[-1]) + 1]:
            x = getattr(self, name)(x)
            if name in self.out_features:
                features[name] = x
        return features

    def freeze(self, freeze_at: int = 0) -> "AttoNet":
        """Freeze the stem (1), and the stages up to res2 (2) … res5 (5), as Detectron2's ResNet.

        Raises:
            UserError: `freeze_at` is not within 0 and 5.
        """
        if not 0 <= freeze_at <= len(FEATURES):
            raise UserError(
                f"MODEL.BACKBONE.FREEZE_AT is {freeze_at}: 0 freezes nothing, 1 the stem, "
                "2 to 5 the stages up to res2 to res5 as well"
            )
        for name in FEATURES[:freeze_at]:
            if hasattr(self, name):
                freeze(getattr(self, name))
        return self


def _refuse_untrained_frozen_norms(net: nn.Module, inputs: tuple) -> None:
    """A frozen norm that no weights were loaded into normalises nothing, and never will.

    Checked at the first training step, not when the network is built: weights come in between.
    """
    if not net.training:
        return
    if any(is_untrained_frozen_norm(module) for module in net.modules()):
        raise UserError(
            "the backbone has frozen batch norms without trained statistics, which cannot train: "
            "load AttoNet weights (MODEL.WEIGHTS), or set MODEL.BACKBONE.FREEZE_AT to 0 and "
            "MODEL.ATTONET.NORM to BN"
        )
    net._frozen_check.remove()


def create_backbone(
    name: str, out_features: Sequence[str] = STAGES, *, norm: str = "BN"
) -> AttoNet:
    """Create AttoNet `name` ("attonet_a" … "attonet_d") as a feature extractor.

    Its forward takes images (B, 3, H, W) and returns a dict from each name in `out_features` to a
    feature map (B, C, H / stride, W / stride), rounded up; see its `channels` and `strides`.

    Raises:
        UserError: an unknown network, feature or norm; the message lists the known ones.
    """
    return AttoNet(known_spec(name), out_features, norm=norm)
