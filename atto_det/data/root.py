"""The folder of the data sets."""

import os
from pathlib import Path


def data_root() -> Path:
    """The folder that contains the data sets: `DETECTRON2_DATASETS`, or `datasets`; absolute."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser().absolute()
