"""Time detectors by part, in turn, on one picture.

Its regions are fixed; no data is needed.

atto-det benchmark --config-file atto_maskrcnn_lite_voc.yaml \\
    atto_maskrcnn_tiny_voc.yaml@320x320 --against r50-fpn --threads 2 --output FOLDER
atto-det benchmark --config-file atto_maskrcnn_lite_voc.yaml --against r50-fpn \\
    --onnx yolo.onnx --input 640x640 --modes onnx onnx-int8 openvino openvino-int8
atto-det benchmark --config-file atto_maskrcnn_lite_voc.yaml --input 640x640 --profile \\
    --modes fast onnx onnx-int8     where the time goes: operators by kind of layer
atto-det benchmark --config-file atto_maskrcnn_lite_voc.yaml --input 640x640 --modes fast \\
    --scale pixels detections batch     how time and memory grow with each

The docstring of atto_det/detectron2/benchmark.py says what is real and what is fixed. A ratio is a
detector's median divided by that of the first one in the same mode (or in eager mode, if that was
not timed in this mode); a gain is its eager median divided by this one.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atto_det.cli import output_folder, verb_parser
from atto_det.errors import UserError, command_line

if TYPE_CHECKING:
    from atto_det.complexity.benchmarking import BenchmarkCase

# Modes that take an ONNX file as it is, and all that other engines than Detectron2 run.
FILES = ("onnx", "openvino", "openvino-bf16", "onnx-cuda", "onnx-tensorrt")
ENGINES = ("torchvision", *FILES, "onnx-int8", "openvino-int8")
SCALES = ("pixels", "detections", "classes", "batch", "threads", "records")


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("benchmark", __doc__)
    add, sized = result.add_argument, {"nargs": "+", "metavar": "X[@HxW]"}
    add("--config-file", required=True, **sized, help="YAML files, each with its own size")
    add("--against", default=[], **sized, help="r50-fpn, r50-c4")
    add("--onnx", default=[], **sized, help="files of other networks, timed alone")
    add("--input", default="800x1088", metavar="HxW", help="size of all without @HxW")
    add("--batch", type=int, default=1, help="pictures at once; 1")
    add("--threads", type=int, help="of the CPU; default: torch's choice")
    add("--repeats", type=int, default=10, help="rounds that count; 10")
    add("--warmup", type=int, default=1, help="rounds before them; 1")
    add("--proposals", type=int, help="of each picture; each config's own")
    add("--detections", type=int, help="of each picture; each config's own")
    add("--classes", type=int, help="instead of the configs' class counts")
    add("--device", default="cpu", choices=("cpu", "cuda"))
    modes = ("eager", "fast", "compile", *ENGINES)
    add("--modes", nargs="+", choices=modes, help="eager and fast; onnx with --profile")
    add("--profile", action="store_true", help="time each operator, by kind of layer")
    add("--scale", nargs="+", choices=SCALES, help="curves of time and memory over these")
    add("--image", type=Path, help="a picture; default: a painted one")
    add("--no-memory", action="store_true", help="leave peak memory out")
    add("--output", type=output_folder, metavar="FOLDER", help="write MD, JSON and PNG")
    return result


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Time, print, and write files if requested."""
    args = parser().parse_args(arguments)
    counts = (args.batch, args.threads, args.repeats, args.proposals, args.detections, args.classes)
    if min(1 if count is None else count for count in counts) < 1 or args.warmup < 0:
        raise UserError(
            "--batch, --threads, --repeats, --proposals, --detections and --classes must be at "
            "least 1, --warmup at least 0"
        )

    from atto_det.complexity.machine import machine
    from atto_det.config import check_device
    from atto_det.detectron2 import benchmark
    from atto_det.weights import checkpoint

    check_device(args.device)
    keys = ("proposals", "detections", "batch", "device", "classes")
    work = {key: getattr(args, key) for key in keys} | {"image": args.image and str(args.image)}
    modes = args.modes or (["onnx"] if args.profile else ["eager", "fast"])
    if args.scale:
        modes = args.modes or ["fast"]
        others = args.against + args.onnx
        if len(args.config_file) > 1 or len(modes) > 1 or others or args.profile:
            raise UserError(
                "--scale takes one --config-file in one of --modes, without --against, --onnx or "
                "--profile"
            )
    cases = [
        benchmark.BenchmarkCase(name, mode, height, width, **work)
        for name, height, width in (
            benchmark.parse_detector(text, args.input)
            for text in args.config_file + args.against + args.onnx
        )
        for mode in dict.fromkeys(modes)
        if _is_timed(name, mode)
    ]
    if not cases:
        raise UserError(
            f"{', '.join(args.config_file)} cannot run in {', '.join(modes)}: an ONNX file runs in "
            f"{', '.join(FILES)}, and of Detectron2's baselines the other engines have r50-fpn"
        )
    on = machine(args.device, args.threads)
    context = {"command": sys.argv, "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "machine": on}
    context["versions"] = checkpoint.versions()
    measure = _scale if args.scale else _profile if args.profile else _time
    write = measure(args, cases, context)
    if args.output:
        for path in write(args.output):
            print(f"wrote {path}")
    return 0


def _time(
    args: argparse.Namespace, cases: list["BenchmarkCase"], context: dict[str, Any]
) -> Callable[[Path], list[Path]]:
    """Time and print; returns what writes the files into a folder."""
    from rich.progress import track

    from atto_det.detectron2 import benchmark
    from atto_det.export.benchmark import contestant
    from atto_det.reports.grid import print_grids
    from atto_det.reports.latency import latency_tables, write_latencies

    latencies = benchmark.run(
        cases,
        repeats=args.repeats,
        warmup=args.warmup,
        threads=args.threads,
        memory=not args.no_memory,
        others=dict.fromkeys(ENGINES, contestant),
        progress=lambda rounds: track(rounds, "timing"),
    )
    remarks = benchmark.remarks(
        context["machine"], context["versions"], cases[0], latencies, args.repeats, args.warmup
    )
    print_grids(latency_tables(latencies))
    print("\n".join(remarks))
    return lambda folder: write_latencies(folder, latencies, context, remarks)


def _profile(
    args: argparse.Namespace, cases: list["BenchmarkCase"], context: dict[str, Any]
) -> Callable[[Path], list[Path]]:
    """Profile and print; returns what writes the files into a folder."""
    from rich.progress import track

    from atto_det.detectron2 import benchmark
    from atto_det.export.profiling import profile
    from atto_det.reports.grid import print_grids
    from atto_det.reports.profile import profile_tables, remarks, write_profiles

    profiles, limits = profile(
        cases,
        repeats=args.repeats,
        threads=args.threads,
        others=dict.fromkeys(("eager", "fast"), benchmark.make),
        progress=lambda rounds: track(rounds, "profiling"),
    )
    lines = remarks(context["machine"], args.repeats)
    print_grids(profile_tables(profiles, limits))
    print("\n".join(lines))
    return lambda folder: write_profiles(folder, profiles, limits, context, lines)


def _scale(
    args: argparse.Namespace, cases: list["BenchmarkCase"], context: dict[str, Any]
) -> Callable[[Path], list[Path]]:
    """Measure curves and print; returns what writes the files into a folder."""
    from atto_det.detectron2.scaling import curve
    from atto_det.export.benchmark import contestant
    from atto_det.reports.grid import print_grids
    from atto_det.reports.scaling import remarks, scaling_tables, write_scaling

    [case] = cases
    curves = []
    for axis in dict.fromkeys(args.scale):
        curves.append(
            curve(
                axis,
                case,
                repeats=args.repeats,
                warmup=args.warmup,
                threads=args.threads,
                memory=not args.no_memory,
                others=dict.fromkeys(ENGINES, contestant),
            )
        )
        print_grids(scaling_tables(curves[-1:]))  # at once, since the next one may fail
    lines = remarks(context["machine"], args.repeats)
    print("\n".join(lines))
    return lambda folder: write_scaling(folder, curves, context, lines)


def _is_timed(name: str, mode: str) -> bool:
    """Whether it exists: of Detectron2's baselines, the other engines only have R50-FPN."""
    from atto_det.export.benchmark import R50_FPN

    kind = Path(name).suffix
    if kind == ".onnx":
        return mode in FILES
    return mode not in ENGINES or bool(kind) or name == R50_FPN
