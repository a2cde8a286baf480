"""Where data sets lie."""

import os
from pathlib import Path


def data_root() -> Path:
    """Folder that the data sets lie in: `DETECTRON2_DATASETS`, or `datasets`, made absolute."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser().absolute()
