"""What a user sees when something is wrong: one sentence, and no half-written file."""

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
import sys
import tempfile
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO


class UserError(ValueError):
    """A mistake in the input. Its message is one sentence: what is wrong, where, what to do."""


def shown(value: object, most: int = 200) -> str:
    """A value from a file, for a sentence: one line of at most so many characters, whatever it is.

    Lists and dicts show their first entries; an error or a path shows as its text.
    """
    form = reprlib.Repr()
    form.maxstring = form.maxother = form.maxlong = most
    try:
        text = str(value) if isinstance(value, Exception | os.PathLike) else form.repr(value)
    except ValueError:  # a number of thousands of digits
        text = f"a {type(value).__name__}"
    text = text.replace("\0", "\\x00").replace("\n", " ")
    return text if len(text) <= most else f"{text[: most - 1]}…"


def command_line(main: Callable[..., int | None]) -> Callable[..., int]:
    """Wrap a tool's `main`, so that what ends it is one line and an exit status.

    A `UserError`, a package that is missing, a path that is too long or closed to the user: 1, and
    `error: …`. Ctrl-C: 130. Nobody reads the output any more, as after `| head -1`: 141, without a
    message, as of a program in C. What the terminal's encoding lacks is printed as its nearest of
    ASCII.
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
            if isinstance(end.__context__, KeyboardInterrupt):  # Lightning's way
                return _interrupted()
            raise
        except BrokenPipeError:
            if not _is_closed(sys.stdout):  # a pipe of another kind
                raise
            with Path(os.devnull).open("w") as nowhere:  # for what Python writes at its end
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            return 141
        except OSError as error:
            if error.errno not in _OF_A_PATH or error.filename is None:
                raise
            print(f"error: {shown(Path(error.filename))}: {error.strerror}", file=sys.stderr)
            return 1

    return wrapped


# What a path that was given is wrong by, wherever it is first looked at.
_OF_A_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS)
PLAIN = "atto_det.plain"  # the name of `_plain` among the handlers of errors of encodings
_NEAREST = {"≥": ">=", "≤": "<=", "×": "x", "–": "-", "—": "-", "→": "->", "±": "+-", "µ": "u"}


def _plain(error: UnicodeError) -> tuple[str, int]:
    """The nearest of ASCII to characters that cannot be encoded; `?` where there is none."""
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
    """Whether nobody reads what is written to a pipe."""
    try:
        stream.flush()
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except BrokenPipeError:
        return True
    except (AttributeError, OSError, ValueError):  # no poll on Windows; no file in a notebook
        return False


def _missing_package(error: ModuleNotFoundError) -> str:
    """The sentence for a package of an extra that is not installed; raises any other error."""
    if error.name is None:  # some libraries raise it themselves, with advice
        return shown(error)
    from importlib import metadata  # takes longer than all else here

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
    format by it, and has the number of this process: what a killed one left is cleared away by the
    next that writes to the folder.

    Raises:
        UserError: the target cannot be written (missing rights, a full disk); it names `path`.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}.{_owner()}-", suffix=path.suffix
        )
        os.close(handle)
        temporary = Path(name)
        # mkstemp gives 0600; the file should have the rights that open() would have given it.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except BrokenPipeError:
        raise  # of what is printed meanwhile
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, as `atomic_path` does a file.

    Raises:
        UserError: the folder cannot be written; it names `path`.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        prefix = f".{path.name}.{_owner()}-"
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=prefix))
        temporary.chmod(0o755)
        yield temporary
        temporary.rename(path)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


_TEMPORARY = re.compile(  # version 0.1.0 wrote no owner
    r"\.(?P<stem>.+?)\.((?P<host>[0-9a-f]{8})_(?P<process>\d+)-)?[a-z0-9_]{8}(?P<suffix>\.\w+)?"
)
_swept: set[Path] = set()  # a look at a folder is enough, since it may hold very many files


def temporary_of(name: str) -> str | None:
    """The name of the file that a temporary one of `atomic_path` was to become; None of others."""
    found = _TEMPORARY.fullmatch(name)
    return found and found["stem"] + (found["suffix"] or "")


def _owner() -> str:
    """This machine and process, in a file name."""
    return f"{_host()}_{os.getpid()}"


def _host() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _sweep(folder: Path) -> None:
    """Remove what processes of this machine that have ended were writing to a folder."""
    if folder in _swept:
        return
    _swept.add(folder)
    with suppress(OSError):  # what cannot be removed must not keep us from writing
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
    except (OSError, OverflowError):  # another user's
        return True
    return True


def write_error(path: str | os.PathLike, error: OSError) -> UserError:
    """The sentence for an `OSError` met while `path` was being written."""
    if error.errno == errno.ENOSPC:
        return UserError(f"{path} was not written: the disk is full; free some space and run again")
    return UserError(f"{path} was not written: {error.strerror or error}")


class Outputs:
    """Makes the paths of outputs that are called after something, inside one folder.

    A name may come from a downloaded file: of an absolute one, or one with `..`, only what lies
    below is kept, so that it never leads out of the folder. A name that is taken is numbered.

    Args:
        folder: that the user named.
        suffix: such as ".png".
    """

    def __init__(self, folder: str | os.PathLike, suffix: str) -> None:
        self.folder, self.suffix = Path(folder), suffix
        self.taken: set[str] = set()

    def __call__(self, name: str) -> Path:
        """The path of the output called after `name`.

        Raises:
            UserError: a link in the folder leads out of it.
        """
        parts = [part for part in re.split(r"[/\\]", name) if part.strip(". ")]
        parts = [re.sub(r"[\x00-\x1f<>:\"|?*]", "_", part)[:150] for part in parts] or ["unnamed"]
        stem = number = "/".join(parts)
        count = 1
        while number.casefold() in self.taken:  # some file systems take A for a
            count += 1
            number = f"{stem}_{count}"
        self.taken.add(number.casefold())
        path = self.folder / f"{number}{self.suffix}"
        if not path.parent.resolve().is_relative_to(self.folder.resolve()):
            raise UserError(f"{path.parent} is a link that leads out of {self.folder}: remove it")
        return path


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse to write over what is read.

    Raises:
        UserError: an output is one of the inputs, whatever links lead to it.
    """
    sources = {path.resolve() for path in inputs}
    for target in outputs:
        if target.resolve() in sources:
            raise UserError(f"{target} is one of the inputs: choose another --output")
