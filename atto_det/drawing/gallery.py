"""Annotated pictures of data sets, image files and videos, for whichever engine predicts.

A predictor is a callable from a BGR uint8 picture (H, W, 3) to `atto_det.evaluation.Detections`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

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
from atto_det.errors import UserError
from atto_det.evaluation import Detections

Predictor = Callable[[np.ndarray], Detections]
Tile = tuple[str, np.ndarray]  # name, BGR picture

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (*CODECS, ".mov", ".mkv", ".webm")


def list_images(inputs: Sequence[str | Path]) -> list[Path]:
    """The image files among `inputs`, and those directly in its folders, sorted.

    Raises:
        UserError: an input does not exist, is no image by its suffix, or a folder without images.
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
                f"{item} is no image: its suffix is none of {', '.join(IMAGE_SUFFIXES)}"
            )
        else:
            result.append(item)
    return result


def image_names(paths: Sequence[Path]) -> Iterator[str]:
    """A name for each picture: its own without the suffix, numbered where another has it too."""
    taken: set[str] = set()
    for path in paths:
        name, number = path.stem, 1
        while name in taken:
            number += 1
            name = f"{path.stem}_{number}"
        taken.add(name)
        yield name


def check_targets(folder: Path, images: Sequence[Path], videos: Sequence[Path]) -> list[Path]:
    """The files in `folder` that the annotated videos go to.

    Raises:
        UserError: an annotated picture or video would overwrite an input, or another video.
    """
    sources = {path.resolve() for path in (*images, *videos)}
    targets = [folder / f"{video.stem}.mp4" for video in videos]
    for target in [*targets, *(folder / f"{name}.png" for name in image_names(images))]:
        if target.resolve() in sources:
            raise UserError(f"{target} is one of the inputs: choose another --output")
        if targets.count(target) > 1:
            raise UserError(f"two videos would be written to {target}: draw them one by one")
    return targets


def predict_image(
    predictor: Predictor,
    image: np.ndarray,
    class_names: Sequence[str],
    threshold: float,
    labels: Labels = "auto",
) -> np.ndarray:
    """A copy of a BGR picture with the detections of at least score `threshold` drawn."""
    return draw_detections(image, predictor(image), class_names, threshold, labels)


def draw_detections(
    image: np.ndarray,
    found: Detections,
    class_names: Sequence[str],
    threshold: float,
    labels: Labels = "auto",
) -> np.ndarray:
    """A copy of a BGR picture with those of `found` drawn whose score is at least `threshold`."""
    kept = np.flatnonzero(found.scores >= threshold)
    return draw_instances(
        image,
        found.boxes[kept],
        None if found.rles is None else [found.rles[k] for k in kept],
        found.classes[kept],
        class_names,
        found.scores[kept],
        labels,
    )


def draw_truth(
    image: np.ndarray,
    record: data.ImageRecord,
    class_names: Sequence[str],
    labels: Labels = "auto",
) -> np.ndarray:
    """A copy of a BGR picture with the objects of its record drawn."""
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
    predictor: Predictor | None,
    threshold: float,
    limit: int | None,
    labels: Labels = "auto",
) -> Iterator[Tile]:
    """Ground truth of each picture, beside the prediction where there is a predictor."""
    for record in dataset.records[:limit]:
        image = np.ascontiguousarray(data.read_image(record.file_name)[:, :, ::-1])
        truth = draw_truth(image, record, dataset.class_names, labels)
        if predictor is not None:
            predicted = predict_image(predictor, image, dataset.class_names, threshold, labels)
            truth = side_by_side(truth, predicted)
        yield record.image_id, truth


def image_tiles(
    paths: Sequence[Path],
    predictor: Predictor,
    class_names: Sequence[str],
    threshold: float,
    labels: Labels = "auto",
) -> Iterator[Tile]:
    """Predictions on image files. Files of one name in several folders keep distinct names."""
    for name, path in zip(image_names(paths), paths, strict=True):
        image = np.ascontiguousarray(data.read_image(path)[:, :, ::-1])
        yield name, predict_image(predictor, image, class_names, threshold, labels)


def write_tiles(tiles: Iterable[Tile], folder: Path, sheet: Path | None, columns: int) -> None:
    """Write each picture to `folder`/<name>.png, or all of them on one contact sheet.

    Raises:
        UserError: a file cannot be written.
    """
    if sheet is not None:
        names, pictures = zip(*tiles, strict=True)
        write_image(sheet, contact_sheet(pictures, names, columns=columns))
        return
    for name, picture in tiles:
        write_image(folder / f"{name}.png", picture)


def annotate_video(
    source: Path,
    target: Path,
    predictor: Predictor,
    class_names: Sequence[str],
    threshold: float,
    track: Callable[[Iterator[np.ndarray], int], Iterator[np.ndarray]],
    labels: Labels = "auto",
) -> int:
    """Write `source` with predictions drawn to `target`; returns the number of frames.

    Args:
        track: wraps the frames (and their stated number) to show progress.

    Raises:
        UserError: no readable video, or a target that cannot be written.
    """
    video = Video(source)
    count = 0
    with video_writer(target, video.size, video.fps) as add:
        for frame in track(iter(video), video.frame_count):
            add(predict_image(predictor, frame, class_names, threshold, labels))
            count += 1
    return count
