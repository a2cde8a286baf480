"""Chooses the engine: Detectron2, or torchvision with Lightning if there is no Detectron2.

Both are packages with the same names: `ENGINE`, `load_config`, `load_dataset`, `Predictor`, `run`,
`training_scenes`.
"""

import importlib
import os
from collections.abc import Callable
from types import ModuleType

from atto_det.errors import UserError

PACKAGES = {"detectron2": "atto_det.detectron2", "torchvision": "atto_det.torchvision"}
NAMES = ("auto", *PACKAGES)


def choose(name: str = "auto", say: Callable[[str], object] | None = print) -> ModuleType:
    """The package of an engine: "detectron2", "torchvision", or "auto" for the first available.

    Args:
        say: called with a line that says which engine runs, and why.

    Raises:
        UserError: no such engine, or Detectron2 is requested and cannot be imported.
    """
    if name not in NAMES:
        raise UserError(f"there is no engine {name}: choose one of {', '.join(NAMES)}")
    reason = ""
    if name == "auto":
        try:
            importlib.import_module(PACKAGES["detectron2"])
            name = "detectron2"
        except ImportError as error:
            if not isinstance(error, UserError):
                raise  # another package is missing
            name, reason = "torchvision", f" (Detectron2 cannot be imported: {error.__cause__})"
    package = importlib.import_module(PACKAGES[name])
    if say and os.environ.get("LOCAL_RANK", "0") == "0":  # once, if there are several processes
        say(f"engine: {name}{reason}")
    return package
