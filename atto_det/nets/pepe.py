"""The PEPE module of the AttendNets (arXiv 2009.14385, section 3): projection-expansion, twice.

Its four layers are those of an AttoNet module, with other names. What the paper leaves open is as
in AttoNets: 3x3 depthwise filters, which have the stride of a module that opens a stage; a batch
norm after each layer; a ReLU after all but the last, and after the sum with the shortcut, since the
AttendNets' prototype is "a residual design".
"""

from dataclasses import dataclass

from atto_det.errors import UserError
from atto_det.nets.blocks import AttoModule, check_count


@dataclass(frozen=True)
class PEPESpec:
    """One PEPE module, with the four numbers that figure 2 of the paper gives for each.

    Attributes:
        project: channels of the "projection layer that reduces dimensionality via pointwise
            convolution".
        spread: channels of the "expansion layer that increases dimensionality efficiently via
            depthwise convolution", a multiple of `project`.
        reproject: channels of the second projection, "again via pointwise convolution".
        expand: channels of the second expansion, which is pointwise, too, and so of the module.

    Raises:
        UserError: a width below 1, or `spread` is not a multiple of `project`.
    """

    project: int
    spread: int
    reproject: int
    expand: int

    def __post_init__(self) -> None:
        for name in ("project", "spread", "reproject", "expand"):
            check_count(f"a PEPE module's {name}", getattr(self, name))
        if self.spread % self.project:
            raise UserError(
                f"a PEPE module's spread is {self.spread}: a depthwise convolution has a multiple "
                f"of its inputs' {self.project} channels"
            )

    # The names of the same layers in Table 1 of the AttoNet paper.

    @property
    def compress(self) -> int:
        """Channels of the first projection."""
        return self.project

    @property
    def multiplier(self) -> int:
        """Output channels per input channel of the depthwise convolution."""
        return self.spread // self.project

    @property
    def mix(self) -> int:
        """Channels of the second projection."""
        return self.reproject

    @property
    def out_channels(self) -> int:
        """Channels of the module's output."""
        return self.expand

    def build(self, in_channels: int, *, opens: bool, stride: int, norm: str) -> AttoModule:
        """The module; with a 1x1 convolution on its shortcut if it opens a stage."""
        return AttoModule(in_channels, self, type_b=opens, stride=stride, norm=norm)
