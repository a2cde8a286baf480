"""The training curve: losses and AP over the iterations, from a run's metrics.json."""

import json
from math import isfinite, nan
from pathlib import Path

from atto_det.errors import UserError, shown
from atto_det.reports.figure import write_figure

LOSSES = {
    "loss_cls": "class",
    "loss_box_reg": "box",
    "loss_mask": "mask",
    "loss_rpn_cls": "RPN objectness",
    "loss_rpn_loc": "RPN box",
}

AP_KEYS = ("/AP_d", "/AP_m")

# A legend above its axes covers no line.
ABOVE = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": 3, "frameon": False}


def read_metrics(path: str | Path) -> list[dict]:
    """The lines of a metrics.json: each a dict with "iteration" and the metrics written there.

    A last line without an end is still being written, and is left out.

    Raises:
        UserError: no such file, no line in it, or a damaged one.
    """
    try:
        lines = Path(path).read_text().splitlines(keepends=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read as metrics of a training run: {reason}") from error
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}, is damaged: {shown(line, 60)}") from error
        if not _is_row(rows[-1]):
            raise UserError(f"{path}, line {number}, holds no metrics of a training run")
    if not rows:
        raise UserError(f"{path} has no line yet: the first one comes after 20 iterations")
    return rows


def _is_row(value: object) -> bool:
    """Whether it is a dict of numbers, one of them "iteration"."""
    numbers = isinstance(value, dict) and all(isinstance(v, int | float) for v in value.values())
    return numbers and "iteration" in value


def progress(rows: list[dict]) -> str:
    """How far a run has come, in a sentence: iteration, time left, and the best AP so far."""
    last = rows[-1]
    text = f"iteration {last['iteration'] + 1:,}"
    if last.get("eta_seconds", 0) > 0:
        text += f", {last['eta_seconds'] / 60:.0f} minutes left when it was written"
    for key in sorted({key for row in rows for key in row if key.endswith(AP_KEYS)}):
        scored = [row for row in rows if isfinite(row.get(key, nan))]
        if not scored:
            continue
        best = max(scored, key=lambda row: row[key])
        text += f"; {key} {best[key]:.1f} at best, after {best['iteration'] + 1:,}"
    return text


def plot_training(metrics: str | Path, output: str | Path) -> None:
    """Draw losses, learning rate and the AP_d, AP_m of each test set to a PNG or SVG file.

    Raises:
        UserError: no readable metrics, or a target that cannot be written.
    """
    from matplotlib.figure import Figure  # takes a second to import; needs no display

    rows = read_metrics(metrics)
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    rates = [(row["iteration"], row["lr"]) for row in rows if "lr" in row]
    if rates:
        other = left.twinx()
        other.plot(*zip(*rates, strict=True), color="0.75", linewidth=1, zorder=0)
        other.set(ylim=(0, None))
        other.set_ylabel("learning rate (grey)", color="0.55")
        other.tick_params(colors="0.55")
        other.spines["top"].set_visible(False)
    for key, label in LOSSES.items():
        points = [(row["iteration"], row[key]) for row in rows if key in row]
        if points:
            left.plot(*zip(*points, strict=True), label=label, linewidth=1.5)
    left.set(xlabel="iteration", ylabel="loss (median of 20 iterations)", ylim=(0, None))
    if left.has_data():
        left.legend(**ABOVE)
    for key in sorted({key for row in rows for key in row if key.endswith(AP_KEYS)}):
        points = [(row["iteration"] + 1, row[key]) for row in rows if key in row]
        right.plot(*zip(*points, strict=True), label=key, marker="o", linewidth=1.5)
    right.set(xlabel="iteration", ylabel="AP at IoU ≥ 0.5, percent", ylim=(0, None))
    if right.has_data():
        right.legend(**ABOVE)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    write_figure(figure, output, dpi=120)
