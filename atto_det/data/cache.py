"""A cache of what was read from many files, keyed by the content of those files.

It uses JSON, never pickle. A problem with the cache costs time but never changes the result.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from atto_det.data.records import Dataset, Finding, ImageRecord, Instance
from atto_det.errors import UserError, write_file

# Increase this whenever the rules of the readers or the form below change.
FORMAT = 2
_LOGGER = logging.getLogger(__name__)


def cache_folder() -> Path:
    """`$ATTO_DET_CACHE`, or `atto_det` in `$XDG_CACHE_HOME`, or `~/.cache/atto_det`."""
    if own := os.environ.get("ATTO_DET_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "atto_det"


def cached(
    read: Callable[[], Dataset],
    *,
    root: Path,
    name: str,
    settings: list,
    stamped: Iterable[Path],
    hashed: Iterable[Path],
) -> Dataset:
    """`read()`, or its earlier result if nothing that it depends on has changed since.

    Args:
        root: folder that contains all files of the records.
        name: what is read from it; there is one cache file per root and name.
        settings: everything else that the result depends on, as JSON values.
        stamped: files that are compared by size and time of modification.
        hashed: files that are compared by content.
    """
    key = _key([FORMAT, str(root), *settings], stamped, hashed)
    if key is None:
        return read()
    digest = hashlib.blake2b(f"{root}\0{name}".encode(), digest_size=12).hexdigest()
    path = cache_folder() / f"{digest}.json"
    dataset = _load(path, key, root)
    if dataset is None:
        dataset = read()
        _store(path, key, root, dataset)
    return dataset


def _key(settings: list, stamped: Iterable[Path], hashed: Iterable[Path]) -> str | None:
    key = hashlib.blake2b(json.dumps(settings).encode(), digest_size=24)
    try:
        for path in stamped:
            status = path.stat()
            key.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
        for path in hashed:
            content = path.read_bytes()
            key.update(len(content).to_bytes(8, "little"))
            key.update(content)
    except OSError:
        return None  # reading the files will report which one is missing
    return key.hexdigest()


def _load(path: Path, key: str, root: Path) -> Dataset | None:
    try:
        stored = json.loads(path.read_bytes())
        if stored["key"] != key:
            return None
        return Dataset(
            tuple(stored["class_names"]),
            tuple(_record(str(root), *row) for row in stored["records"]),
            tuple(Finding(*row) for row in stored["findings"]),
        )
    except OSError:
        return None  # there is no cache, or writing it will report the problem
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _LOGGER.warning("ignoring the unreadable cache %s (%s)", path, error)
        return None


def _store(path: Path, key: str, root: Path, dataset: Dataset) -> None:
    records = [
        [
            record.image_id,
            os.path.relpath(record.file_name, root),
            record.sem_seg_file_name and os.path.relpath(record.sem_seg_file_name, root),
            record.height,
            record.width,
            [
                [
                    item.category,
                    item.box,
                    item.rle and item.rle["counts"].decode(),
                    item.difficult,
                    item.label,
                ]
                for item in record.instances
            ],
        ]
        for record in dataset.records
    ]
    findings = [
        [item.severity, item.kind, item.image_id, item.message] for item in dataset.findings
    ]
    stored = {
        "key": key,
        "class_names": dataset.class_names,
        "records": records,
        "findings": findings,
    }
    try:
        write_file(path, json.dumps(stored, separators=(",", ":")))
    except UserError as error:
        _LOGGER.warning("continuing without a cache: %s", error)


def _record(
    root: str, image_id: str, file: str, sem_seg: str | None, height: int, width: int, rows: list
) -> ImageRecord:
    instances = tuple(
        Instance(
            category,
            tuple(box),
            counts and {"size": [height, width], "counts": counts.encode()},
            difficult,
            label,
        )
        for category, box, counts, difficult, label in rows
    )
    sem_seg = sem_seg and f"{root}/{sem_seg}"
    return ImageRecord(image_id, f"{root}/{file}", height, width, instances, sem_seg)
