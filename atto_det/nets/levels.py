"""Separable convolutions that the levels of a pyramid share, for the RPN heads of both engines."""

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from atto_det.nets.blocks import make_norm, separable_conv


class SeparableLevels(nn.Module):
    """Part of an RPN head: shared separable convolutions, with separate norms for each level.

    The levels share the weights; each has its own norms, since their statistics differ.
    `atto_det.ops.fold_norms` relies on this class's attributes.

    Attributes:
        convs: in their order.
        norms: of each convolution, a list by level.
    """

    def add_hidden(self, channels: int, widths: Iterable[int], levels: int, norm: str) -> None:
        """Create the convolutions.

        Args:
            channels: of the feature maps.
            widths: of the convolutions' outputs.
            norm: one of `atto_det.nets.NORMS`, or "" for none.
        """
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for width in widths:
            self.convs.append(separable_conv(channels, width, norm="", relu=False))
            own = (make_norm(norm, width) if norm else nn.Identity() for _ in range(levels))
            self.norms.append(nn.ModuleList(own))
            channels = width
        self.relu = nn.ReLU(inplace=True)

    def hidden(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps (B, C, H, W) to the input of the last layers, (B, width, H, W) each."""
        result = []
        for level, x in enumerate(features):
            for conv, norms in zip(self.convs, self.norms, strict=True):
                x = self.relu(norms[level](conv(x)))
            result.append(x)
        return result
