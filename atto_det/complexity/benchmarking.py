"""The cases of a benchmark of detectors, whichever engine runs them."""

from dataclasses import dataclass
from pathlib import Path

SEED = 1  # of the weights and the painted picture


class Unavailable(RuntimeError):
    """A mode that does not work here; the message says why."""


@dataclass(frozen=True)
class BenchmarkCase:
    """One detector in one mode, and its workload.

    Attributes:
        detector: a config file, one of `detectron2.baselines.ZOO`, or an ONNX file of any network.
        mode: "eager", Detectron2's model as built; "fast", by `optimise_for_inference`; "compile",
            that and torch.compile on the bottom-up network, the RPN head and the box head;
            "torchvision", "onnx", "onnx-int8", "openvino", "openvino-bf16", "openvino-int8",
            "onnx-cuda", "onnx-tensorrt", the other engines.
        height, width: of the picture in pixels.
        proposals, detections: per picture; None for the model's own limits.
        batch: pictures at once.
        device: "cpu" or "cuda…".
        classes: replaces the config's count; 20 for a baseline.
        image: a picture, or None for a painted one.
    """

    detector: str
    mode: str
    height: int
    width: int
    proposals: int | None = None
    detections: int | None = None
    batch: int = 1
    device: str = "cpu"
    classes: int | None = None
    image: str | None = None

    @property
    def name(self) -> str:
        """Detector, input and mode."""
        return f"{Path(self.detector).stem} {self.height}x{self.width} {self.mode}"
