"""AttoNet backbones and Atto-MaskRCNN for Detectron2. Importing this loads neither torch nor it.

`create_backbone`, `create_classifier`, `find_network` and `list_backbones` need only torch,
`Predictor` uses Detectron2 or else torchvision (`atto_det.engine`), `OnnxDetector` needs a runtime
for ONNX, and `optimise_for_inference` Detectron2, with which `import atto_det.detectron2` registers
everything.
"""

import importlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atto_det.design.networks import find_network
    from atto_det.detectron2.inference import optimise_for_inference
    from atto_det.detectron2.predictor import Predictor
    from atto_det.export.runtimes import OnnxDetector
    from atto_det.nets.registry import list_backbones
    from atto_det.weights.create import create_backbone, create_classifier

__version__ = "0.2.0.dev0"
__all__ = [
    "OnnxDetector",
    "Predictor",
    "create_backbone",
    "create_classifier",
    "find_network",
    "list_backbones",
    "optimise_for_inference",
]

_HOMES = {
    "OnnxDetector": "atto_det.export.runtimes",
    "create_backbone": "atto_det.weights.create",
    "create_classifier": "atto_det.weights.create",
    "find_network": "atto_det.design.networks",
    "list_backbones": "atto_det.nets.registry",
    "optimise_for_inference": "atto_det.detectron2.inference",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "Predictor":
        engine = importlib.import_module("atto_det.engine")
        return engine.choose(say=logging.getLogger(__name__).info).Predictor
    raise AttributeError(f"module 'atto_det' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
