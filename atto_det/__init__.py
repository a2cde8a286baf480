"""AttoNet backbones and Atto-MaskRCNN for Detectron2. Importing this loads neither torch nor it.

`create_backbone` and `create_classifier` need torch alone, `Predictor` needs Detectron2, and
`import atto_det.detection` registers everything with Detectron2.
"""

import importlib

__version__ = "0.1.0"
__all__ = ["Predictor", "create_backbone", "create_classifier"]

_HOMES = {
    "create_backbone": "atto_det.nets",
    "create_classifier": "atto_det.nets",
    "Predictor": "atto_det.detection",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'atto_det' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
