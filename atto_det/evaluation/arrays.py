"""The inputs of an evaluation: the objects and detections of one image, as plain arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as rle_masks

from atto_det.errors import UserError


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """The N objects of one image, including crowd regions.

    boxes: float (N, 4), x1 y1 x2 y2 in continuous pixel coordinates, origin at the picture's top
        left corner, so that a box one pixel wide has x2 - x1 = 1.
    rles: N masks in pycocotools' compressed form, {"size": [height, width], "counts": bytes}.
        Void pixels belong to no object. None if only boxes are annotated.
    classes: integer (N,), index into the class names.
    difficult: bool (N,).
    crowd: bool (N,), which of them are regions in which objects were not separated (COCO's
        iscrowd); None if there are none.
    """

    boxes: np.ndarray
    rles: Sequence[dict] | None
    classes: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray | None = None

    @property
    def is_crowd(self) -> np.ndarray:
        """`crowd`, or all False if that is None."""
        return np.zeros(len(self.boxes), bool) if self.crowd is None else self.crowd

    def without_crowds(self) -> "GroundTruth":
        """The objects without crowd regions."""
        kept = np.flatnonzero(~self.is_crowd)
        rles = None if self.rles is None else [self.rles[k] for k in kept]
        return GroundTruth(self.boxes[kept], rles, self.classes[kept], self.difficult[kept])


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The M detections in one image, in any order.

    boxes: float (M, 4), as in `GroundTruth`.
    rles: M masks at the picture's own size, as in `GroundTruth`; None for a model without masks.
    classes: integer (M,), index into the class names.
    scores: float (M,), higher is surer.
    """

    boxes: np.ndarray
    rles: Sequence[dict] | None
    classes: np.ndarray
    scores: np.ndarray

    def at_least(self, score: float) -> "Detections":
        """Those of at least this score."""
        kept = np.flatnonzero(self.scores >= score)
        rles = None if self.rles is None else [self.rles[k] for k in kept]
        return Detections(self.boxes[kept], rles, self.classes[kept], self.scores[kept])


def encode_masks(masks: np.ndarray) -> list[dict]:
    """Masks bool (N, H, W) compressed by pycocotools; fastest if stored column by column."""
    return [rle_masks.encode(np.asfortranarray(mask.view(np.uint8))) for mask in masks]


def encode_crop(crop: np.ndarray, x: int, y: int, height: int, width: int) -> dict:
    """A mask of a picture that is zero outside of a crop, as `encode_masks` gives it.

    In time and memory of the crop, whatever the size of the picture.

    Args:
        crop: bool (h, w), fastest with columns first in memory; does not exceed the picture.
        x, y: of the crop's first pixel.
    """
    high, wide = crop.shape
    columns = np.zeros((wide, high + 1), bool)  # each ends outside of the mask
    columns[:, :high] = crop.T
    flat = columns.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[:1].any():
        edges = np.concatenate([[0], edges])
    edges = (x + edges // (high + 1)) * height + y + edges % (high + 1)
    if high == height:  # a column's end is the beginning of the next one
        values, times = np.unique(edges, return_counts=True)
        edges = values[times == 1]
    if not edges.size or edges[-1] != height * width:
        edges = np.append(edges, height * width)
    return compress_runs([np.diff(edges, prepend=0)], height, width)[0]


def compress_runs(runs: Sequence[np.ndarray], height: int, width: int) -> list[dict]:
    """Masks given as run lengths of zeros and ones in turn, column by column, compressed."""
    masks = ({"size": [height, width], "counts": counts} for counts in runs)
    return [rle_masks.frPyObjects(mask, height, width) for mask in masks]


def have_masks(
    ground_truth: Mapping[str, GroundTruth], detections: Mapping[str, Detections]
) -> bool:
    """Whether masks can be compared: neither objects nor detections have only boxes."""
    sides = (*ground_truth.values(), *detections.values())
    return all(side.rles is not None for side in sides)


def mask_areas(rles: Sequence[dict]) -> np.ndarray:
    """Pixels of each mask, int64 (N,).

    `pycocotools.mask.area` overflows with numpy 2 if it gets more than 255 masks at once.
    """
    parts = [rle_masks.area(list(rles[k : k + 255])) for k in range(0, len(rles), 255)]
    return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)


_DTYPES = {
    "boxes": ("f", "floating-point numbers"),
    "classes": ("iu", "integers"),
    "scores": ("f", "floating-point numbers"),
    "difficult": ("b", "booleans"),
    "crowd": ("b", "booleans"),
}


def check_image(
    image_id: str, objects: GroundTruth, found: Detections | None, num_classes: int
) -> None:
    """Raise a `UserError` naming image and key unless both inputs are as their classes specify.

    The masks of objects and detections must have the same size, since they are compared.
    """
    sizes = _check(f"the ground truth of image {image_id}", objects, "difficult", num_classes)
    if found is not None:
        where = f"the detections of image {image_id}"
        found_sizes = _check(where, found, "scores", num_classes)
        if sizes and found_sizes and sizes != found_sizes:
            raise UserError(
                f"{where}: the masks are {_text(found_sizes)} pixels but the ground truth's are "
                f"{_text(sizes)}; paste the masks at the picture's own size"
            )


def _check(where: str, value: GroundTruth | Detections, flag: str, num_classes: int) -> set:
    """Check one of the two dataclasses; returns the set of its mask sizes (at most one)."""
    count = len(value.boxes if value.rles is None else value.rles)
    shapes = {"boxes": (count, 4), "classes": (count,), flag: (count,)}
    if getattr(value, "crowd", None) is not None:
        shapes["crowd"] = (count,)
    for key, shape in shapes.items():
        array = getattr(value, key)
        kinds, words = _DTYPES[key]
        if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
            raise UserError(f"{where}: {key} must be a numpy array of {words}")
        if array.shape != shape:
            raise UserError(
                f"{where}: {key} has shape {array.shape}, but {count} "
                f"{'boxes' if value.rles is None else 'masks'} need {shape}"
            )
        if kinds == "f" and not np.isfinite(array).all():
            raise UserError(f"{where}: {key} holds a value that is not finite")
    if count == 0:
        return set()
    if (value.boxes[:, 2:] < value.boxes[:, :2]).any():
        row = int(np.argmax((value.boxes[:, 2:] < value.boxes[:, :2]).any(axis=1)))
        raise UserError(
            f"{where}: box {row} is {value.boxes[row].tolist()}, whose far corner comes before its "
            f"near one; give x1 y1 x2 y2"
        )
    outside = (value.classes < 0) | (value.classes >= num_classes)
    if outside.any():
        raise UserError(
            f"{where}: class {value.classes[outside][0]} is not an index of the {num_classes} "
            f"class names"
        )
    if value.rles is None:
        return set()
    try:
        sizes = {tuple(rle["size"]) for rle in value.rles}
        compressed = all(isinstance(rle["counts"], bytes | str) for rle in value.rles)
    except (TypeError, KeyError):
        compressed = False
    if not compressed:
        raise UserError(
            f"{where}: rles must be pycocotools' compressed masks, with size and counts"
        )
    if len(sizes) > 1:
        raise UserError(f"{where}: the masks are of different sizes ({_text(sizes)} pixels)")
    return sizes


def _text(sizes: set) -> str:
    """Mask sizes as width×height."""
    return ", ".join(f"{width}×{height}" for height, width in sorted(sizes))
