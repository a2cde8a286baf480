"""The training curve: losses and AP over the iterations, from a run's metrics.json."""

import json
from pathlib import Path

from atto_det.errors import UserError, atomic_path

LOSSES = {
    "loss_cls": "class",
    "loss_box_reg": "box",
    "loss_mask": "mask",
    "loss_rpn_cls": "RPN objectness",
    "loss_rpn_loc": "RPN box",
}


def read_metrics(path: str | Path) -> list[dict]:
    """The lines of a metrics.json: each a dict with "iteration" and what was written there.

    Raises:
        UserError: no such file, or no line in it.
    """
    try:
        rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as metrics of a training run: {error}") from error
    if not rows:
        raise UserError(f"{path} is empty: the run was shorter than 20 iterations")
    return rows


def plot_training(metrics: str | Path, output: str | Path) -> None:
    """Draw the losses (left) and AP_d, AP_m of each test set (right) to a PNG or SVG file.

    Raises:
        UserError: no readable metrics, or a target that cannot be written.
    """
    from matplotlib.figure import Figure  # a second to import; no display needed this way

    rows = read_metrics(metrics)
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for key, label in LOSSES.items():
        points = [(row["iteration"], row[key]) for row in rows if key in row]
        if points:
            left.plot(*zip(*points, strict=True), label=label, linewidth=1.5)
    left.set(xlabel="iteration", ylabel="loss (median of 20 iterations)", ylim=(0, None))
    left.legend(frameon=False)
    for key in sorted({key for row in rows for key in row if key.endswith(("/AP_d", "/AP_m"))}):
        points = [(row["iteration"] + 1, row[key]) for row in rows if key in row]
        right.plot(*zip(*points, strict=True), label=key, marker="o", linewidth=1.5)
    right.set(xlabel="iteration", ylabel="AP at IoU ≥ 0.5, percent", ylim=(0, None))
    if right.has_data():
        right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    with atomic_path(output) as temporary:
        figure.savefig(temporary, dpi=120)
