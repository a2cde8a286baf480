"""The class of each validation picture of ILSVRC2012, from Kaggle's list or the devkit's files.

Kaggle: LOC_val_solution.csv, with the columns ImageId and PredictionString ("wnid x y x y …").
Devkit: line i of ILSVRC2012_validation_ground_truth.txt is the ILSVRC2012_ID of picture i, counted
from 1; meta.mat has the wnid of each id. Both may still be in the devkit's tar.
"""

import csv
import io
import tarfile
import zlib
from pathlib import Path

from atto_det.errors import UserError

VAL_PREFIX = "ILSVRC2012_val_"
CSV = "LOC_val_solution.csv"
GROUND_TRUTH, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
DEVKIT = "ILSVRC2012_devkit_t12"


def read_val_labels(root: Path) -> tuple[dict[str, str], Path]:
    """Pictures (names without suffix) with their wnids, in order, and the file they come from.

    Raises:
        UserError: there are no labels under `root`, or they cannot be read.
    """
    if (path := root / CSV).is_file():
        return _read_csv(path), path
    for folder in (root, root / "data", root / DEVKIT / "data", root / DEVKIT):
        if (folder / GROUND_TRUTH).is_file():
            truth, meta = _read(folder / GROUND_TRUTH), _read(folder / META)
            return _join(truth, meta, folder), folder
    for path in (root / f"{DEVKIT}.tar.gz", root / f"{DEVKIT}.tar"):
        if path.is_file():
            return _join(*_read_archive(path), path), path
    raise UserError(
        f"{root} has no labels of the validation pictures: put {CSV} (Kaggle) or {DEVKIT}.tar.gz"
        " (image-net.org), packed or not, into it"
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def _read_csv(path: Path) -> dict[str, str]:
    try:
        rows = list(csv.DictReader(io.StringIO(_read(path).decode("utf-8-sig"))))
        return {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}
    except (csv.Error, UnicodeDecodeError, KeyError, IndexError, AttributeError) as error:
        raise UserError(
            f"{path} is not Kaggle's list: expected the columns ImageId and PredictionString"
            " (a wnid first), filled in each row"
        ) from error


def _read_archive(path: Path) -> tuple[bytes, bytes]:
    try:
        with tarfile.open(path) as tar:
            members = {Path(m.name).name: m for m in tar.getmembers() if m.isreg()}
            return tuple(tar.extractfile(members[name]).read() for name in (GROUND_TRUTH, META))
    except KeyError as error:
        raise UserError(f"{path} is not the devkit: it has no {error.args[0]}") from error
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise UserError(f"{path} is not a whole tar archive ({error})") from error


def _join(truth: bytes, meta: bytes, where: Path) -> dict[str, str]:
    from scipy.io import loadmat  # imported here since it takes 0.3 s and is rarely needed

    try:
        synsets = loadmat(io.BytesIO(meta), simplify_cells=True)["synsets"]
        wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
    # scipy raises many types on broken files (zlib.error, struct.error, IndexError, …).
    except Exception as error:
        raise UserError(f"{where}: {META} has no readable synsets ({error!r})") from error
    labels = {}
    for number, line in enumerate(truth.decode("ascii", "replace").split("\n"), 1):
        if not line.strip():
            continue
        try:
            labels[f"{VAL_PREFIX}{number:08d}"] = wnids[int(line)]
        except (ValueError, KeyError) as error:
            raise UserError(
                f"{where}: line {number} of {GROUND_TRUTH} is not an id that {META} knows"
            ) from error
    return labels
