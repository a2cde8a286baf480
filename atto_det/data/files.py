"""Reads files whose names come from elsewhere, such as from a downloaded annotation file."""

import errno
import os
from pathlib import Path


def read_bytes(path: str | os.PathLike) -> bytes:
    """The content of a file.

    Raises:
        OSError: it cannot be read, or is a device or a pipe, reading which may never end.
    """
    check_file(path)
    return Path(path).read_bytes()


def read_utf8(path: str | os.PathLike) -> str:
    """The content of a UTF-8 file, without a byte order mark.

    Raises:
        OSError: as `read_bytes`.
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_bytes(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def check_file(path: str | os.PathLike) -> None:
    """Refuse devices, pipes and the like. A folder passes, since reading it raises an error.

    Raises:
        OSError: the file is missing, or is neither a file nor a folder.
    """
    path = Path(path)
    path.stat()
    if not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a file", str(path))
