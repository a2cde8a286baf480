"""Get PASCAL VOC 2012, check a VOC folder, or write it as COCO JSON.

atto-det prepare-voc                                  download, unpack, check
atto-det prepare-voc --check --folder my_photos       list everything that is wrong
atto-det prepare-voc --to-coco val --output val.json  COCO JSON with RLE masks
"""

import functools
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from atto_det.cli import verb_parser
from atto_det.errors import UserError, atomic_path, command_line

if TYPE_CHECKING:
    from atto_det.data.check import CheckReport


def get_voc(root: Path, url: str | None) -> Path:
    """Download and unpack VOC 2012 under `root`."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

    from atto_det.data.download import VOC_URL, fetch_voc

    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"downloading to {root}", total=None)
        return fetch_voc(
            root,
            url or VOC_URL,
            byte_progress=lambda done, total: bar.update(task, completed=done, total=total),
            member_progress=functools.partial(bar.track, description="unpacking"),
        )


def show_report(report: "CheckReport") -> None:
    """A table of counts, then a line for each finding."""
    from rich.console import Console
    from rich.table import Table

    table = Table("split", title=f"{report.root}: {report.classes} classes", title_justify="left")
    for name in ("images", "objects", "difficult", "left_out", "errors"):
        table.add_column(name.replace("_", " "), justify="right")
    for split, counts in report.splits.items():
        table.add_row(split, *(f"{count:,}" for count in asdict(counts).values()))
    Console().print(table)
    for finding in report.findings:
        print(f"{finding.severity} [{finding.kind}] {finding.message}")
    print(f"{report.errors} errors, {report.warnings} warnings")


def write_json(content: object, path: Path) -> None:
    """Write JSON whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content) + "\n")
    print(f"wrote {path}")


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Download, check or convert, as the flags ask."""
    parser = verb_parser("prepare-voc", __doc__)
    default = os.environ.get("DETECTRON2_DATASETS", "datasets")
    parser.add_argument("--root", type=Path, default=default, help="has VOC2012 (%(default)s)")
    parser.add_argument("--folder", type=Path, help="another folder in VOC layout")
    parser.add_argument("--check", action="store_true", help="only check what is there")
    parser.add_argument("--to-coco", metavar="SPLIT", help="write this split as COCO JSON")
    parser.add_argument("--output", type=Path, help="file of --to-coco, or of the check's report")
    parser.add_argument("--url", help="a mirror of VOC's tar")
    args = parser.parse_args(arguments)
    if args.to_coco and not args.output:
        parser.error("--to-coco needs --output FILE")

    from rich.console import Console
    from rich.progress import track

    from atto_det.data import find_voc_root, load_voc
    from atto_det.data.check import check_voc
    from atto_det.data.coco import to_coco

    folder = args.folder
    if not folder:
        try:
            folder = find_voc_root(args.root)
        except UserError:
            if args.check or args.to_coco:
                raise
            folder = get_voc(args.root, args.url)
    show_progress = functools.partial(track, description="reading", console=Console(stderr=True))
    if args.to_coco:
        dataset = load_voc(folder, args.to_coco, progress=show_progress)
        write_json(to_coco(dataset, folder / "JPEGImages"), args.output)
        return 0
    report = check_voc(folder, show_progress)
    show_report(report)
    if args.output:
        write_json(report.to_dict(), args.output)
    return 1 if report.errors else 0
