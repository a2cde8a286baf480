"""Networks as data, and the class that builds them: feature extractors of a stem and four stages.

Stem: 7x7 convolution with stride 2, 3x3 max pool with stride 2. The stages `res2` to `res5` follow,
with strides 4, 8, 16, 32, each a sequence of modules of any kind that implements `ModuleSpec`.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from atto_det.errors import UserError
from atto_det.nets.blocks import conv_norm, freeze, is_untrained_frozen_norm
from atto_det.nets.recomputation import recomputed

STAGES = ("res2", "res3", "res4", "res5")
FEATURES = ("stem", *STAGES)
STRIDES = {"stem": 4, "res2": 4, "res3": 8, "res4": 16, "res5": 32}


class ModuleSpec(Protocol):
    """One module of a stage as data: a frozen dataclass that builds it.

    The built module maps (B, in_channels, H, W) to (B, out_channels, H / stride, W / stride),
    rounded up. It uses `conv_norm`, so that its filters start short and `reset_lengths` finds them.
    If it has a residual branch, its `drop_path` (an identity) is applied to that branch.
    """

    @property
    def out_channels(self) -> int:
        """Channels of the module's output."""

    def build(self, in_channels: int, *, opens: bool, stride: int, norm: str) -> nn.Module:
        """Build the module.

        Args:
            in_channels: of its input.
            opens: whether it is the first of its stage, where the number of channels changes.
            stride: 1, or 2 for the first module of a stage from `res3` on.
            norm: one of `atto_det.nets.NORMS`.
        """


@dataclass(frozen=True)
class BackboneSpec:
    """Channels of the stem, and the modules of each stage.

    The first module of every stage opens it; from `res3` on it has stride 2.
    """

    stem: int
    res2: tuple[ModuleSpec, ...]
    res3: tuple[ModuleSpec, ...]
    res4: tuple[ModuleSpec, ...]
    res5: tuple[ModuleSpec, ...]


class Backbone(nn.Module):
    """A stem and the stages up to the last one in `out_features`, as its only children.

    The first convolution of every network is `stem.conv.conv`; its input is the normalised picture.

    Args:
        spec: the network as data, from the registry or your own.
        out_features: which of `FEATURES` the forward pass returns.
        norm: one of `atto_det.nets.NORMS`.
        in_chans: channels of the images.

    Attributes:
        out_features: the names returned, in the order of the network.
        channels: feature name to channels.
        strides: feature name to stride in input pixels.
        recomputes: whether training computes a stage's activations again instead of keeping them
            (`atto_det.nets.recomputation`); False.

    Raises:
        UserError: `out_features` is empty, repeats a name or has an unknown one, `norm` is unknown,
            or `in_chans` is below 1.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        out_features: Sequence[str] = STAGES,
        *,
        norm: str = "BN",
        in_chans: int = 3,
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
        if in_chans < 1:
            raise UserError(f"in_chans is {in_chans}: images have at least one channel")
        self.spec = spec
        self.out_features = tuple(name for name in FEATURES if name in out_features)
        self.stem = nn.Sequential(
            OrderedDict(
                conv=conv_norm(in_chans, spec.stem, 7, stride=2, norm=norm),
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
                modules.append(module.build(width, opens=opens, stride=stride, norm=norm))
                width = module.out_channels
            self.add_module(stage, nn.Sequential(*modules))
            channels[stage] = width
        self.channels = {name: channels[name] for name in self.out_features}
        self.strides = {name: STRIDES[name] for name in self.out_features}
        self.recomputes = False
        self._norms_were_checked = False

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, in_chans, H, W) to maps (B, channels, ceil(H / stride), ceil(W / stride))."""
        if not torch.jit.is_scripting() and self.training and not self._norms_were_checked:
            self._refuse_untrained_frozen_norms()
        features: dict[str, Tensor] = {}
        for name, part in self.named_children():
            if not torch.jit.is_scripting() and self.recomputes and self.training:
                x = recomputed(part, x)
            else:
                x = part(x)
            if name in self.channels:
                features[name] = x
        return features

    def freeze(self, freeze_at: int = 0) -> "Backbone":
        """Freeze the stem (1), and the stages up to res2 (2) … res5 (5), as Detectron2's ResNet.

        Raises:
            UserError: `freeze_at` is not between 0 and 5.
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

    @torch.jit.unused
    def _refuse_untrained_frozen_norms(self) -> None:
        """Refuse frozen norms without loaded weights, which normalise nothing and never will.

        Checked at the first training step, since weights are loaded after the network is built.
        """
        if any(is_untrained_frozen_norm(module) for module in self.modules()):
            raise UserError(
                "the backbone has frozen batch norms without trained statistics, which cannot "
                "train: load AttoNet weights (MODEL.WEIGHTS), or set "
                "MODEL.BACKBONE.FREEZE_AT to 0 and MODEL.ATTONET.NORM to BN"
            )
        self._norms_were_checked = True
