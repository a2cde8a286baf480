"""Write the backbone of a trained classifier as a file that detectors start from.

python tools/export.py --checkpoint last.ckpt --format safetensors --output attonet_a.safetensors
python tools/train_net.py --config-file configs/atto_maskrcnn_voc.yaml \\
    MODEL.WEIGHTS attonet_a.safetensors
python tools/export.py --checkpoint last.ckpt --format pth --output attonet_a.pth \\
    --config-file detector.yaml     for Detectron2's own tools, fitted to this detector's pictures
"""

import argparse
import sys
from pathlib import Path

from atto_det.errors import UserError, command_line

BASE = Path(__file__).resolve().parents[1] / "configs/Base-Atto-MaskRCNN.yaml"


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--checkpoint", type=Path, required=True, help=".ckpt of the pretraining")
    result.add_argument(
        "--format",
        choices=("safetensors", "pth"),
        required=True,
        help="safetensors: for tools/train_net.py; pth: for any tool of Detectron2",
    )
    result.add_argument("--output", type=Path, required=True, metavar="FILE")
    result.add_argument(
        "--config-file",
        type=Path,
        help="with pth: detector whose PIXEL_MEAN, PIXEL_STD, INPUT.FORMAT the stem is made for "
        "(default: configs/Base-Atto-MaskRCNN.yaml)",
    )
    return result


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Read, write, and say what was written."""
    args = parser().parse_args(arguments)
    if args.output.suffix != f".{args.format}":
        raise UserError(f"--output {args.output} must end in .{args.format}, as --format says")
    if args.format == "safetensors" and args.config_file:
        raise UserError(
            "--config-file is for --format pth: a safetensors file is fitted to a detector's "
            "pictures when the detector loads it"
        )

    from atto_det import weights
    from atto_det.config import load_yaml
    from atto_det.nets import ATTONETS
    from atto_det.nets.normalisation import Normalisation, difference

    state, description = weights.read_pretraining(args.checkpoint)
    if description.network not in ATTONETS:
        raise UserError(
            f"checkpoint {args.checkpoint} holds {description.network}; the backbones exported "
            f"for detectors are {', '.join(ATTONETS)}"
        )
    backbone = weights.without_head(state)
    stem = f"as trained: {description.normalisation}"
    if args.format == "safetensors":
        sha256 = weights.write_backbone(args.output, backbone, description)
    else:
        config = args.config_file or BASE
        fed = Normalisation.of_detector(load_yaml(config), str(config))
        sha256 = weights.write_detectron2(args.output, backbone, description, fed)
        absorbed = difference(description.normalisation, fed) or "nothing"
        stem = f"for {config.name}: {fed}; absorbed: {absorbed}"
    print(f"wrote {args.output}, {args.output.stat().st_size / 1e6:.1f} MB")
    print(f"  weights  {description}")
    print(f"  epoch    {description.epoch}")
    print(f"  tensors  {len(backbone)}; left out: {', '.join(sorted(state.keys() - backbone))}")
    print(f"  stem     {stem}")
    print(f"  sha256   {sha256} of tensors and description, checked at loading")
    return 0


if __name__ == "__main__":
    sys.exit(main())
