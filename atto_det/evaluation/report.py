"""The result of `evaluate` for people (a table) and for programs (JSON)."""

import json
import os

from rich import box
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from atto_det.errors import write_file
from atto_det.evaluation.coco import LIMITS, MAX_DETECTIONS

_SIZES = {"small": "small (area < 32²)", "medium": "medium", "large": "large (> 96²)"}
_COCO_HEADS = {
    "AP": "COCO AP@[.5:.95]",
    **{f"AP_{size}": f"COCO AP@[.5:.95], {text}" for size, text in _SIZES.items()},
    **{f"AR{limit}": f"COCO AR@[.5:.95], {limit} of a class" for limit in LIMITS},
    **{f"AR_{size}": f"COCO AR@[.5:.95], {text}" for size, text in _SIZES.items()},
}


def format_table(result: dict) -> RenderableType:
    """The per-class table, the summary and the protocol line, ready for rich's `print`."""
    protocol = result["protocol"]
    classes = Table(
        "class",
        *(_right(head) for head in ("AP_d", "AP_m", "objects", "difficult", "detections")),
        box=box.SIMPLE_HEAD,
        title=f"AP in percent on {protocol['split']}, IoU ≥ {protocol['threshold']:g}",
        title_style="bold",
        title_justify="left",
        show_footer=False,
    )
    for name, row in result["classes"].items():
        classes.add_row(
            Text(name),
            _percent(row["AP_d"]),
            _percent(row["AP_m"]),
            *(f"{row[key]:,}" for key in ("objects", "difficult", "detections")),
            style="dim" if row["AP_d"] is None else None,
        )
    classes.add_section()
    totals = (
        sum(row[key] for row in result["classes"].values())
        for key in ("objects", "difficult", "detections")
    )
    classes.add_row(
        "mean, sum",
        _percent(result["AP_d"]),
        _percent(result["AP_m"]),
        *(f"{total:,}" for total in totals),
        style="bold",
    )

    left_out = result["classes_left_out"]
    notes = []
    if left_out:
        notes.append(f"Classes without objects, left out of the mean: {', '.join(left_out)}")
    if result["AP_m"] is None and result["AP_d"] is not None:
        notes.append("Boxes alone are compared: the detector or the data has no masks.")
    if (most := protocol.get("most_objects", 0)) > protocol["detections_per_image"]:
        notes.append(
            f"An image has up to {most} objects, but the detector gives at most "
            f"{protocol['detections_per_image']} detections: raise TEST.DETECTIONS_PER_IMAGE"
        )
    return Group(classes, _summary(result), *map(Text, notes), _protocol(protocol))


def write_json(result: dict, path: str | os.PathLike) -> None:
    """Write the result as JSON (a missing AP is null), completely or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    write_file(path, text + "\n")


def _summary(result: dict) -> Table:
    coco = result["coco"]
    rows: dict[str, tuple[float | None, float | None]] = {
        "difficult counted": tuple(result["difficult_counted"][k] for k in ("AP_d", "AP_m")),
        "difficult ignored": tuple(result["difficult_ignored"][k] for k in ("AP_d", "AP_m")),
    }
    for threshold, row in result["thresholds"].items():
        rows[f"IoU ≥ {threshold}"] = (row["AP_d"], row["AP_m"])
    for key in coco["box"]:  # results of older versions have only three
        rows[_COCO_HEADS.get(key, f"COCO {key}")] = (coco["box"][key], coco["mask"][key])
    table = Table("mean over the classes", _right("box"), _right("mask"), box=box.SIMPLE_HEAD)
    for head, values in rows.items():
        table.add_row(head, *(_percent(value) for value in values))
    return table


def _protocol(protocol: dict) -> Text:
    parts = (
        f"{protocol['split']}, {protocol['images']:,} images "
        f"({protocol['images_without_detections']:,} without detections)",
        {"area": "area under the curve", "11point": "11-point"}[protocol["style"]],
        f"IoU ≥ {protocol['threshold']:g}",
        f"difficult {protocol['difficult']}",
        f"score ≥ {protocol['score_floor']:g}",
        f"at most {protocol['detections_per_image']} detections an image "
        f"(COCO: {max(MAX_DETECTIONS, protocol['detections_per_image'])} of an image and class)",
        f"{protocol['objects_left_out']} objects left out",
        *([f"{crowds} crowd regions void"] if (crowds := protocol.get("crowd_regions")) else []),
        f"atto_det {protocol['code_version']}",
    )
    return Text("Protocol: " + "; ".join(parts), style="dim")


def _right(head: str) -> Column:
    return Column(head, justify="right")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
