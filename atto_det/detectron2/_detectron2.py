"""Imports Detectron2, or reports in one sentence that it is missing."""

import importlib
import logging
import warnings

from atto_det.errors import UserError


class MissingDetectron2(UserError, ImportError):
    """Detectron2 is not installed."""


# Detectron2 uses functions that newer versions of torch deprecate, which users cannot change.
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", "torch.meshgrid: in an upcoming release")
# For masks, which Detectron2 copies before anything writes to them.
warnings.filterwarnings("ignore", "The given NumPy array is not writable")
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        importlib.import_module("detectron2.modeling")
except ImportError as error:
    raise MissingDetectron2(
        "atto_det.detectron2 needs Detectron2, which cannot be imported here "
        f"({error}): pip install --no-build-isolation -r requirements/detectron2.txt"
    ) from error
