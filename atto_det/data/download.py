"""Fetching VOC 2012: a resumable download, checked by md5 and unpacked safely."""

import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from atto_det.errors import UserError, atomic_folder, write_error

VOC_URL = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
VOC_MD5 = "6cd6e144f989b92b3379bac3b3de84fd"
_CHUNK = 1 << 20
_TIMEOUT = 60  # seconds without receiving a byte

# Called with the number of bytes received and the total (None if it is unknown).
ByteProgress = Callable[[int, int | None], None]
# Wraps the list of the archive's members, such as `rich.progress.track`.
MemberProgress = Callable[[Sequence[tarfile.TarInfo]], Iterable[tarfile.TarInfo]]


def download(
    url: str, path: str | os.PathLike, md5: str, progress: ByteProgress = lambda done, total: None
) -> None:
    """Fetch `url` to `path`, continuing from `<path>.part` if an earlier attempt left one.

    Raises:
        UserError: the connection fails or breaks (what was received is kept), the md5 differs (what
            was received is removed), or the disk is full.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, progress)
        if (found := _md5(part)) != md5:
            part.unlink()
            raise UserError(
                f"{url} gave a file with md5 {found} instead of {md5}, which was removed: run"
                " again, or choose a mirror with --url"
            )
        part.replace(path)
    except OSError as error:
        raise write_error(part, error) from error


def fetch_voc(
    data_root: str | os.PathLike,
    url: str = VOC_URL,
    md5: str = VOC_MD5,
    byte_progress: ByteProgress = lambda done, total: None,
    member_progress: MemberProgress = iter,
) -> Path:
    """Download VOC 2012 and unpack it to `data_root`/VOC2012; the tar is removed afterwards.

    Raises:
        UserError: the target already exists, or there is a tar with another md5 beside it; see also
            `download` and `unpack_voc`.
    """
    target = Path(data_root) / "VOC2012"
    if target.exists():
        raise UserError(f"{target} exists, but is not a whole VOC 2012: move it away and run again")
    archive = Path(data_root) / "VOCtrainval_11-May-2012.tar"
    if not archive.exists():
        download(url, archive, md5, byte_progress)
    elif (found := _md5(archive)) != md5:
        raise UserError(
            f"{archive} has the md5 {found}, and VOC's archive {md5}: move it away and run again"
        )
    unpack_voc(archive, target, member_progress)
    archive.unlink()
    return target


def unpack_voc(
    archive: str | os.PathLike, target: str | os.PathLike, progress: MemberProgress = iter
) -> None:
    """Unpack VOC's tar and move its VOCdevkit/VOC2012 to `target`, completely or not at all.

    Only files and folders are unpacked, all below one root; links, devices and paths that lead out
    of it are refused.

    Raises:
        UserError: the archive is unsafe, damaged or not VOC's, or the disk is full.
    """
    archive, target = Path(archive), Path(target)
    try:
        with atomic_folder(target) as temporary:
            everything = temporary / ".archive"
            with tarfile.open(archive) as tar:
                members = tar.getmembers()
                targets = [_target(member, everything.resolve(), archive) for member in members]
                for member, place in zip(progress(members), targets, strict=True):
                    _unpack(tar, member, place)
            unpacked = everything / "VOCdevkit" / "VOC2012"
            if not unpacked.is_dir():
                raise UserError(f"{archive} has no VOCdevkit/VOC2012: it is not VOC's archive")
            for path in unpacked.iterdir():
                path.rename(temporary / path.name)
            shutil.rmtree(everything)
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{archive} is not a whole tar archive ({error}): remove it") from error


def _target(member: tarfile.TarInfo, root: Path, archive: Path) -> Path:
    """The path that a member is unpacked to.

    Raises:
        UserError: it is not a plain file or folder, or leads out of `root`.
    """
    plain = member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
    # The root is empty at first and links are never created, so this also holds during unpacking.
    path = (root / member.name).resolve() if "\0" not in member.name else root.parent
    if not plain or not path.is_relative_to(root):
        reason = "leads out of it" if plain else "is neither a file nor a folder"
        raise UserError(f"{archive} is unsafe to unpack ({member.name!r} {reason}): remove it")
    return path


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tar.extractfile(member) as content, path.open("xb") as file:
        shutil.copyfileobj(content, file)
        if file.tell() != member.size:
            raise tarfile.ReadError("unexpected end of data")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _fetch(url: str, part: Path, progress: ByteProgress) -> None:
    done = part.stat().st_size if part.exists() else 0
    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            if response.status != 206:  # the server does not support resuming: start again
                done = 0
            length = response.headers.get("Content-Length")
            total = done + int(length) if length else None
            with part.open("ab" if done else "wb") as file:
                progress(done, total)
                while block := _read(response, url, part):
                    _write(file, block, part)
                    done += len(block)
                    progress(done, total)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # complete; only the check was missing in an earlier run
            return
        raise UserError(f"{url} cannot be downloaded: HTTP {error.code} {error.reason}") from error
    except UserError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"{url} cannot be downloaded: {reason}") from error
    if total is not None and done < total:
        raise _broken(url, part, f"{done:,} of {total:,} bytes were received")


def _read(response: http.client.HTTPResponse, url: str, part: Path) -> bytes:
    try:
        return response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _broken(url, part, str(error)) from error


def _write(file, block: bytes, part: Path) -> None:
    try:
        file.write(block)
        file.flush()
    except OSError as error:
        raise write_error(part, error) from error


def _broken(url: str, part: Path, reason: str) -> UserError:
    return UserError(
        f"the download of {url} was interrupted ({reason}): run again to continue {part.name}"
    )
