"""Measured top-1 for the comparison with the paper's Table 2: from a checkpoint, or as text."""

from pathlib import Path

from atto_det.errors import UserError
from atto_det.reports.table2 import Data, Measured
from atto_det.weights.backbone_file import read_pretraining


def read_measured(path: str | Path) -> Measured:
    """The measurement that a checkpoint of the pretraining carries.

    Raises:
        UserError: no such checkpoint, or one without a top-1.
    """
    found = read_pretraining(path).description
    if found.top1 is None:
        raise UserError(
            f"checkpoint {path} carries no top-1: it was written before the first validation; "
            f"take a later one, or give --top1 {found.network}=PERCENT"
        )
    data = Data(
        found.data["root"],
        found.data["train"],
        found.data["val"],
        tuple(found.class_names),
        found.input_size,
    )
    return Measured(found.network, found.top1, data, found.weight_bits)


def parse_top1(text: str) -> Measured:
    """NETWORK=PERCENT as a measurement on data that are not stated.

    Raises:
        UserError: another form, or a percentage out of range.
    """
    network, _, number = text.partition("=")
    try:
        top1 = float(number)
    except ValueError:
        raise UserError(f"--top1 {text} is not NETWORK=PERCENT, as in attonet_a=31.4") from None
    return Measured(network, top1)
