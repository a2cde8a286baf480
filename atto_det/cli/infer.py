"""Detect in pictures, folders and videos with an exported model.

atto-det infer street.jpg --model model.onnx --output found.png
atto-det infer photos/ drive.mp4 --model model.onnx --output found/ --json found.json

This is infer_onnx.py, the one file that a device needs besides onnxruntime, numpy and OpenCV.
"""

import argparse
import runpy
from pathlib import Path

import atto_det
from atto_det.cli import verb_parser
from atto_det.errors import UserError, command_line


def parser() -> argparse.ArgumentParser:
    """The flags of infer_onnx.py, which cannot show its own before its packages are loaded."""
    result = verb_parser("infer", __doc__)
    result.add_argument("inputs", nargs="+", type=Path, help="pictures, folders, videos")
    result.add_argument("--model", type=Path, required=True, help=".onnx of atto-det export")
    result.add_argument("--output", type=Path, help="found.png, or the folder found of several")
    result.add_argument("--json", type=Path, help="write the detections to this file, too")
    result.add_argument("--threshold", type=float, default=0.5, help="minimum score shown")
    result.add_argument("--tile", type=int, help="look at larger pictures in tiles of this side")
    return result


@command_line
def main(arguments: list[str] | None = None) -> None:
    """Run the file, which is in the package once installed, else in the checkout."""
    parser().parse_args(arguments)
    package = Path(atto_det.__file__).parent
    folder = package if (package / "tools").is_dir() else package.parent
    program = runpy.run_path(str(folder / "tools/infer_onnx.py"))
    try:
        program["main"](arguments)
    except program["Mistake"] as mistake:
        raise UserError(str(mistake)) from mistake
