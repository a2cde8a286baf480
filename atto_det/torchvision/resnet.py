"""Detectron2's ResNets (MODEL.RESNETS) with the blocks of torchvision, and the names of both."""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torchvision.models import resnet
from yacs.config import CfgNode

from atto_det.nets import FEATURES, STAGES, make_norm
from atto_det.nets.backbone import STRIDES
from atto_det.nets.blocks import freeze, start_as_attonet
from atto_det.nets.recomputation import recomputed

from .config import Unsupported

BLOCKS = {  # depth: kind, and number in res2, res3, res4, res5
    18: (resnet.BasicBlock, (2, 2, 2, 2)),
    34: (resnet.BasicBlock, (3, 4, 6, 3)),
    50: (resnet.Bottleneck, (3, 4, 6, 3)),
    101: (resnet.Bottleneck, (3, 4, 23, 3)),
    152: (resnet.Bottleneck, (3, 8, 36, 3)),
}


class ResNet(nn.Module):
    """A ResNet or ResNeXt that returns feature maps, initialised as Detectron2's.

    Args:
        keys: MODEL.RESNETS.
        out_features: which of `STAGES` it returns, the last of which is `res5`.

    Attributes:
        channels: feature name to channels.
        strides: feature name to pixels of the input per cell.
        recomputes: whether training computes a stage's activations again instead of keeping them
            (`atto_det.nets.recomputation`); False.

    Raises:
        Unsupported: a width or grouping that torchvision's blocks do not have.
    """

    def __init__(self, keys: CfgNode, out_features: Sequence[str]) -> None:
        super().__init__()
        block, counts = BLOCKS[keys.DEPTH]
        basic = block is resnet.BasicBlock
        width, groups = 64 * block.expansion, 1 if basic else keys.NUM_GROUPS
        if (width, groups) != (keys.RES2_OUT_CHANNELS, keys.NUM_GROUPS):
            raise Unsupported(
                f"MODEL.RESNETS has DEPTH {keys.DEPTH}, RES2_OUT_CHANNELS "
                f"{keys.RES2_OUT_CHANNELS} and NUM_GROUPS {keys.NUM_GROUPS}: with this depth, the "
                f"torchvision engine takes RES2_OUT_CHANNELS {width} and NUM_GROUPS "
                f"{'1' if basic else 'of any number'}"
            )
        net = resnet.ResNet(
            block,
            list(counts),
            num_classes=1,
            groups=groups,
            width_per_group=64 if basic else keys.WIDTH_PER_GROUP,
            norm_layer=partial(make_norm, keys.NORM),
        )
        self.stem = nn.Sequential(
            OrderedDict(conv1=net.conv1, norm=net.bn1, relu=net.relu, pool=net.maxpool)
        )
        for index, stage in enumerate(STAGES, start=1):
            self.add_module(stage, getattr(net, f"layer{index}"))
        if keys.STRIDE_IN_1X1 and not basic:
            for one in self._blocks():
                one.conv1.stride, one.conv2.stride = one.conv2.stride, one.conv1.stride
        self.channels = {
            stage: width * 2**index for index, stage in enumerate(STAGES) if stage in out_features
        }
        self.strides = {stage: STRIDES[stage] for stage in self.channels}
        self.recomputes = False

    def _blocks(self) -> list[nn.Module]:
        return [block for stage in STAGES for block in getattr(self, stage)]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) to maps (B, channels, H / stride, W / stride) by feature."""
        features = {}
        for name, part in self.named_children():
            x = recomputed(part, x) if self.recomputes and self.training else part(x)
            if name in self.channels:
                features[name] = x
        return features

    def freeze(self, freeze_at: int) -> None:
        """Freeze the stem (1), and the stages up to res2 (2) … res5 (5)."""
        for name in FEATURES[:freeze_at]:
            freeze(getattr(self, name))

    def start_as_attonet(self) -> None:
        """As `build_resnet_fpn_started_as_attonet_backbone` in Detectron2."""
        last = [
            block.bn3
            for block in self._blocks()
            if isinstance(block, resnet.Bottleneck) and block.downsample is None
        ]
        start_as_attonet(self, last)


def names(depth: int) -> list[tuple[str, str]]:
    """How parameters' names begin within the network: in Detectron2, and here."""
    pairs = [("stem.conv1.norm.", "stem.norm.")]
    block, counts = BLOCKS[depth]
    convs = 2 if block is resnet.BasicBlock else 3
    for stage, count in zip(STAGES, counts, strict=True):
        for place in (f"{stage}.{index}." for index in range(count)):
            pairs.append((f"{place}shortcut.norm.", f"{place}downsample.1."))
            pairs.append((f"{place}shortcut.", f"{place}downsample.0."))
            for conv in range(1, convs + 1):
                pairs.append((f"{place}conv{conv}.norm.", f"{place}bn{conv}."))
    return pairs
