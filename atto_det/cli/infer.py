"""Detect in a picture with an exported model.

atto-det infer street.jpg --model model.onnx --output found.png

Where nothing but onnxruntime, numpy and OpenCV is installed, tools/infer_onnx.py does the same.
"""

import argparse
from pathlib import Path

from atto_det.cli import verb_parser
from atto_det.errors import command_line


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("infer", __doc__)
    result.add_argument("image", type=Path)
    result.add_argument("--model", type=Path, required=True, help=".onnx of atto-det export")
    result.add_argument("--runtime", default="onnxruntime", help="onnxruntime or openvino")
    result.add_argument("--output", type=Path, default=Path("found.png"), metavar="FILE")
    result.add_argument("--threshold", type=float, default=0.5, help="least score shown")
    return result


@command_line
def main(arguments: list[str] | None = None) -> None:
    """Read, detect, print, draw."""
    args = parser().parse_args(arguments)

    import numpy as np
    from pycocotools import mask

    from atto_det import data
    from atto_det.drawing.gallery import draw_detections
    from atto_det.drawing.instances import write_image
    from atto_det.export.runtimes import OnnxDetector

    detector = OnnxDetector(args.model, runtime=args.runtime)
    picture = np.ascontiguousarray(data.read_image(args.image)[:, :, ::-1])
    found, names = detector(picture), detector.class_names
    print(f"{'class':<20} {'score':>6}   {'x1':>7} {'y1':>7} {'x2':>7} {'y2':>7}   mask pixels")
    for k in np.flatnonzero(found.scores >= args.threshold):
        corners = " ".join(f"{value:7.1f}" for value in found.boxes[k])
        area = int(mask.area(found.rles[k]))
        print(f"{names[found.classes[k]]:<20} {found.scores[k]:6.1%}   {corners}   {area:11,}")
    write_image(args.output, draw_detections(picture, found, names, args.threshold))
    print(f"wrote {args.output}")
