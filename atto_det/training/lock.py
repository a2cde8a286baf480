"""One run at a time in a folder."""

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from atto_det.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

logger = logging.getLogger(__name__)

_locks: set[int] = set()  # file descriptors


def _release_in_child() -> None:
    """Close the descriptors that a forked process inherited: the lock ends with its owner."""
    while _locks:
        os.close(_locks.pop())


if fcntl is not None:
    os.register_at_fork(after_in_child=_release_in_child)


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Keep other runs out of a folder. The system releases the lock when the process ends.

    The folder itself is locked, so that no lock file remains. If the file system does not support
    locks, a warning is logged.

    Raises:
        UserError: another run is using the folder.
    """
    file = None
    with suppress(OSError):  # whoever writes there will report what is wrong with the folder
        output.mkdir(parents=True, exist_ok=True)
        file = os.open(output, os.O_RDONLY) if fcntl is not None else None
    if file is None:
        yield
        return
    _locks.add(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        _release(file)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise UserError(
                f"another run is using {output}: wait until it ends, or set OUTPUT_DIR elsewhere"
            ) from None
        logger.warning("%s cannot be locked (%s): do not start a second run in it", output, error)
        yield
        return
    try:
        yield
    finally:
        _release(file)


def _release(file: int) -> None:
    if file in _locks:  # otherwise this is a forked process
        _locks.remove(file)
        os.close(file)
