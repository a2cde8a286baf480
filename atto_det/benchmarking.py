"""What a benchmark of detectors times, whichever engine runs them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from atto_det import data
from atto_det.data.mini_voc_paint import paint_grain, paint_scene

SEED = 1


class Unavailable(RuntimeError):
    """A mode that does not work here; the message says why."""


@dataclass(frozen=True)
class Entry:
    """One detector in one mode, and its work.

    Attributes:
        detector: a config file, or one of `detection.baselines.ZOO`.
        mode: "eager", Detectron2's model as built; "fast", by `optimise_for_inference`; "compile",
            that and torch.compile on the bottom-up network, the RPN head and the box head;
            "torchvision", "onnx", "onnx-int8", "openvino", "openvino-int8", the other engines.
        height, width: of the picture in pixels.
        proposals, detections: in each picture; None for the model's own limits.
        batch: pictures at once.
        device: "cpu" or "cuda…".
        classes: instead of the config's count; 20 for a baseline.
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


def picture(entry: Entry) -> np.ndarray:
    """The picture of an entry at its size: uint8 (3, height, width).

    Raises:
        UserError: the picture is missing or damaged.
    """
    if entry.image is None:
        rng = np.random.default_rng(SEED)
        pixels = paint_grain(rng, paint_scene(rng, entry.height, entry.width))
    else:
        size = (entry.width, entry.height)
        pixels = Image.fromarray(data.read_image(entry.image))
        pixels = np.asarray(pixels.resize(size, Image.Resampling.BILINEAR))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
