"""AttoNet backbones and Atto-MaskRCNN for Detectron2. Importing this loads neither torch nor it.

`create_backbone` and `create_classifier` need torch alone, `Predictor` takes Detectron2 or else
torchvision (`atto_det.engine`), and `import atto_det.detectron2` registers everything with
Detectron2.
"""

import importlib
import logging

__version__ = "0.1.0"
__all__ = ["Predictor", "create_backbone", "create_classifier"]

_HOMES = {
    "create_backbone": "atto_det.nets",
    "create_classifier": "atto_det.nets",
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
