"""Where the time of a graph goes: its nodes by kind, beside what the machine can do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

PRODUCTS = "dense and matrix products"
KINDS = {  # of nodes without multiply-adds, by operators of ONNX Runtime, OpenVINO and PyTorch
    "ROIAlign": ("RoiAlign", "ROIAlign", "roi_align", "embedding_bag"),
    "non-maximum suppression": ("NonMaxSuppression", "nms"),
    "top-k": ("TopK", "topk"),
    "layout": ("Transpose", "ReorderInput", "ReorderOutput", "Reorder", "contiguous"),
    "conversion to and from 8 bits": (
        *("QuantizeLinear", "DequantizeLinear", "FakeQuantize", "Convert", "Cast"),
    ),
    "gather, concatenate, slice": (
        *("Gather", "GatherND", "GatherElements", "Concat", "QLinearConcat", "Slice", "Split"),
        *("VariadicSplit", "StridedSlice", "Pad", "Tile", "Expand", "index", "index_put"),
        *("index_select", "gather", "cat", "stack", "slice", "select", "split"),
    ),
    "pooling and resizing": (
        *("MaxPool", "NhwcMaxPool", "AveragePool", "Resize", "Upsample", "Interpolate"),
        *("max_pool2d", "upsample_nearest2d", "grid_sampler"),
    ),
}
REST = "elementwise and shapes"


class NodeTime(NamedTuple):
    """One node of a graph as a runtime executes it, or one operator that PyTorch executes.

    Attributes:
        name: in the runtime; several nodes of the file may have become one. In PyTorch, operator
            and shapes of inputs.
        operator: the runtime's name of what it does.
        kind: of layer, such as "1x1 convolution", or a key of `KINDS`, or `REST`.
        seconds: the shortest of its runs, or in PyTorch that of the shortest whole run.
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
        seconds: of the shortest whole run of the graph, or of the detector in PyTorch.
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


def convolution(weights: Sequence[int], channels: int | None = None) -> str:
    """The kind of a convolution.

    Args:
        weights: their shape, (O, I, …), or (I, O, …) of a transposed one.
        channels: of the input; None for a transposed convolution.
    """
    size = "x".join(map(str, weights[2:]))
    if channels is None:
        return f"{size} transposed convolution"
    if channels == weights[1]:
        return f"{size} convolution"
    return f"{size} convolution, {'depthwise' if weights[1] == 1 else 'grouped'}"


def kind_of(operator: str) -> str:
    """The kind of a node that multiplies nothing."""
    for kind, operators in KINDS.items():
        if operator in operators:
            return kind
    return REST
