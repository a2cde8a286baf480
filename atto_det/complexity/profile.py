"""Where the time of a graph goes: its nodes by kind, beside what the machine can do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

KINDS = {  # of nodes without multiply-adds, by their operators in ONNX Runtime and OpenVINO
    "ROIAlign": ("RoiAlign", "ROIAlign"),
    "non-maximum suppression": ("NonMaxSuppression",),
    "top-k": ("TopK",),
    "layout": ("Transpose", "ReorderInput", "ReorderOutput", "Reorder"),
    "conversion to and from 8 bits": (
        *("QuantizeLinear", "DequantizeLinear", "FakeQuantize", "Convert", "Cast"),
    ),
    "gather, concatenate, slice": (
        *("Gather", "GatherND", "GatherElements", "Concat", "QLinearConcat", "Slice", "Split"),
        *("VariadicSplit", "StridedSlice", "Pad", "Tile", "Expand"),
    ),
    "pooling and resizing": (
        *("MaxPool", "NhwcMaxPool", "AveragePool", "Resize", "Upsample", "Interpolate"),
    ),
}
REST = "elementwise and shapes"


class NodeTime(NamedTuple):
    """One node of a graph as a runtime executes it.

    Attributes:
        name: in the runtime; several nodes of the file may have become one.
        operator: the runtime's name of what it does.
        kind: of layer, such as "1x1 convolution", or a key of `KINDS`, or `REST`.
        seconds: the shortest of its runs.
        macs: multiply-adds; 0 where it has none.
    """

    name: str
    operator: str
    kind: str
    seconds: float
    macs: int


@dataclass(frozen=True)
class Profile:
    """The nodes of one contestant.

    Attributes:
        name: detector, input and mode.
        seconds: of the shortest whole run of the graph.
        nodes: in the runtime's order.
    """

    name: str
    seconds: float
    nodes: Sequence[NodeTime]


class Limit(NamedTuple):
    """What the machine can do at best, measured in the same run: one of seconds for `macs`
    multiply-adds or `moved` bytes.
    """

    name: str
    seconds: float
    macs: int = 0
    moved: int = 0


def kind_of(operator: str) -> str:
    """The kind of a node that multiplies nothing."""
    for kind, operators in KINDS.items():
        if operator in operators:
            return kind
    return REST
