"""What a training takes from a whole detector's checkpoint, and what starts from random weights."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from atto_det.errors import UserError
from atto_det.weights.checkpoint import read_description

_CLASS_LAYER = re.compile(r"(?:^|\.)(?:cls_score|bbox_pred|predictor)\.(?:weight|bias)$")
"""The layers with an output for each class, by Detectron2's names."""


def fitting(
    own: Mapping[str, Tensor], content: Mapping[str, Any], path: str | Path
) -> dict[str, Tensor]:
    """The tensors of a checkpoint, without those whose shape differs from the model's.

    For a checkpoint that this project wrote, only the shapes of layers with an output for each
    class may differ; missing and unused tensors are not errors. For a foreign one, whatever fits is
    used, as in Detectron2.

    Args:
        own: the model's tensors, under Detectron2's names.
        content: of the checkpoint.

    Raises:
        UserError: another layer's shape differs; the message names the first one.
    """
    given = content["model"]
    unlike = {key for key in own.keys() & given.keys() if own[key].shape != given[key].shape}
    wrong = sorted(key for key in unlike if not _CLASS_LAYER.search(key))
    if wrong and "atto_det" in content:
        there, here = (tuple(side[wrong[0]].shape) for side in (given, own))
        raise UserError(
            f"{len(wrong)} tensors of {path} have another shape in the model of the config, first "
            f"{wrong[0]} ({there}, here {here}): use the config of its training, which it carries "
            "(leave out --config-file), or one with the same layers"
        )
    return {key: value for key, value in given.items() if key not in unlike}


def refuse_strangers(own: Iterable[str], lacking: Collection[str], where: str) -> None:
    """Refuse weights of which none fits.

    Args:
        own: the names of the model's tensors.
        lacking: those that the file lacks, or has in another shape.
        where: names the file in the message.

    Raises:
        UserError: nothing but counters of batches fits.
    """
    # If a file lacks these counters, torch creates them, so they are never missing.
    wanted = {name for name in own if not name.endswith("num_batches_tracked")}
    if wanted and wanted.issubset(lacking):
        raise UserError(
            f"no tensor of {where} fits this model: it belongs to another network, or its names "
            "have another prefix"
        )


def start_table(
    own: Mapping[str, Tensor],
    loaded: Mapping[str, Tensor],
    content: Mapping[str, Any],
    class_names: Sequence[str],
    path: str | Path,
) -> str:
    """A table, by part of the model, of how many tensors were loaded and which start anew.

    Args:
        own: the model's tensors.
        loaded: the result of `fitting`.
        content: of the checkpoint, with an "atto_det" part.
        class_names: of the training.
    """
    rows: dict[str, list[list[str]]] = {}
    for key in own:
        if not key.endswith("num_batches_tracked"):
            rows.setdefault(_part(key), [[], []])[key not in loaded].append(key)
    width = max(map(len, rows), default=0)
    lines = [f"start from {path}", f"  {'':{width}}  loaded   anew"]
    for part, (kept, anew) in rows.items():
        names = sorted({key.rpartition(".")[0].removeprefix(f"{part}.") for key in anew})
        shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        lines.append(f"  {part:{width}}  {len(kept):6}  {len(anew):5}  {shown}".rstrip())
    left = [key for key in content["model"] if key not in own]
    if left:
        lines.append(f"  {len(left)} tensors of the file are not in the model, first {min(left)}")
    before = read_description(dict(content), path)["class_names"]
    if before == list(class_names):
        lines.append(f"  the same {len(before)} classes")
    else:
        lines.append(f"  classes: {_listed(class_names)}; before: {_listed(before)}")
        if len(before) == len(class_names):
            lines.append("  as many as before: their layers start from the old classes in order")
    return "\n".join(lines)


def _part(key: str) -> str:
    """The part of a detector that a tensor belongs to: two names for its heads, else one."""
    names = key.split(".")
    return ".".join(names[: 2 if names[0] == "roi_heads" else 1])


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:5])}{', …' if len(names) > 5 else ''})"
