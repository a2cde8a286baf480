"""Select the classes of a list from ImageNet (ILSVRC2012).

atto-det make-imagenet50 --imagenet FOLDER --classes LIST
atto-det make-imagenet50 --imagenet FOLDER --classes LIST --link symbolic --check

The selection has train/<wnid>/ and val/<wnid>/. FOLDER is ImageNet as unpacked or downloaded, in
any of the layouts described in datasets/README.md; nothing in it is changed. Run the command again
after an interruption to continue.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from atto_det.cli import verb_parser
from atto_det.errors import command_line

if TYPE_CHECKING:
    from rich.progress import Progress


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("make-imagenet50", __doc__)
    result.add_argument("--imagenet", type=Path, required=True, metavar="FOLDER", help="the source")
    result.add_argument("--classes", type=Path, required=True, metavar="LIST", help="class list")
    default = Path(os.environ.get("DETECTRON2_DATASETS", "datasets"), "ImageNet50")
    help_text = "folder to create (default %(default)s)"
    result.add_argument("--output", type=Path, default=default, metavar="FOLDER", help=help_text)
    links = ("symbolic", "hard")
    result.add_argument("--link", choices=links, help="link the pictures instead of copying them")
    result.add_argument("--check", action="store_true", help="decode every picture afterwards")
    return result


def progress_bar() -> "Progress":
    """A bar with the time left, removed when it ends; none if stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Select, and check if requested."""
    args = parser().parse_args(arguments)

    from atto_det.data.imagenet import COPIES, HARD, SYMBOLIC, check_pictures, make_selection

    kinds = {None: COPIES, "symbolic": SYMBOLIC, "hard": HARD}
    with progress_bar() as bar:
        made = make_selection(
            args.imagenet,
            args.classes,
            args.output,
            kinds[args.link],
            progress=lambda items, what: bar.track(items, description=what),
            command=sys.argv,
        )
    counts = made.manifest["pictures"]
    print(
        f"{made.folder}: {len(made.manifest['classes'])} classes, {counts['train']:,} + "
        f"{counts['val']:,} pictures, {made.written:,} of them new"
    )
    for split, layout in made.manifest["layout"].items():
        print(f"{split} is from {layout}")
    if not args.check:
        return 0
    with progress_bar() as bar:
        faults = check_pictures(made.folder, lambda items, what: bar.track(items, description=what))
    print("\n".join(faults) or "every picture can be decoded")
    return 1 if faults else 0
