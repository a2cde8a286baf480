"""The visual attention condenser of the AttendNets (arXiv 2009.14385, section 2.1 and figure 1).

    V'   = M(V)          down-mixing: 1x1 convolution to fewer channels
    Q    = C(V')         condensation: max pooling
    K    = E(Q)          embedding: grouped convolution, then 1x1 convolution
    A    = X(K)          expansion: unpooling
    V''  = F(V', A, S)   selective attention: the product V' · A · S, S a learned scale
    V''' = M'(V'')       up-mixing: 1x1 convolution to the channels of V

There is no public code of it. What the paper leaves open is a field of `CondenserSpec` with a
default.

Shapes in comments: B batch, C channels, H and W height and width, h and w those after pooling.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atto_det.errors import UserError
from atto_det.nets.blocks import check_count, conv_norm

LAYERS = ("down", "group", "point", "up")
UNPOOLINGS = ("repetition", "indices")
ATTENTIONS = ("product", "sum")


@dataclass(frozen=True)
class CondenserSpec:
    """One visual attention condenser.

    Figure 2 of the paper gives four numbers, "the number of channels for the down-mixing layer, the
    first and second layers of the embedding structure, and the up-mixing layer". The third equals
    the first here: the expansion only unpools, and A is "in the same domain as V'".

    Attributes:
        down: channels of V'.
        embed: channels of the embedding's first layer.
        up: channels of V''', and of V: it "has the same channel dimensionality as the input".
        groups: of the embedding's first layer, a "grouped [...] convolution". 4 divides all widths
            of the AttendNets here.
        kernel_size: of the embedding's first layer. 3, since the other layers see single pixels, so
            that the "joint spatial-channel activation relationships" must be found here.
        pool: side and stride of the windows of the "max pooling" that "condenses V'". 2 is the
            usual value, and leaves the embedding a quarter of the pixels.
        unpooling: the expansion is "unpooling". "repetition" copies a value to its whole window.
            "indices" writes it only to the position of the window's maximum, which is the meaning
            of the term since deconvolution networks. It is not the default, since rounding decides
            where maxima are nearly equal: in flat parts of pictures, AttendNet-A's features in
            single precision then differ from those in double precision by up to 0.6 of the largest
            value, and those of the runtimes from each other.
        sigmoid: whether K is bounded by a sigmoid. It is, as in squeeze-and-excitation and CBAM,
            which the paper cites: bounded attention selects, and only S sets its strength.
        attention: F(V', A, S). "product": V'' "is a product of V', self-attention values A, and
            scale S". "sum" is V' · S + A instead, as in public code of the earlier TinySpeech.
        residual: whether V is added to V'''. It is: the AttendNets' prototype is "a residual
            design".
        norms: which of `LAYERS` have a batch norm; the others have a bias. The paper does not
            mention them. All have one, as in AttoNets: at inference they cost nothing.
        relus: which of `LAYERS`, or "sum" (the condenser's output), have a ReLU. The paper does not
            mention them. As in AttoNets, all but the last layer, which has its ReLU after the sum;
            and none where the sigmoid follows.

    Raises:
        UserError: a value is out of its range.
    """

    down: int
    embed: int
    up: int
    groups: int = 4
    kernel_size: int = 3
    pool: int = 2
    unpooling: str = "repetition"
    sigmoid: bool = True
    attention: str = "product"
    residual: bool = True
    norms: tuple[str, ...] = LAYERS
    relus: tuple[str, ...] = ("down", "group", "sum")

    def __post_init__(self) -> None:
        for name in ("down", "embed", "up", "groups", "kernel_size", "pool"):
            check_count(f"a condenser's {name}", getattr(self, name))
        for name in ("sigmoid", "residual"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"a condenser's {name} is {getattr(self, name)!r}: true or false")
        if math.gcd(self.down, self.embed) % self.groups:
            raise UserError(
                f"a condenser's groups are {self.groups}: they must divide down, {self.down}, and "
                f"embed, {self.embed}"
            )
        if not self.kernel_size % 2:
            raise UserError(f"a condenser's kernel_size is {self.kernel_size}: it must be odd")
        for name, known in (("unpooling", UNPOOLINGS), ("attention", ATTENTIONS)):
            if getattr(self, name) not in known:
                raise UserError(
                    f"a condenser's {name} is {getattr(self, name)!r}: choose one of "
                    f"{', '.join(known)}"
                )
        for name, known in (("norms", LAYERS), ("relus", (*LAYERS, "sum"))):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not set(value) <= set(known):
                raise UserError(
                    f"a condenser's {name} are {value!r}: a tuple of some of {', '.join(known)}"
                )

    @property
    def out_channels(self) -> int:
        """Channels of the module's output."""
        return self.up

    def build(
        self, in_channels: int, *, opens: bool, stride: int, norm: str
    ) -> "VisualAttentionCondenser":
        """The condenser.

        Raises:
            UserError: it opens a stage, or the numbers of input and output channels differ.
        """
        if opens or stride != 1 or in_channels != self.up:
            raise UserError(
                f"a condenser keeps size and channels: it cannot turn {in_channels} channels into "
                f"{self.up} with stride {stride}, nor open a stage"
            )
        return VisualAttentionCondenser(self, norm=norm)


class VisualAttentionCondenser(nn.Module):
    """The six equations above and a shortcut around them, with a ReLU after their sum.

    With a shortcut it starts as the identity, like AttoNet modules of Type A.

    Unpooling by indices compares V' with its window's maximum which, unlike indices, can be
    exported to ONNX. It gives the same as `max_unpool2d` with the indices of `max_pool2d`, except
    where a window has several equal maxima: then all of them get the value, not only the first. In
    the product this makes no difference for windows of zeros, which a ReLU often leaves.

    Args:
        spec: the condenser as data.
        norm: one of `atto_det.nets.NORMS`.
    """

    def __init__(self, spec: CondenserSpec, *, norm: str = "BN") -> None:
        super().__init__()
        self.pool = spec.pool
        self.by_indices = spec.unpooling == "indices"
        self.bounded = spec.sigmoid
        self.multiplies = spec.attention == "product"
        self.down = _layer("down", spec, spec.up, spec.down, norm=norm)
        self.embed = nn.Sequential(
            OrderedDict(
                group=_layer(
                    "group",
                    spec,
                    spec.down,
                    spec.embed,
                    spec.kernel_size,
                    groups=spec.groups,
                    norm=norm,
                ),
                point=_layer("point", spec, spec.embed, spec.down, norm=norm),
            )
        )
        self.scale = nn.Parameter(torch.ones(1))
        self.up = _layer("up", spec, spec.down, spec.up, norm=norm)
        self.residual = spec.residual
        self.drop_path = nn.Identity()
        self.relu = nn.ReLU(inplace=True) if "sum" in spec.relus else nn.Identity()
        if spec.residual:
            last = self.up.norm if "up" in spec.norms else self.up.conv
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def forward(self, v: Tensor) -> Tensor:
        """(B, up, H, W) to the same."""
        y = self.drop_path(self.up(self.attended(v)))  # V''': (B, up, H, W)
        return self.relu(y + v if self.residual else y)

    def attended(self, v: Tensor) -> Tensor:
        """V'' of an input V: (B, up, H, W) to (B, down, H, W)."""
        mixed = self.down(v)  # V': (B, down, H, W)
        condensed = self.condense(mixed)  # Q: (B, down, h, w)
        embedding = self.embed(condensed)  # K: (B, down, h, w)
        if self.bounded:
            embedding = embedding.sigmoid()
        # The size is V's: if an 8-bit file takes that of V', which is quantised, OpenVINO 2026.4
        # computes another product.
        return self.attend(mixed, embedding, condensed, v.shape[2:])

    def condense(self, v: Tensor) -> Tensor:
        """C: the maximum of each window, (B, C, H, W) to (B, C, ceil(H / pool), ceil(W / pool))."""
        return F.max_pool2d(v, self.pool, ceil_mode=True)

    def expand(self, k: Tensor, v: Tensor, q: Tensor, size: list[int]) -> Tensor:
        """X: values K (B, C, h, w) at the positions that Q = C(V') came from, (B, C, H, W).

        `size` is H, W.
        """
        a = self._repeat(k, size)
        if self.by_indices:
            a = torch.where(v == self._repeat(q, size), a, torch.zeros_like(a))
        return a

    def attend(self, v: Tensor, k: Tensor, q: Tensor, size: list[int]) -> Tensor:
        """F: V' (B, C, H, W) of `size` H, W, A = X(K), and the scale S to V''."""
        if self.multiplies:  # by A · S = X(K · S), with fewer multiplications
            return v * self.expand(k * self.scale, v, q, size)
        return v * self.scale + self.expand(k, v, q, size)

    def _repeat(self, x: Tensor, size: list[int]) -> Tensor:
        """(B, C, h, w) to (B, C, H, W): each value fills its window."""
        x = F.interpolate(x, scale_factor=float(self.pool), mode="nearest")
        return x[:, :, : size[0], : size[1]]  # windows at the border may exceed the map


def _layer(
    name: str,
    spec: CondenserSpec,
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    *,
    groups: int = 1,
    norm: str,
) -> nn.Sequential:
    """A convolution, with the norm and the ReLU that `spec` gives layer `name`."""
    relu = name in spec.relus
    if name in spec.norms:
        return conv_norm(
            in_channels, out_channels, kernel_size, groups=groups, norm=norm, relu=relu
        )
    layers = OrderedDict(
        conv=nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=kernel_size // 2, groups=groups
        )
    )
    if relu:
        layers["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)
