"""Train a classifier whose backbone a detector can start from.

The settings are those of Lightning's command line; `atto-det pretrain fit --help` lists them.

atto-det pretrain fit --config pretrain/attonet_a_imagenet50.yaml
atto-det pretrain fit --config pretrain/attonet_a_imagenet50.yaml --ckpt_path last
atto-det pretrain validate --config … --ckpt_path output/pretrain/attonet_a/best.ckpt
"""

import sys

from atto_det.cli import verb_parser
from atto_det.errors import command_line


@command_line
def main(arguments: list[str] | None = None) -> None:
    """Run Lightning's command line."""
    parser = verb_parser("pretrain", __doc__)
    subcommands = ("fit", "validate", "test", "store_answers")
    parser.add_argument("subcommand", choices=subcommands, help="before its settings")
    given = sys.argv[1:] if arguments is None else arguments
    if not given or given[0] in ("-h", "--help"):  # Lightning's own help is slow
        parser.parse_args(given)

    from atto_det.pretraining import cli

    cli.run(arguments)
