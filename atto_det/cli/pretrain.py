"""Train a classifier whose backbone a detector can start from. Lightning's command line.

python tools/pretrain.py fit --config configs/pretrain/attonet_a_imagenet50.yaml
python tools/pretrain.py fit --config configs/pretrain/attonet_a_imagenet50.yaml --ckpt_path last
python tools/pretrain.py validate --config … --ckpt_path output/pretrain/attonet_a/best.ckpt
"""

from atto_det.errors import UserError, command_line


@command_line
def main(arguments: list[str] | None = None) -> None:
    """Run the subcommand: fit, validate or test."""
    try:
        from atto_det.pretraining import cli
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is missing: run make setup, or pip install '.[pretraining]'"
        ) from error

    cli.run(arguments)
