"""Squeeze-and-excitation (arXiv 1709.01507, section 3) as a separate module, for comparisons.

It is the attention that visual attention condensers are compared with: only over channels, from the
mean of the whole picture.
"""

from dataclasses import dataclass

from torch import nn

from atto_det.errors import UserError
from atto_det.nets.blocks import check_count


@dataclass(frozen=True)
class SqueezeExcitationSpec:
    """One squeeze-and-excitation: the mean of each channel, two 1x1 convolutions, a sigmoid.

    Attributes:
        squeeze: channels of the first convolution.
        expand: channels of the input, each of which is multiplied by its excitation.

    Raises:
        UserError: a width below 1.
    """

    squeeze: int
    expand: int

    def __post_init__(self) -> None:
        for name in ("squeeze", "expand"):
            check_count(f"a squeeze-and-excitation's {name}", getattr(self, name))

    @property
    def out_channels(self) -> int:
        """Channels of the module's output."""
        return self.expand

    def build(self, in_channels: int, *, opens: bool, stride: int, norm: str) -> nn.Module:
        """The module, which has no norms: (B, expand, H, W) to the same shape.

        It is torchvision's, and computes what timm's `SqueezeExcite` does.

        Raises:
            UserError: it opens a stage, or the numbers of input and output channels differ.
        """
        from torchvision.ops import SqueezeExcitation  # takes a second to import

        if opens or stride != 1 or in_channels != self.expand:
            raise UserError(
                f"a squeeze-and-excitation keeps size and channels: it cannot turn {in_channels} "
                f"channels into {self.expand} with stride {stride}, nor open a stage"
            )
        return SqueezeExcitation(self.expand, self.squeeze)
