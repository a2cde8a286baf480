"""Time ONNX files, or the parts of a detector for a phone, in their runtime.

One after the other in every round.

atto-det time-onnx fp32.onnx int8.onnx --size 800 1088 --threads 2
atto-det time-onnx phone/ --threads 1     exported for LiteRT or ExecuTorch
"""

import argparse
from pathlib import Path

from atto_det.cli import RUNTIME_HELP, verb_parser
from atto_det.errors import UserError, command_line


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("time-onnx", __doc__)
    result.add_argument("models", type=Path, nargs="+", help=".onnx or folders of atto-det export")
    result.add_argument("--size", type=int, nargs=2, default=(800, 1088), metavar=("H", "W"))
    result.add_argument("--image", type=Path, help="of detectors, instead of noise of that size")
    result.add_argument("--runtime", default="onnxruntime", help=RUNTIME_HELP)
    result.add_argument("--threads", type=int, default=2)
    result.add_argument("--repeats", type=int, default=9)
    return result


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Measure, and print medians and ratios to the first file."""
    args = parser().parse_args(arguments)
    if min(*args.size, args.repeats) < 1:
        raise UserError("--size and --repeats must be at least 1")

    import numpy as np

    from atto_det import data
    from atto_det.complexity.latency import Contestant, measure
    from atto_det.export.host import PARTS, SUFFIXES
    from atto_det.export.metadata import read_metadata
    from atto_det.export.parts_detector import open_parts
    from atto_det.export.runtimes import open_runtime

    rng = np.random.default_rng(0)
    contestants = []
    for path in args.models:
        if path.is_dir():
            host = open_parts(path, args.threads or 1)
            for part in PARTS:
                run, shape = host.runs[part], host.about["inputs"][part]
                value = rng.normal(size=shape).astype(np.float32)
                name = str(path / f"{part}{SUFFIXES[host.about['format']]}")
                contestants.append(Contestant(name, lambda mark, run=run, value=value: run(value)))
            continue
        metadata, run = read_metadata(path), open_runtime(path, args.runtime, args.threads)
        if metadata.kind == "backbone":
            value = rng.normal(size=(1, 3, *args.size)).astype(np.float32)
        elif args.image:
            value = data.read_image(args.image)
        else:
            value = rng.integers(0, 256, (*args.size, 3), np.uint8)
        contestants.append(Contestant(str(path), lambda mark, run=run, value=value: run(value)))
    timings = measure(contestants, args.repeats)
    for timing in timings:
        ratio = timing.median / timings[0].median
        size = Path(timing.name).stat().st_size / 1e6
        print(f"{timing.name}: {1000 * timing.median:.1f} ms (×{ratio:.2f}), {size:.2f} MB")
    return 0
