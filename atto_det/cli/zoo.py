"""List the backbones and detectors that come with the package.

atto-det zoo
atto-det zoo --page docs/model_zoo.md     also writes them, with their cards, as a page

create_backbone("attonet_a", weights="distilled") and Predictor("zoo:NAME") load them.
"""

import argparse
from pathlib import Path

from atto_det.cli import verb_parser
from atto_det.errors import command_line, write_file


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("zoo", __doc__)
    result.add_argument("--page", type=Path, metavar="FILE", help="write a Markdown page")
    return result


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Print the table, and write the page if requested."""
    args = parser().parse_args(arguments)
    from atto_det.reports.grid import print_grids
    from atto_det.reports.zoo_page import EMPTY, page, tables
    from atto_det.weights import zoo

    cards = [zoo.read_card(path) for path in zoo.files()]
    print_grids(tables(cards))
    if not cards:
        print(EMPTY)
    if args.page:
        write_file(args.page, page(cards))
        print(f"wrote {args.page}")
    return 0
