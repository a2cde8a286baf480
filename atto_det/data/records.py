"""Plain records that every reader gives: files, sizes and objects, before any framework.

Boxes are XYXY in continuous pixel coordinates with the origin at the top left corner of the
picture: VOC's 1-based inclusive (xmin, ymin, xmax, ymax) becomes (xmin - 1, ymin - 1, xmax, ymax).
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Instance:
    """One object.

    Attributes:
        category: 0-based index into `Dataset.class_names`.
        box: XYXY in pixels, as annotated (it may be wider than the mask).
        rle: mask at the size of the image, {"size": [height, width], "counts": bytes}, as
            `pycocotools.mask.encode` gives it.
        difficult: VOC's mark for objects that are hard to recognise.
    """

    category: int
    box: tuple[float, float, float, float]
    rle: dict
    difficult: bool = False


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One picture (`file_name` is absolute; height and width in pixels) and its objects.

    `sem_seg_file_name` is a PNG whose palette index is the class + 1 (0 background, 255 void).
    """

    image_id: str
    file_name: str
    height: int
    width: int
    instances: tuple[Instance, ...]
    sem_seg_file_name: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong in a data set; `message` is one sentence naming the file and the object."""

    severity: Literal["error", "warning"]
    kind: str
    image_id: str
    message: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """The pictures of one split, in the order of its list.

    `findings` are warnings; each stands for one annotated object that is left out of the records.
    """

    class_names: tuple[str, ...]
    records: tuple[ImageRecord, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def left_out(self) -> int:
        """Number of annotated objects that no record contains."""
        return len(self.findings)
