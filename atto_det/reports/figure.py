"""Writing a plot of matplotlib."""

from pathlib import Path
from typing import TYPE_CHECKING

from atto_det.errors import UserError, atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_figure(figure: "Figure", path: str | Path, dpi: int = 150) -> None:
    """Write a plot completely or not at all, in the format that the suffix of `path` names.

    Raises:
        UserError: matplotlib writes no such format, or the file cannot be written.
    """
    suffix = Path(path).suffix
    if suffix[1:].lower() not in figure.canvas.get_supported_filetypes():
        raise UserError(
            f"{path} was not written: {suffix or 'no suffix'} is not a format that matplotlib "
            "writes; use .png or .svg"
        )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
