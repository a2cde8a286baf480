"""Annotated pictures of data sets, image files and videos, for whichever engine predicts.

A predictor is a callable from a uint8 picture (H, W, 3), and the order of its channels, to
`atto_det.evaluation.Detections`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from atto_det import data
from atto_det.drawing.instances import (
    Labels,
    contact_sheet,
    draw_instances,
    side_by_side,
    write_image,
)
from atto_det.drawing.video import CODECS, Video, video_writer
from atto_det.errors import Outputs, UserError, check_outputs
from atto_det.evaluation import Detections
from atto_det.evaluation.arrays import encode_masks

Tile = tuple[str, np.ndarray]  # name, BGR picture

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (*CODECS, ".mov", ".mkv", ".webm")


class PicturePredictor(Protocol):
    """Detects the objects that are drawn."""

    def __call__(self, image: np.ndarray, *, order: str = "BGR") -> Detections:
        """Detections in a picture whose channels have this order."""


def to_bgr(image: np.ndarray) -> np.ndarray:
    """A copy of an RGB picture in OpenCV's channel order, to draw on."""
    return np.ascontiguousarray(data.in_order(image, "RGB", "BGR"))


def list_images(inputs: Sequence[str | Path]) -> list[Path]:
    """The image files among `inputs`, and those directly in its folders, sorted.

    Raises:
        UserError: an input does not exist, is not an image by its suffix, or is an empty folder.
    """
    result = []
    for item in map(Path, inputs):
        if item.is_dir():
            files = (p for p in item.iterdir() if p.is_file())
            found = sorted(p for p in files if p.suffix.lower() in IMAGE_SUFFIXES)
            if not found:
                raise UserError(f"folder {item} holds no image ({', '.join(IMAGE_SUFFIXES)})")
            result += found
        elif not item.exists():
            raise UserError(f"{item} does not exist")
        elif item.suffix.lower() not in IMAGE_SUFFIXES:
            raise UserError(
                f"{item} is not an image: its suffix is none of {', '.join(IMAGE_SUFFIXES)}"
            )
        else:
            result.append(item)
    return result


def check_targets(
    folder: Path, images: Sequence[Path], videos: Sequence[Path], sheet: Path | None = None
) -> list[Path]:
    """The files in `folder` that the annotated videos are written to.

    Args:
        sheet: one file for all pictures, instead of one for each.

    Raises:
        UserError: an annotated picture or video would overwrite an input, or another video.
    """
    targets = [folder / f"{video.stem}.mp4" for video in videos]
    for target in targets:
        if targets.count(target) > 1:
            raise UserError(f"two videos would be written to {target}: draw them separately")
    outputs = Outputs(folder, ".png")
    pictures = [outputs(path.stem) for path in images] if sheet is None else [sheet]
    check_outputs([*targets, *pictures], [*images, *videos])
    return targets


def check_dataset_target(folder: Path, dataset: data.Dataset, sheet: Path | None = None) -> None:
    """Refuse to draw into the folders of a data set's pictures and labels.

    Raises:
        UserError: `folder`, or that of the sheet, is one of them.
    """
    own = set()
    for record in dataset.records:
        own.add(Path(record.file_name).parent)
        if record.sem_seg_file_name:
            labels = Path(record.sem_seg_file_name).parent
            own |= {labels, labels.with_name("SegmentationObject")}
    place = folder if sheet is None else sheet.parent
    if place.resolve() in {path.resolve() for path in own}:
        raise UserError(f"{place} holds the data set's own files: choose another --output")


def draw_detections(
    image: np.ndarray,
    found: Detections,
    class_names: Sequence[str],
    threshold: float,
    labels: Labels = "auto",
) -> np.ndarray:
    """A copy of a BGR picture, with those of `found` whose score is at least `threshold` drawn."""
    found = found.at_least(threshold)
    return draw_instances(
        image, found.boxes, found.rles, found.classes, class_names, found.scores, labels
    )


def draw_truth(
    image: np.ndarray,
    record: data.ImageRecord,
    class_names: Sequence[str],
    labels: Labels = "auto",
) -> np.ndarray:
    """A copy of a BGR picture, with the objects of its record drawn."""
    objects = record.instances
    return draw_instances(
        image,
        np.array([o.box for o in objects]).reshape(-1, 4),
        [o.rle for o in objects],
        [o.category for o in objects],
        class_names,
        labels=labels,
    )


def dataset_tiles(
    dataset: data.Dataset,
    predictor: PicturePredictor | None,
    threshold: float,
    limit: int | None,
    labels: Labels = "auto",
) -> Iterator[Tile]:
    """The ground truth of each picture, beside the prediction if there is a predictor."""
    for record in dataset.records[:limit]:
        image = data.read_image(record.file_name)
        canvas, names = to_bgr(image), dataset.class_names
        truth = draw_truth(canvas, record, names, labels)
        if predictor is not None:
            found = predictor(image, order="RGB")
            truth = side_by_side(truth, draw_detections(canvas, found, names, threshold, labels))
        yield record.image_id, truth


def scene_tiles(
    scenes: Iterable[tuple[str, Any]],
    class_names: Sequence[str],
    labels: Labels = "auto",
    order: str = "RGB",
) -> Iterator[Tile]:
    """Training pictures as the network sees them, enlarged so that labels are readable.

    Args:
        scenes: name, and an `atto_det.training.scene.Scene`.
        order: of the channels of their pictures.
    """
    for name, scene in scenes:
        scale = max(1, round(480 / min(scene.image.shape[:2])))
        image, masks = data.in_order(scene.image, order, "BGR"), scene.masks
        if masks is not None:
            masks = encode_masks(masks.repeat(scale, 1).repeat(scale, 2).astype(bool))
        yield (
            name,
            draw_instances(
                np.ascontiguousarray(image.repeat(scale, 0).repeat(scale, 1)),
                scene.boxes * scale,
                masks,
                scene.classes,
                class_names,
                labels=labels,
            ),
        )


def image_tiles(
    paths: Sequence[Path],
    predictor: PicturePredictor,
    class_names: Sequence[str],
    threshold: float,
    labels: Labels = "auto",
) -> Iterator[Tile]:
    """Predictions on image files, each named after its file."""
    for path in paths:
        image = data.read_image(path)
        found = predictor(image, order="RGB")
        yield path.stem, draw_detections(to_bgr(image), found, class_names, threshold, labels)


def write_tiles(tiles: Iterable[Tile], folder: Path, sheet: Path | None, columns: int) -> None:
    """Write each picture to `folder`/<name>.png, or all of them on one contact sheet.

    If a name occurs twice, or would lead out of the folder, `Outputs` changes it.

    Raises:
        UserError: a file cannot be written.
    """
    if sheet is not None:
        names, pictures = zip(*tiles, strict=True)
        write_image(sheet, contact_sheet(pictures, names, columns=columns))
        return
    outputs = Outputs(folder, ".png")
    for name, picture in tiles:
        write_image(outputs(name), picture)


def annotate_video(
    source: Path,
    target: Path,
    predictor: PicturePredictor,
    class_names: Sequence[str],
    threshold: float,
    track: Callable[[Iterator[np.ndarray], int], Iterator[np.ndarray]],
    labels: Labels = "auto",
) -> int:
    """Write `source` with drawn predictions to `target`; returns the number of frames.

    Args:
        track: wraps the frames (and their stated number) to show progress.

    Raises:
        UserError: no readable video, or a target that cannot be written.
    """
    video = Video(source)
    count = 0
    with video_writer(target, video.size, video.fps) as add:
        for frame in track(iter(video), video.frame_count):
            add(draw_detections(frame, predictor(frame), class_names, threshold, labels))
            count += 1
    return count
