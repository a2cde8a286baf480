"""Finds the pictures of ImageNet (ILSVRC2012) in the layouts that are in use.

Training pictures, in the first folder of `TRAIN_FOLDERS` that has one of the classes:
  <wnid>/*.JPEG   folders
  <wnid>.tar      the official tar, unpacked once. If a class has both, the tar is used, since an
                  interrupted unpacking leaves an incomplete folder beside it.
or in ILSVRC2012_img_train.tar itself.

Validation pictures, in the first folder of `VAL_FOLDERS` that has some:
  <wnid>/*.JPEG   folders
  ILSVRC2012_val_<number>.JPEG   all in one folder, with labels from Kaggle or the devkit
or in ILSVRC2012_img_val.tar itself, with the same labels (see imagenet_labels.py).

Nothing is unpacked: a picture in a tar, or in a tar within a tar, is a range of that file.
"""

import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from atto_det.data.image_folder import (
    FILE,
    FOLDER,
    is_hidden,
    is_picture,
    list_folder,
    list_pictures,
    require_classes,
)
from atto_det.data.imagenet_labels import VAL_PREFIX, read_val_labels
from atto_det.errors import UserError

KAGGLE = "ILSVRC/Data/CLS-LOC"
TRAIN_FOLDERS = ("train", f"{KAGGLE}/train", "ILSVRC2012_img_train", ".")
VAL_FOLDERS = ("val", f"{KAGGLE}/val", "ILSVRC2012_img_val", ".")
TRAIN_TAR, VAL_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
_BLOCK = 512  # bytes; tar's unit


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture in its place.

    Attributes:
        name: of its file, without a folder.
        path: of its file, or of the tar that contains it.
        size: bytes.
        offset: of its first byte in the tar; None for a file of its own.
    """

    name: str
    path: Path
    size: int
    offset: int | None = None

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            UserError: they cannot be read, or their number has changed.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset or 0)
                content = file.read(-1 if self.offset is None else self.size)
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror or error}") from error
        if len(content) != self.size:
            raise UserError(
                f"{self.path} gave {len(content)} bytes of {self.name} instead of {self.size}: it"
                " has changed or is truncated"
            )
        return content


@dataclass(frozen=True, slots=True)
class SplitPictures:
    """The pictures of one split.

    Attributes:
        layout: the layout in which they were found, in words.
        pictures: by class, in the order of the list.
    """

    layout: str
    pictures: dict[str, list[PictureFile]]


def find_train(root: Path, classes: Sequence[str]) -> SplitPictures:
    """The training pictures of `classes` under `root`.

    Raises:
        UserError: no known layout is found, a class is missing or empty, or a tar is damaged.
        OSError: something cannot be read.
    """
    wanted = set(classes)
    for folder in _folders(root, TRAIN_FOLDERS):
        entries = list_folder(folder)
        folders = {name for name in wanted if entries.get(name) == FOLDER}
        tars = {name for name in wanted if entries.get(f"{name}.tar") == FILE}
        if not folders and not tars:
            continue
        require_classes(classes, folders | tars, folder, "neither a folder nor a tar")
        pictures = {
            name: _in_tar(folder / f"{name}.tar") if name in tars else _in_folder(folder / name)
            for name in classes
        }
        kinds = ["folders"] * (not folders <= tars) + ["tars"] * bool(tars)
        return SplitPictures(f"{' and '.join(kinds)} of classes in {folder}", pictures)
    if (archive := root / TRAIN_TAR).is_file():
        return SplitPictures(f"{archive}", _in_tar_of_tars(archive, classes))
    raise UserError(
        f"{root} has no training pictures of the listed classes, such as {classes[0]}: expected"
        f" train/<wnid>/, <wnid>.tar (in it or in train/), {KAGGLE}/train/<wnid>/ or {TRAIN_TAR}"
    )


def find_val(root: Path, classes: Sequence[str]) -> SplitPictures:
    """The validation pictures of `classes` under `root`.

    Raises:
        UserError: no known layout is found, a class is missing or empty, the labels are missing or
            do not match the pictures, or a tar is damaged.
        OSError: something cannot be read.
    """
    for folder in _folders(root, VAL_FOLDERS):
        entries = list_folder(folder)
        flat = [n for n in entries if n.startswith(VAL_PREFIX) and is_picture(n)]
        # Class folders directly in `root` are training pictures.
        folders = {n for n, kind in entries.items() if kind == FOLDER and folder != root}
        if folders.intersection(classes):
            if flat:
                raise UserError(
                    f"{folder} has class folders, but {len(flat)} pictures beside them: finish"
                    " sorting them into the folders"
                )
            require_classes(classes, folders, folder, "no folder")
            found = {name: _in_folder(folder / name) for name in classes}
            return SplitPictures(f"folders of classes in {folder}", found)
        if flat:
            pictures = [_file(folder / name) for name in flat]
            return _by_label(root, folder, pictures, classes)
    if (archive := root / VAL_TAR).is_file():
        return _by_label(root, archive, _in_tar(archive), classes)
    raise UserError(
        f"{root} has no validation pictures of the listed classes, such as {classes[0]}: expected"
        f" val/<wnid>/, {VAL_PREFIX}*.JPEG (in it, in val/ or in {KAGGLE}/val/) or {VAL_TAR}"
    )


def _folders(root: Path, names: Iterable[str]) -> list[Path]:
    return [root / name for name in names if (root / name).is_dir()]


def _in_folder(folder: Path) -> list[PictureFile]:
    return [_file(path) for path in list_pictures(folder)]


def _file(path: Path) -> PictureFile:
    return PictureFile(path.name, path, path.stat().st_size)


def _by_label(
    root: Path, where: Path, pictures: list[PictureFile], classes: Sequence[str]
) -> SplitPictures:
    """Assign unsorted validation pictures to classes, by labels that must cover all of them."""
    labels, source = read_val_labels(root)
    there = {PurePosixPath(picture.name).stem: picture for picture in pictures}
    if unknown := sorted(there.keys() - labels.keys()):
        raise UserError(f"{source} says nothing of {unknown[0]}, which is in {where}")
    found: dict[str, list[PictureFile]] = {name: [] for name in classes}
    for stem, name in labels.items():
        if name not in found:
            continue
        if stem not in there:
            raise UserError(f"{where} lacks {stem}.JPEG, of the class {name} by {source}")
        found[name].append(there[stem])
    require_classes(classes, [name for name in found if found[name]], source, "no picture")
    return SplitPictures(f"unsorted pictures in {where}, labels of {source}", found)


def _in_tar(path: Path) -> list[PictureFile]:
    with path.open("rb") as file:
        return _pictures(file, path, str(path), 0)


def _in_tar_of_tars(path: Path, classes: Sequence[str]) -> dict[str, list[PictureFile]]:
    with path.open("rb") as file:
        inner = [member for member in _members(file, str(path)) if member.isreg()]
        there = {PurePosixPath(m.name).stem: m for m in inner if m.name.endswith(".tar")}
        require_classes(classes, there, path, "no tar")
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            return {
                name: _pictures(
                    tar.extractfile(there[name]),
                    path,
                    f"{path}, {there[name].name}",
                    there[name].offset_data,
                )
                for name in classes
            }


def _pictures(file: IO[bytes], path: Path, where: str, start: int) -> list[PictureFile]:
    """The pictures in a tar that starts at byte `start` of `path`; folders in it are ignored."""
    found: dict[str, PictureFile] = {}
    for member in _members(file, where):
        name = PurePosixPath(member.name).name
        if member.isdir() or is_hidden(name):
            continue
        if not member.isreg() or member.issparse() or not is_picture(name):
            raise UserError(
                f"{where} holds {member.name}, which is not a picture by its name or kind"
            )
        if name in found:
            raise UserError(f"{where} holds {name} twice")
        found[name] = PictureFile(name, path, member.size, start + member.offset_data)
    if not found:
        raise UserError(f"{where} holds no picture")
    return list(found.values())


def _members(file: IO[bytes], where: str) -> list[tarfile.TarInfo]:
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            members = tar.getmembers()
        # tarfile takes a damaged header, or an end between two members, as the archive's end.
        if members:
            blocks = -(-members[-1].size // _BLOCK)
            file.seek(members[-1].offset_data + blocks * _BLOCK)
        whole = file.read(_BLOCK) == bytes(_BLOCK)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{where} is not a whole, uncompressed tar archive ({error})") from error
    if not whole:
        raise UserError(f"{where} is damaged or truncated after {len(members)} files")
    return members
