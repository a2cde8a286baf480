"""8-bit convolutions and dense layers in an exported graph, by ONNX Runtime's static quantisation.

Weights are symmetric around zero with a scale for each output channel; activations are uint8 with
one range each, measured on real pictures. They are uint8 rather than int8 because ONNX Runtime on a
CPU is only fast for products of uint8 and int8: AttoNet-A's backbone took 0.38 of its time in
single precision with uint8 activations and 1.1 with int8 ones (x86 with VNNI, 2 threads). Weights
use 7 of their 8 bits, since an x86 CPU without VNNI adds pairs of such products in 16 bits, and
pairs of full range saturate there (`docs/export.md` says what that cost).

Proposals, non-maximum suppression, ROIAlign and the last layers, whose outputs are boxes, scores
and masks, stay in single precision.
"""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx

from atto_det.errors import UserError

from .runtimes import open_runtime

WEIGHTED = ("Conv", "Gemm")
CARRIERS = ("Add", "Concat", "Gather", "MaxPool", "Relu", "Transpose")  # also 8 bits in a backbone
LAST = ("/rpn/head/last", "/box_predictor/")
BACKBONE = "/model/backbone/"  # prefix of the node names of a detector's backbone


def quantise(source: Path, target: Path, inputs: Iterable[np.ndarray], *, detector: bool) -> int:
    """Write the graph of `source` with 8-bit layers to `target`.

    Args:
        inputs: used to measure ranges. Those for which an output is empty are skipped, since they
            do not reach all layers.
        detector: whether the graph is a detector's, in which the backbone is only a part.

    Returns:
        The number of inputs that ranges were measured on.

    Raises:
        UserError: no input reaches all layers.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    run = open_runtime(source, "onnxruntime")
    useful = [value for value in inputs if all(output.size for output in run(value).values())]
    if not useful:
        raise UserError("calibration needs pictures in which the model finds something")
    [name] = (item.name for item in onnx.load(source).graph.input)
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            _CalibrationReader({name: value} for value in useful),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=[*WEIGHTED, *CARRIERS],
            nodes_to_quantize=_chosen(onnx.load(prepared), BACKBONE if detector else ""),
        )
    return len(useful)


def _chosen(model: onnx.ModelProto, backbone: str) -> list[str]:
    """Names of the nodes that will work in 8 bits."""
    chosen = {
        node.name: node.output[0]
        for node in model.graph.node
        if (node.op_type in WEIGHTED and not any(part in node.name for part in LAST))
        or (node.op_type in CARRIERS and node.name.startswith(backbone))
    }
    inner = set(chosen.values())
    relus = (node for node in model.graph.node if node.op_type == "Relu")
    return [*chosen, *(node.name for node in relus if node.input[0] in inner)]


class _CalibrationReader:
    """Returns inputs by name, in the form that `quantize_static` expects: None after the last."""

    def __init__(self, inputs: Iterator[dict[str, np.ndarray]]) -> None:
        self._inputs = inputs

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input."""
        return next(self._inputs, None)
