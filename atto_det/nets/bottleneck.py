"""The plain bottleneck of ResNets (arXiv 1512.03385, figure 5, right), as one module of a stage."""

from dataclasses import dataclass

from torch import Tensor, nn

from atto_det.nets.blocks import check_count, conv_norm


@dataclass(frozen=True)
class BottleneckSpec:
    """One bottleneck: 1x1, 3x3 and 1x1 convolution.

    Attributes:
        compress: channels of the first two convolutions.
        expand: channels of the last one, and so of the module.

    Raises:
        UserError: a width below 1.
    """

    compress: int
    expand: int

    def __post_init__(self) -> None:
        for name in ("compress", "expand"):
            check_count(f"a bottleneck's {name}", getattr(self, name))

    @property
    def out_channels(self) -> int:
        """Channels of the module's output."""
        return self.expand

    def build(self, in_channels: int, *, opens: bool, stride: int, norm: str) -> "Bottleneck":
        """The module; with a 1x1 convolution on its shortcut if it opens a stage."""
        return Bottleneck(in_channels, self, opens=opens, stride=stride, norm=norm)


class Bottleneck(nn.Module):
    """Three convolutions and a shortcut around them, with a ReLU after their sum.

    The 3x3 convolution has the stride. Like an AttoNet module, it starts as the identity if its
    shortcut is one.
    """

    def __init__(
        self, in_channels: int, spec: BottleneckSpec, *, opens: bool, stride: int, norm: str
    ) -> None:
        super().__init__()
        self.compress = conv_norm(in_channels, spec.compress, norm=norm)
        self.spatial = conv_norm(spec.compress, spec.compress, 3, stride=stride, norm=norm)
        self.expand = conv_norm(spec.compress, spec.expand, norm=norm, relu=False)
        self.shortcut: nn.Module = nn.Identity()
        if opens:
            self.shortcut = conv_norm(
                in_channels, spec.expand, stride=stride, norm=norm, relu=False
            )
        else:
            nn.init.zeros_(self.expand.norm.weight)
        self.drop_path = nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, expand, H / stride, W / stride)."""
        y = self.compress(x)  # (B, compress, H, W)
        y = self.spatial(y)  # (B, compress, H / stride, W / stride)
        y = self.expand(y)  # (B, expand, H / stride, W / stride)
        return self.relu(self.drop_path(y) + self.shortcut(x))
