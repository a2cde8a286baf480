"""Get PASCAL VOC 2012; check or convert data: VOC layout, COCO JSON, YOLO labels.

atto-det prepare-voc                                  download, unpack, check
atto-det prepare-voc --check --folder my_photos       list everything that is wrong
atto-det prepare-voc --to-coco val --output val.json  COCO JSON with RLE masks
atto-det prepare-voc --to-voc new --folder data.yaml  a folder in VOC layout, all splits
atto-det prepare-voc --to-voc new --folder export --from-colours labelmap.txt

--folder is a folder in VOC layout, YOLO's data.yaml or its folder, or a COCO JSON with --images.
"""

import functools
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from atto_det.cli import verb_parser
from atto_det.errors import UserError, command_line, write_file

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
    """Write JSON completely or not at all."""
    write_file(path, json.dumps(content) + "\n")
    print(f"wrote {path}")


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Download, check or convert, depending on the flags."""
    parser = verb_parser("prepare-voc", __doc__)
    default = os.environ.get("DETECTRON2_DATASETS", "datasets")
    parser.add_argument("--root", type=Path, default=default, help="contains VOC2012 (%(default)s)")
    parser.add_argument("--folder", type=Path, help="another data set: see above")
    parser.add_argument("--images", type=Path, help="folder of a COCO JSON's pictures (its own)")
    parser.add_argument("--check", action="store_true", help="only check what is there")
    parser.add_argument("--to-coco", metavar="SPLIT", help="write this split as COCO JSON")
    parser.add_argument("--polygons", action="store_true", help="with --to-coco: no RLE masks")
    parser.add_argument("--to-voc", type=Path, metavar="NEW", help="write it as a VOC folder")
    parser.add_argument(
        "--from-colours", type=Path, metavar="TABLE", help="colour table of its label images"
    )
    parser.add_argument("--output", type=Path, help="file of --to-coco, or of the check's report")
    parser.add_argument("--url", help="a mirror of VOC's tar")
    args = parser.parse_args(arguments)
    if args.to_coco and not args.output:
        parser.error("--to-coco needs --output FILE")
    if args.from_colours and not (args.to_voc and args.folder):
        parser.error("--from-colours needs --folder and --to-voc")

    from rich.console import Console
    from rich.progress import track

    from atto_det.data import find_voc_root
    from atto_det.data.coco import to_coco
    from atto_det.data.colours import from_colours
    from atto_det.data.sources import open_source
    from atto_det.data.to_voc import to_voc

    folder = args.folder
    if not folder:
        try:
            folder = find_voc_root(args.root)
        except UserError:
            if args.check or args.to_coco or args.to_voc:
                raise
            folder = get_voc(args.root, args.url)
    show_progress = functools.partial(track, description="reading", console=Console(stderr=True))
    if args.from_colours:
        count = from_colours(folder, args.from_colours, args.to_voc, show_progress)
        print(f"wrote {args.to_voc}: {count:,} pictures")
        return 0
    source = open_source(folder, args.images)
    if args.to_coco:
        dataset = source.load(args.to_coco, show_progress)
        content = to_coco(dataset, source.image_root, polygons=args.polygons)
        write_json(content, args.output)
        return 0
    if args.to_voc:
        splits = {split: source.load(split, show_progress) for split in source.splits}
        written = to_voc(splits, args.to_voc, show_progress)
        print(f"wrote {args.to_voc}: {written.pictures:,} pictures, {written.objects:,} objects")
        lost = sum(dataset.left_out for dataset in splits.values())
        if lost or written.covered:
            print(
                f"{lost:,} annotations could not be used (--check lists them); {written.covered:,} "
                "pixels belong to two objects and are now the smaller one's, which hides "
                f"{written.hidden:,} objects wholly"
            )
        if written.bare:
            print(
                f"{written.bare:,} objects have a box but no mask: they are in Annotations, and "
                "readers of this folder leave them out, since it has masks"
            )
        return 0
    report = source.check(show_progress)
    show_report(report)
    if args.output:
        write_json(report.to_dict(), args.output)
    return 1 if report.errors else 0
