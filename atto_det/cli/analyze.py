"""Count what a detector costs, part by part, beside others.

No data is needed.

atto-det analyze --config-file atto_maskrcnn_voc.yaml --output FOLDER
atto-det analyze --config-file atto_maskrcnn_lite_voc.yaml \\
    --against r50-fpn r50-c4 torchvision --input 800x1088 1024x1024
atto-det analyze --config-file my_retinanet.yaml --against r50-fpn \\
    COCO-Detection/retinanet_R_50_FPN_3x.yaml            any config of Detectron2, its zoo's by name
atto-det analyze --checkpoint model_best.pth --images photos/   regions as found
"""

import argparse
from pathlib import Path

from atto_det.cli import output_folder, verb_parser
from atto_det.errors import UserError, command_line

DEFAULT_INPUTS = ("800x1088", "1024x1024")


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("analyze", __doc__)
    model = result.add_mutually_exclusive_group(required=True)
    model.add_argument("--config-file", type=Path, help="YAML of any Detectron2 model")
    model.add_argument("--checkpoint", type=Path, help="of this project; carries its config")
    names = "r50-fpn r50-c4 torchvision, or a YAML file"
    result.add_argument("--against", nargs="+", default=[], metavar="NAME", help=names)
    sizes = {"nargs": "+", "default": DEFAULT_INPUTS, "metavar": "HxW"}
    result.add_argument("--input", **sizes, help="pixels after resizing; 800x1088 1024x1024")
    result.add_argument("--proposals", type=int, default=1000, help="through the box head; 1000")
    result.add_argument("--detections", type=int, default=100, help="through the mask head; 100")
    result.add_argument(
        "--images",
        nargs="+",
        type=Path,
        help="files, folders: also count with regions found in them",
    )
    result.add_argument("--classes", type=int, help="instead of the config's class count")
    result.add_argument("--memory", action="store_true", help="also count peak memory by part")
    measured = "the same, and measure the peak of a whole run on the CPU"
    result.add_argument("--measure-memory", action="store_true", help=measured)
    result.add_argument(
        "--output", type=output_folder, metavar="FOLDER", help="write MD, JSON and PNG"
    )
    return result


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Count, print, and write files if requested."""
    args = parser().parse_args(arguments)
    if args.images and not args.checkpoint:
        raise UserError("counting on --images needs a trained model: give --checkpoint")
    if args.checkpoint and args.classes is not None:
        raise UserError("--classes is for --config-file; a checkpoint has its own class count")
    if min(args.proposals, args.detections, 1 if args.classes is None else args.classes) < 1:
        raise UserError("--proposals, --detections and --classes must be at least 1")

    import torch
    from rich.progress import track

    from atto_det.config import class_head
    from atto_det.detectron2 import Predictor, analysis, memory, model
    from atto_det.drawing import gallery
    from atto_det.reports.costs import tables
    from atto_det.reports.grid import print_grids

    fixed = {
        f"{height}x{width}": analysis.Pass(height, width, args.proposals, args.detections)
        for height, width in map(analysis.parse_size, args.input)
    }
    workloads = {size: [one_pass] for size, one_pass in fixed.items()}
    remarks = [f"{args.proposals} proposals and {args.detections} detections per picture."]
    if args.checkpoint:
        predictor = Predictor(args.checkpoint, device="cpu")
        cfg = predictor.cfg
    else:
        cfg = analysis.read_config(args.config_file, args.classes)
    net = model.build_model(cfg)  # in the predictor's own model, norms are folded
    if args.images:
        images = gallery.list_images(args.images)
        passes = analysis.passes_on(predictor, images, lambda paths: track(paths, "predicting"))
        workloads[f"mean of {len(passes)} pictures"] = passes
        remarks.append(analysis.describe(passes))
    source = args.config_file or args.checkpoint
    counted = args.memory or args.measure_memory
    analyses = [analysis.analyse(source.stem, str(source), net, workloads, memory=counted)]
    classes = class_head(cfg)[1].NUM_CLASSES
    for name in args.against:
        other, origin = analysis.build_named(name, classes)
        name = Path(name).stem
        analyses.append(analysis.analyse(name, origin, other, workloads, memory=counted))
    if args.measure_memory:
        threads = torch.get_num_threads()
        analyses = memory.measure_peaks(analyses, cfg, fixed, threads)
        remarks.append(memory.REMARK.format(threads=threads))
    remarks += [f"{a.name}: {a.source}{a.note and '; '}{a.note}." for a in analyses]
    print_grids(tables(analyses))
    print("\n".join(remarks))
    if args.output:
        for path in analysis.write(args.output, analyses, cfg, workloads, remarks):
            print(f"wrote {path}")
    return 0
