"""The processes that load pictures, and the error when the system ends one of them."""

from collections.abc import Iterator
from contextlib import contextmanager

from atto_det.errors import UserError


@contextmanager
def death_as_sentence(fewer: str) -> Iterator[None]:
    """Turn the error of a loader whose worker process was killed into a `UserError`.

    torch raises it wherever the main process is at that moment, so this wraps a whole training.

    Args:
        fewer: the keys that reduce the memory that loading takes.

    Raises:
        UserError: it names them.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        reason = str(error).splitlines()[0].rstrip(". ")
        raise UserError(
            f"a process that loads pictures was ended by the system ({reason}), most often because "
            f"the memory ran out: lower {fewer}"
        ) from error
