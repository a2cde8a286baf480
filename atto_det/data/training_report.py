"""What a training uses of its data, and what it leaves out for which reason, with examples.

    report = training_report({"own_train": dataset}, filter_empty=True)
    rich.print(format_report(report))
    json.dumps(report)

| key | meaning, for each data set |
|---|---|
| `pictures`, `objects` | the numbers that are trained on |
| `without_objects` | pictures without a usable object; left out if `filter_empty` is true |
| `left_out` | {reason: {`count`, `example`}} of annotated objects that are not used |
| `clipped` | {`count`, `example`} of objects whose box exceeds the picture and is clipped |
| `notes` | {kind: {`count`, `example`}} of findings that cost no object |
"""

from collections.abc import Iterable, Mapping

from rich import box
from rich.table import Table
from rich.text import Text

from atto_det.data.records import Dataset, Finding

# The kinds of findings in words.
REASONS = {
    "box": "box outside the picture, empty, or not its mask's",
    "category": "unknown category",
    "class": "class unclear",
    "crowd": "crowd region",
    "image": "unknown picture",
    "label": "label that cannot be read",
    "no_mask": "no mask",
    "no_object": "mask without an object",
    "structure": "annotation that cannot be read",
}
NOTES = {
    "boxes": "many boxes disagree with their masks",
    "category": "category that is not a class",
    "orientation": "annotations turned with their picture",
    "polygon": "stray polygons",
}
_CLIPPED = 1.0  # pixels beyond the edge; smaller excesses are not reported


def training_report(datasets: Mapping[str, Dataset], *, filter_empty: bool) -> dict[str, dict]:
    """The report of the training sets by name, ready for JSON; its keys are documented above.

    Args:
        filter_empty: DATALOADER.FILTER_EMPTY_ANNOTATIONS.
    """
    return {name: _of_one(dataset, filter_empty) for name, dataset in datasets.items()}


def _of_one(dataset: Dataset, filter_empty: bool) -> dict:
    empty = sum(not record.instances for record in dataset.records)
    clipped = [
        (record, item)
        for record in dataset.records
        for item in record.instances
        if _beyond(item.box, record.height, record.width) > _CLIPPED
    ]
    example = ""
    if clipped:
        record, item = clipped[0]
        example = (
            f"{record.file_name}: {item.label or 'an object'} has the box"
            f" {tuple(round(side, 1) for side in item.box)} in a picture of"
            f" {record.width}x{record.height}"
        )
    return {
        "pictures": len(dataset.records) - (empty if filter_empty else 0),
        "objects": sum(len(record.instances) for record in dataset.records),
        "without_objects": empty,
        "left_out": _by_kind(f for f in dataset.findings if f.severity == "warning"),
        "clipped": {"count": len(clipped), "example": example},
        "notes": _by_kind(f for f in dataset.findings if f.severity == "note"),
    }


def _by_kind(findings: Iterable[Finding]) -> dict[str, dict]:
    result: dict[str, dict] = {}
    for finding in findings:
        entry = result.setdefault(finding.kind, {"count": 0, "example": finding.message})
        entry["count"] += 1
    return dict(sorted(result.items(), key=lambda item: -item[1]["count"]))


def _beyond(sides: tuple[float, ...], height: int, width: int) -> float:
    left, top, right, bottom = sides
    return max(-left, -top, right - width, bottom - height)


def format_report(report: Mapping[str, dict]) -> Table:
    """The report as a table: a row for what is used, and one for each reason, with an example."""
    table = Table("training data", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("count", justify="right")
    table.add_column("example", overflow="fold", style="dim")
    for name, part in report.items():
        table.add_section()
        table.add_row(Text(name, "bold"), "", "")
        table.add_row("pictures", f"{part['pictures']:,}", "")
        table.add_row("objects", f"{part['objects']:,}", "")
        if part["without_objects"]:
            table.add_row("pictures without objects", f"{part['without_objects']:,}", "")
        for kind, entry in part["left_out"].items():
            words = f"left out: {REASONS.get(kind, kind)}"
            table.add_row(words, f"{entry['count']:,}", Text(entry["example"]))
        rows = {"boxes clipped at the edge": part["clipped"]} if part["clipped"]["count"] else {}
        rows |= {NOTES.get(kind, kind): entry for kind, entry in part["notes"].items()}
        for words, entry in rows.items():
            table.add_row(words, f"{entry['count']:,}", Text(entry["example"]))
    return table
