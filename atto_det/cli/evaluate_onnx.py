"""AP_d and AP_m of an exported detector, and the time that a picture takes.

atto-det evaluate-onnx --model model.onnx --dataset voc_2012_seg_val --output ap.json
atto-det evaluate-onnx --model phone/ --dataset voc_2012_seg_val    exported for LiteRT, ExecuTorch

The JSON file has the keys of atto_det.evaluation.evaluate, and "exported":
  runtime, precision, threads    threads are 0 for the runtime's choice
  files          name -> {bytes, sha256}
  pictures       how many were timed
  median_ms      of a picture, from its pixels in memory to detections at its own size
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

from atto_det.cli import RUNTIME_HELP, output_file, verb_parser
from atto_det.errors import UserError, command_line


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("evaluate-onnx", __doc__)
    result.add_argument(
        "--model", type=Path, required=True, help=".onnx or folder of atto-det export"
    )
    result.add_argument("--dataset", required=True)
    result.add_argument("--config-file", help="names your own folders (DATASETS.FOLDERS)")
    result.add_argument("--runtime", help=f"of .onnx files: {RUNTIME_HELP}")
    threads = "default: the runtime's choice; 1 of a folder"
    result.add_argument("--threads", type=int, default=0, help=threads)
    result.add_argument("--output", type=output_file, default="output/onnx.json", metavar="FILE")
    return result


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Detect in every picture, and score."""
    args = parser().parse_args(arguments)

    from rich.progress import track

    from atto_det import data
    from atto_det.complexity.machine import machine
    from atto_det.data import catalog
    from atto_det.export.host import PARTS, SUFFIXES
    from atto_det.export.parts_detector import PartsDetector
    from atto_det.export.runtimes import OnnxDetector
    from atto_det.torchvision.config import read_file
    from atto_det.training import scoring
    from atto_det.weights.checkpoint import versions
    from atto_det.weights.zoo import file_sha256

    detector: PartsDetector | OnnxDetector
    if args.model.is_dir():
        if args.runtime:
            raise UserError("--runtime is for .onnx files: a folder was exported for its runtime")
        threads = args.threads or 1
        parts = PartsDetector(args.model, threads=threads)
        about, rules = parts.about, parts.about["boxes"]
        floor, most = rules["score_threshold"], rules["most"]
        detector, precision, runtime = parts, about["precision"], about["format"]
        files = [args.model / f"{part}{SUFFIXES[runtime]}" for part in PARTS]
    else:
        runtime, threads, files = args.runtime or "onnxruntime", args.threads, [args.model]
        whole = OnnxDetector(args.model, runtime=runtime, threads=threads)
        floor, most = whole.metadata.score_threshold, whole.metadata.detections_per_image
        detector, precision = whole, whole.metadata.precision
    if args.config_file:
        catalog.register_own_data(read_file(args.config_file))
    dataset = catalog.load_dataset(args.dataset)
    if list(dataset.class_names) != detector.class_names:
        raise UserError(f"{args.dataset} has other classes than {args.model} was trained on")
    found, seconds = {}, []
    for record in track(dataset.records, "detecting", disable=not sys.stdout.isatty()):
        image = data.read_image(record.file_name)
        start = time.perf_counter()
        found[record.image_id] = detector(image, order="RGB")
        seconds.append(time.perf_counter() - start)
    result = scoring.score(
        dataset, found, name=args.dataset, score_floor=floor, detections_per_image=most
    )
    on = machine("cpu", None)
    median = 1000 * statistics.median(seconds)
    result["exported"] = {
        "command": sys.argv,
        "versions": versions(),
        "machine": {"cpu": on["cpu"], "cores": on["cores"]},
        "runtime": runtime,
        "precision": precision,
        "threads": threads,
        "files": {
            path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in files
        },
        "pictures": len(seconds),
        "median_ms": median,
    }
    scoring.report(result, args.output)
    print(f"{precision} in {runtime}: {median:.0f} ms a picture (median)")
    return 0
