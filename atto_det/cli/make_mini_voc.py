"""Draw the mini VOC: a small data set in VOC's layout.

It has VOC's 20 classes, and can be used if VOC is not available.

atto-det make-mini-voc            400 + 100 pictures in datasets/mini_voc, in about 15 s
"""

import functools
import os
from pathlib import Path

from atto_det.cli import verb_parser
from atto_det.errors import command_line


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = verb_parser("make-mini-voc", __doc__)
    default = os.environ.get("DETECTRON2_DATASETS", "datasets")
    parser.add_argument(
        "--root", type=Path, default=default, help="mini_voc is created in it (default %(default)s)"
    )
    parser.add_argument("--train", type=int, default=400, help="pictures (default %(default)s)")
    parser.add_argument("--val", type=int, default=100, help="pictures (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another one gives other pictures")
    args = parser.parse_args(arguments)

    from rich.console import Console
    from rich.progress import track

    from atto_det.data.mini_voc import generate

    folder = args.root / "mini_voc"
    progress = functools.partial(track, description="drawing", console=Console(stderr=True))
    made = generate(folder, args.train, args.val, args.seed, progress=progress)
    print(f"{folder}: {args.train} + {args.val} pictures" if made else f"{folder} is up to date")
    return 0
