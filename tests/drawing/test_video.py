"""Videos go in and come out whole, or with one sentence."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from atto_det.drawing.video import CODECS, Video, video_writer
from atto_det.errors import UserError


def frame(k: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A grey that tells the frame's number."""
    return np.full((height, width, 3), 20 + 10 * k, dtype=np.uint8)


def write(path: Path, count: int = 20, size: tuple[int, int] = (64, 48)) -> None:
    with video_writer(path, size, 12.5) as add:
        for k in range(count):
            add(frame(k, size[1], size[0]))


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.MP4"])
def test_what_was_written_is_read(tmp_path: Path, name: str) -> None:
    write(tmp_path / "new" / name)
    video = Video(tmp_path / "new" / name)
    assert video.size == (64, 48)
    assert video.fps == pytest.approx(12.5)
    assert video.frame_count == 20
    frames = list(video)
    assert [round(f.mean()) for f in frames] == pytest.approx(
        [20 + 10 * k for k in range(20)], abs=4
    )
    assert {f.shape for f in frames} == {(48, 64, 3)}
    assert [p.name for p in (tmp_path / "new").iterdir()] == [name]


def test_the_first_codec_that_there_is_and_a_line_where_it_is_not_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("atto_det.drawing"), "handlers", [caplog.handler])
    monkeypatch.setitem(CODECS, ".mp4", ("none", "mp4v"))
    write(tmp_path / "a.mp4")
    assert "a.mp4 is MPEG-4, since this OpenCV cannot write H.264" in caplog.messages[0]
    caplog.clear()
    monkeypatch.setitem(CODECS, ".mp4", ("mp4v", "none"))
    write(tmp_path / "b.mp4")
    assert not caplog.messages
    assert Video(tmp_path / "a.mp4").frame_count == Video(tmp_path / "b.mp4").frame_count == 20


def test_odd_sides_lose_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", size=(65, 47))
    assert Video(tmp_path / "a.mp4").size == (66, 48)


def test_a_failure_leaves_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"

    def stop_after_one(then: Callable[[Callable], None]) -> None:
        with video_writer(path, (64, 48), 25) as add:
            add(frame(0))
            then(add)

    with pytest.raises(UserError, match="frame 1 is 32×48 pixels but the video 64×48"):
        stop_after_one(lambda add: add(frame(1, width=32)))
    with pytest.raises(ZeroDivisionError):
        stop_after_one(lambda add: 1 / 0)
    with pytest.raises(UserError, match="would hold no frame"), video_writer(path, (64, 48), 25):
        pass
    with pytest.raises(UserError, match=r"suffix must be \.mp4 or \.avi"):
        write(tmp_path / "a.gif")
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, signal, sys
import numpy as np
from atto_det.errors import UserError
from atto_det.drawing.video import video_writer

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # no file grows beyond this
noise = np.random.default_rng(0)
try:
    with video_writer(sys.argv[1], (320, 240), 25) as add:
        for _ in range(20):
            add(noise.integers(0, 256, (240, 320, 3), dtype=np.uint8))
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["a.mp4", "a.avi"])
def test_a_disk_that_fills_up_is_noticed(tmp_path: Path, repository: Path, name: str) -> None:
    # OpenCV only logs that frames could not be written.
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / name)],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{name} was not written: only " in run.stdout
    assert "is the disk full?" in run.stdout
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(UserError, match=r"text\.mp4 is not a video that OpenCV can read"):
        Video(tmp_path / "text.mp4")
    for path in (tmp_path / "none.mp4", tmp_path):
        with pytest.raises(UserError, match="does not exist or is not a file"):
            Video(path)
    unnamed = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    unnamed.write_bytes(b"")
    with pytest.raises(UserError, match=r"caf\\udce9\.mp4' is not in UTF-8"):
        Video(unnamed)
    write(tmp_path / "whole.mp4")
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"cut\.mp4 is not a video"):
        Video(tmp_path / "cut.mp4")
