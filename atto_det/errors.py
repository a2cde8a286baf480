"""Error handling for users: one sentence for each mistake, and no half-written files."""

import codecs
import errno
import functools
import io
import os
import platform
import re
import reprlib
import select
import shutil
import signal
import sys
import tempfile
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO


class UserError(ValueError):
    """A mistake in the input. Its message is one sentence: what is wrong, where, and what to do."""


def utf8(text: str) -> str:
    """Text in which question marks replace what a file name that is not UTF-8 stands for."""
    return text.encode(errors="replace").decode()


def shown(value: object, most: int = 200) -> str:
    """A value from a file as one line of at most `most` characters, for use in a message.

    Lists and dicts show their first entries; errors and paths show their text.
    """
    form = reprlib.Repr()
    form.maxstring = form.maxother = form.maxlong = most
    try:
        text = str(value) if isinstance(value, Exception | os.PathLike) else form.repr(value)
    except ValueError:  # an integer with thousands of digits
        text = f"a {type(value).__name__}"
    text = text.replace("\0", "\\x00").replace("\n", " ")
    return text if len(text) <= most else f"{text[: most - 1]}…"


def command_line(main: Callable[..., int | None]) -> Callable[..., int]:
    """Wrap a tool's `main` so that errors end it with one line and an exit status.

    Exit status 1 with `error: …`: a `UserError`, a missing package, or a path that is too long or
    not permitted. 130: Ctrl-C. 143: SIGTERM in one of Lightning's trainings. 141, without a
    message, as C programs do: the reader of the output has gone, as with `| head -1`. Characters
    that the terminal's encoding lacks are printed as their nearest ASCII equivalent.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs) -> int:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors=PLAIN)
        try:
            try:
                return main(*args, **kwargs) or 0
            finally:
                sys.stdout.flush()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except ModuleNotFoundError as error:
            print(f"error: {_missing_package(error)}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return _interrupted()
        except SystemExit as end:
            if isinstance(end.__context__, KeyboardInterrupt):  # Lightning exits on Ctrl-C
                return _interrupted()
            if type(end) is not SystemExit:  # Lightning's, without a status, after SIGTERM
                return 128 + signal.SIGTERM
            raise
        except BrokenPipeError:
            if not _is_closed(sys.stdout):  # another pipe
                raise
            with Path(os.devnull).open("w") as nowhere:  # for what Python flushes when it exits
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            return 141
        except OSError as error:
            if error.errno not in _OF_A_PATH or error.filename is None:
                raise
            print(f"error: {shown(Path(error.filename))}: {error.strerror}", file=sys.stderr)
            return 1

    return wrapped


# Errors that mean that a given path is unusable, wherever it is first accessed.
_OF_A_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS)
PLAIN = "atto_det.plain"  # the name under which `_plain` is registered as encoding error handler
_NEAREST = {"≥": ">=", "≤": "<=", "×": "x", "–": "-", "—": "-", "→": "->", "±": "+-", "µ": "u"}


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Characters that cannot be encoded as their nearest ASCII equivalent, or as `?`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    nearest = ""
    for character in error.object[error.start : error.end]:
        base = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        nearest += _NEAREST.get(character) or base or "?"
    return nearest, error.end


codecs.register_error(PLAIN, _plain)


def _interrupted() -> int:
    print("interrupted", file=sys.stderr)
    return 130


def _is_closed(stream: TextIO) -> bool:
    """Whether the reading end of a pipe is closed."""
    try:
        stream.flush()
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except BrokenPipeError:
        return True
    except (AttributeError, OSError, ValueError):  # Windows has no poll, a notebook no file
        return False


def _missing_package(error: ModuleNotFoundError) -> str:
    """The message for a missing package of one of our extras; raises any other error again."""
    if error.name is None:  # raised by a library itself, with advice
        return shown(error)
    from importlib import metadata  # slower to import than everything else here

    with suppress(metadata.PackageNotFoundError):
        for requirement in metadata.requires("atto_det") or []:
            pattern = rf"{error.name.partition('.')[0]}\b.*\bextra == ['\"](?!dev)(\w+)"
            if extra := re.match(pattern, requirement):
                return f"{error.name} is missing: pip install 'atto_det[{extra[1]}]'"
    raise error


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to it on success and removed on failure.

    The temporary name keeps the suffix of `path`, since OpenCV, Pillow and matplotlib choose the
    format by it. It also contains the process number: what a killed process left is removed by the
    next process that writes to the folder.

    Raises:
        UserError: the target cannot be written (no permission, a full disk); it names `path`.
    """
    path = Path(path)
    with _writing(path):
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}.{_owner()}-", suffix=path.suffix
        )
        os.close(handle)
        temporary = Path(name)
        try:
            # mkstemp creates files with mode 0600; use the mode that open() would have given.
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o666 & ~mask)
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_file(path: str | os.PathLike, content: str | bytes) -> None:
    """Write a file completely or not at all; text is encoded as UTF-8.

    Raises:
        UserError: it cannot be written.
    """
    with atomic_path(path) as temporary:
        if isinstance(content, str):
            temporary.write_text(content, encoding="utf-8")
        else:
            temporary.write_bytes(content)


@contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, with the same guarantees as `atomic_path`.

    Raises:
        UserError: the folder cannot be written; it names `path`.
    """
    path = Path(path)
    with _writing(path):
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.{_owner()}-"))
        try:
            temporary.chmod(0o755)
            yield temporary
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Make the folder of `path`; any `OSError` becomes a `UserError` that names `path`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        yield
    except BrokenPipeError:
        raise  # from something that was printed inside the block, not from the file
    except OSError as error:
        raise write_error(path, error) from error


_TEMPORARY = re.compile(  # version 0.1.0 did not write the owner
    r"\.(?P<stem>.+?)\.((?P<host>[0-9a-f]{8})_(?P<process>\d+)-)?[a-z0-9_]{8}(?P<suffix>\.\w+)?"
)
_swept: set[Path] = set()  # each folder is scanned once, since it may hold very many files


def temporary_of(name: str) -> str | None:
    """The final name of a temporary file of `atomic_path`; None for any other name."""
    found = _TEMPORARY.fullmatch(name)
    return found and found["stem"] + (found["suffix"] or "")


def _owner() -> str:
    """This machine and process, as part of a file name."""
    return f"{_host()}_{os.getpid()}"


def _host() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _sweep(folder: Path) -> None:
    """Remove the unfinished files of processes of this machine that have ended."""
    if folder in _swept:
        return
    _swept.add(folder)
    with suppress(OSError):  # failing to clean up must not prevent writing
        for path in folder.iterdir():
            found = _TEMPORARY.fullmatch(path.name)
            if not found or found["host"] != _host() or _runs(int(found["process"])):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's process
        return True
    return True


def write_error(path: str | os.PathLike, error: OSError) -> UserError:
    """The error for an `OSError` that occurred while `path` was being written."""
    if error.errno == errno.ENOSPC:
        return UserError(f"{path} was not written: the disk is full; free some space and run again")
    if isinstance(error, FileExistsError | NotADirectoryError):  # mkdir's, if a file is in the way
        for above in Path(path).parents:
            if above.is_file():
                return UserError(
                    f"{path} was not written: {above} is a file, not a folder; choose another place"
                )
    return UserError(f"{path} was not written: {error.strerror or error}")


class Outputs:
    """Creates the paths of outputs that are named after inputs, inside one folder.

    A name may come from a downloaded file, so absolute paths and `..` are stripped: an output never
    leaves the folder. A name that is already taken gets a number.

    Args:
        folder: the folder that the user named.
        suffix: such as ".png".
    """

    def __init__(self, folder: str | os.PathLike, suffix: str) -> None:
        self.folder, self.suffix = Path(folder), suffix
        self.taken: set[str] = set()

    def __call__(self, name: str) -> Path:
        """The path of the output named after `name`.

        Raises:
            UserError: a link in the folder leads out of it.
        """
        parts = [part for part in re.split(r"[/\\]", name) if part.strip(". ")]
        parts = [re.sub(r"[\x00-\x1f<>:\"|?*]", "_", part) for part in parts] or ["unnamed"]
        parts = [_shortened(part) for part in parts]
        stem = number = "/".join(parts)
        count = 1
        while number.casefold() in self.taken:  # some file systems ignore case
            count += 1
            number = f"{stem}_{count}"
        self.taken.add(number.casefold())
        path = self.folder / f"{number}{self.suffix}"
        if not path.parent.resolve().is_relative_to(self.folder.resolve()):
            raise UserError(f"{path.parent} is a link that leads out of {self.folder}: remove it")
        return path


def _shortened(name: str, most: int = 150) -> str:
    """A name of at most so many bytes: file systems allow 255, and `atomic_path` adds some."""
    encoded = name.encode(errors="surrogatepass")
    return name if len(encoded) <= most else encoded[:most].decode(errors="ignore").rstrip()


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse to overwrite an input.

    Raises:
        UserError: an output is one of the inputs, possibly through links.
    """
    sources = {path.resolve() for path in inputs}
    for target in outputs:
        if target.resolve() in sources:
            raise UserError(f"{target} is one of the inputs: choose another --output")
