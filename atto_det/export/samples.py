"""Pictures on which exported files are checked and calibrated, uint8 RGB (H, W, 3)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from atto_det import data
from atto_det.data import VOC_CLASSES, catalog, mini_voc_paint
from atto_det.drawing.gallery import list_images
from atto_det.errors import UserError
from atto_det.torchvision.config import config_from_text
from atto_det.weights import checkpoint

MOST_PICTURES = 32
"""Number of pictures to calibrate on: more would hardly change the ranges."""


def pictures_to_check(inputs: Sequence[str | Path]) -> list[np.ndarray]:
    """The given image files and those in given folders; without any, a painted picture.

    Raises:
        UserError: an input does not exist, or is not a picture.
    """
    if inputs:
        return [data.read_image(path) for path in list_images(inputs)]
    rng = np.random.default_rng(0)
    canvas = mini_voc_paint.paint_scene(rng, 480, 640)
    for index, name in enumerate(VOC_CLASSES[:12]):
        row, column = divmod(index, 4)
        mini_voc_paint.paint_sprite(rng, name, 150.0).paste(canvas, 160 * column, 155 * row)
    return [mini_voc_paint.paint_grain(rng, canvas)]


def calibration_pictures(source: str, path: str | Path) -> list[np.ndarray]:
    """At most `MOST_PICTURES` pictures, evenly taken from a folder or a data set.

    Args:
        source: the folder, or a data set's name: a built-in one, or one in the checkpoint's config.
        path: the checkpoint.

    Raises:
        UserError: `source` is neither a folder nor a data set, or a picture is unreadable.
    """
    if Path(source).is_dir():
        files = list_images([source])
    else:
        part = checkpoint.load_checkpoint(path).get("atto_det")
        if isinstance(part, dict) and isinstance(part.get("config"), str):
            where = f"the config in checkpoint {path}"
            catalog.register_own_data(config_from_text(part["config"], where))
        if source not in catalog.names():
            raise UserError(
                f"--calibration {source} is neither a folder nor a data set: known are "
                f"{', '.join(catalog.names())}"
            )
        files = [record.file_name for record in catalog.load_dataset(source).records]
    places = np.linspace(0, len(files) - 1, min(MOST_PICTURES, len(files))).round().astype(int)
    return [data.read_image(files[place]) for place in places]
