"""Detectors in parts, run by LiteRT or ExecuTorch, with the call of the other detectors."""

from pathlib import Path

import numpy as np
import torch

from atto_det import data
from atto_det.errors import UserError
from atto_det.evaluation import Detections
from atto_det.evaluation.tiling import check_tile, detect_in_tiles
from atto_det.ops.resize import resize
from atto_det.torchvision.predictor import to_detections

from .host import Host, Mistake, open_folder


def open_parts(folder: str | Path, threads: int = 1) -> Host:
    """`host.open_folder`, whose mistakes become a `UserError`."""
    try:
        return open_folder(folder, threads)
    except Mistake as mistake:
        raise UserError(str(mistake)) from mistake
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is not installed, which runs {folder}: docs/export.md describes its "
            "environment under On a phone"
        ) from error


class PartsDetector:
    """A detector that `atto-det export --format litert` wrote, used like `atto_det.Predictor`.

    Args:
        source: the folder, or its `Host`.
        threads: of the runtime.
        tile: side in pixels of the tiles that larger pictures are cut into, as in `Predictor`.

    Attributes:
        about: the description in the folder.
        class_names: name of each class index.

    Raises:
        UserError: a missing, damaged or foreign folder, or its runtime is not installed.
    """

    def __init__(
        self, source: str | Path | Host, *, threads: int = 1, tile: int | None = None
    ) -> None:
        check_tile(tile)
        self.tile = tile
        self.host = source if isinstance(source, Host) else open_parts(source, threads)
        self.about, self.class_names = self.host.about, self.host.class_names

    def __call__(self, image: str | Path | np.ndarray, *, order: str = "BGR") -> Detections:
        """Detect objects in a picture: a path, or uint8 (H, W, 3) in BGR order, as OpenCV reads it.

        Args:
            order: of an array's channels: "BGR" or "RGB".

        Returns:
            Boxes, masks and scores at the picture's own size, highest score first.

        Raises:
            UserError: an unreadable picture, an array of the wrong shape or type, or a part that
                gives values that are not finite.
        """
        image = data.take_picture(image, self.about["channel_order"], order)
        return detect_in_tiles(self._detect, image, self.tile)

    def _detect(self, image: np.ndarray) -> Detections:
        """Detections in uint8 (H, W, 3), in the description's order of channels."""
        shape = self.host.shape(*image.shape[:2])
        try:
            boxes, classes, scores, masks = self.host(resize(np.ascontiguousarray(image), *shape))
        except Mistake as mistake:
            raise UserError(f"{mistake}: the model's weights are damaged") from mistake
        found = {
            "boxes": torch.from_numpy(boxes),
            "labels": torch.from_numpy(classes + 1),
            "scores": torch.from_numpy(scores),
            "masks": torch.from_numpy(masks)[:, None],
        }
        return to_detections(found, shape, image.shape[:2])
