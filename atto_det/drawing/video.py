"""Reading the frames of a video, and writing one completely or not at all, with OpenCV."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from atto_det.drawing.instances import check_image
from atto_det.errors import UserError, atomic_path, utf8

logger = logging.getLogger(__name__)
# By suffix, the best first; every build of OpenCV can write the last. For licence reasons, most
# builds lack an encoder of H.264 (avc1), which is the format that browsers play.
CODECS = {".mp4": ("avc1", "mp4v"), ".avi": ("MJPG",)}


class Video:
    """The frames of a video file, which can be iterated over once.

    size is (width, height) in pixels, fps frames per second, frame_count what the file states (0 if
    it does not; a truncated file has fewer). Frames are BGR uint8 (height, width, 3), turned
    upright if the file says so.

    Raises:
        UserError: the file is missing, OpenCV cannot read it, or it states no frame rate.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        if not Path(path).is_file():
            raise UserError(f"{path} does not exist or is not a file; name a video file")
        self._capture = cv2.VideoCapture(_checked(path))
        readable, self._first = self._capture.read()
        if not readable:
            raise UserError(f"{path} is not a video that OpenCV can read, or holds no frame")
        # The header may state the size before turning, so the frame's is used.
        self.size = (self._first.shape[1], self._first.shape[0])
        self.fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.frame_count = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        if not 0 < self.fps < 1e4:
            raise UserError(f"{path} states no frame rate; convert it to .mp4 first")

    def __iter__(self) -> Iterator[np.ndarray]:
        frame, readable = self._first, True
        while readable:
            yield frame
            readable, frame = self._capture.read()
        self._capture.release()


@contextmanager
def video_writer(
    path: str | os.PathLike, size: tuple[int, int], fps: float
) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that adds one BGR uint8 frame of `size` (width, height) to a new video.

    The file appears when the block ends without an error. `.mp4` is H.264 if OpenCV can write it,
    else MPEG-4, which is logged; `.avi` is Motion JPEG. If a side is odd, its last pixels are
    repeated once, since video formats need even sides.

    Raises:
        UserError: another suffix, a frame of another size, no frame, or a file that cannot be
            written completely.
    """
    path = Path(path)
    codecs = CODECS.get(path.suffix.lower())
    if codecs is None:
        raise UserError(f"{path} was not written: a video's suffix must be {' or '.join(CODECS)}")
    count, odd = 0, (size[0] % 2, size[1] % 2)
    even = (size[0] + odd[0], size[1] + odd[1])

    def add(frame: np.ndarray) -> None:
        nonlocal count
        check_image(frame)
        if (frame.shape[1], frame.shape[0]) != tuple(size):  # OpenCV would silently drop it
            raise UserError(
                f"{path} was not written: frame {count} is {frame.shape[1]}×{frame.shape[0]} "
                f"pixels but the video {size[0]}×{size[1]}"
            )
        writer.write(cv2.copyMakeBorder(frame, 0, odd[1], 0, odd[0], cv2.BORDER_REPLICATE))
        count += 1

    with atomic_path(path) as temporary:
        writer, codec = _open(temporary, codecs, fps, even)
        try:
            if not writer.isOpened():
                raise UserError(
                    f"{path} was not written: OpenCV cannot make a {path.suffix} of "
                    f"{size[0]}×{size[1]} pixels at {fps:g} frames a second"
                )
            yield add
        finally:
            writer.release()
        if count == 0:
            raise UserError(f"{path} was not written: it would hold no frame")
        if codec != codecs[0]:
            logger.warning(
                "%s is MPEG-4, since this OpenCV cannot write H.264: browsers need it converted, "
                "as by ffmpeg -i %s -c:v libx264 out.mp4",
                *(path, path.name),
            )
        # OpenCV does not report failed writes, so the frames in the result are counted.
        stored = int(cv2.VideoCapture(str(temporary)).get(cv2.CAP_PROP_FRAME_COUNT))
        if stored != count:
            raise UserError(
                f"{path} was not written: only {max(0, stored)} of {count} frames were stored; "
                f"is the disk full?"
            )


def _open(
    path: Path, codecs: tuple[str, ...], fps: float, size: tuple[int, int]
) -> tuple[cv2.VideoWriter, str]:
    """A writer with the first of the codecs that OpenCV supports, and that codec."""
    logs = cv2.utils.logging
    level = logs.getLogLevel()
    logs.setLogLevel(logs.LOG_LEVEL_SILENT)  # it logs a lot about a codec that it lacks
    try:
        for codec in codecs:
            writer = cv2.VideoWriter(_checked(path), cv2.VideoWriter.fourcc(*codec), fps, size)
            if writer.isOpened():
                break
    finally:
        logs.setLogLevel(level)
    return writer, codec


def _checked(path: str | os.PathLike) -> str:
    """The path as text for OpenCV, which would crash at a name that is not UTF-8.

    Raises:
        UserError: it is such a name.
    """
    name = os.fspath(path)
    if name != utf8(name):
        raise UserError(f"{name!a} is not in UTF-8, which OpenCV needs for videos: rename it")
    return name
