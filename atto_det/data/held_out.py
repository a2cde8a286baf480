"""Training pictures that are held out of training, so that selecting a model needs no test set.

With `DATASETS.HOLD_OUT: 40`, 40 pictures of the first set in `DATASETS.TRAIN`, drawn by `SEED`,
form the data set `<name>_held_out`, and `<name>_rest` of each set is trained on.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from atto_det.data.records import Dataset, ImageRecord
from atto_det.errors import UserError

HELD_OUT, REST = "_held_out", "_rest"
Keys = Callable[[ImageRecord], Iterable[str]]  # what identifies a picture


def draw(first: Dataset, name: str, count: int, seed: int, keys: Keys) -> frozenset[str]:
    """The keys of the pictures that are held out, all of which have objects.

    Args:
        first: data set `name`.
        count: DATASETS.HOLD_OUT.

    Raises:
        UserError: no picture would be left to train on.
    """
    usable = [record for record in first.records if record.instances]
    if not 0 < count < len(usable):
        raise UserError(
            f"DATASETS.HOLD_OUT is {count}, but {name} has {len(usable)} pictures with objects, "
            "and some must be left to train on"
        )
    order = np.random.default_rng((seed, count)).permutation(len(usable))
    return frozenset(key for index in order[:count] for key in keys(usable[index]))


def part(dataset: Dataset, held: frozenset[str], keys: Keys, *, inside: bool) -> Dataset:
    """The pictures of `dataset` that are held out (`inside`), or the others."""
    records = tuple(record for record in dataset.records if held.isdisjoint(keys(record)) != inside)
    ids = {record.image_id for record in records}
    findings = tuple(finding for finding in dataset.findings if finding.image_id in ids)
    return replace(dataset, records=records, findings=findings)
