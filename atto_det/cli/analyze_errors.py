"""What a detector gets wrong, and what each kind of error costs.

atto-det analyze-errors --checkpoint model_best.pth --dataset voc_2012_seg_val

Writes one page, errors.html (with pictures, for any browser, no network) and errors.json.
"""

import argparse
import json
import sys
from pathlib import Path

from atto_det.cli import output_folder, verb_parser
from atto_det.errors import UserError, command_line, write_file


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("analyze-errors", __doc__)
    result.add_argument("--checkpoint", type=Path, required=True)
    result.add_argument("--dataset", required=True)
    result.add_argument("--config-file", help="names your own folders (DATASETS.FOLDERS)")
    result.add_argument("--engine", choices=("auto", "detectron2", "torchvision"), default="auto")
    result.add_argument("--output", type=output_folder, default="output/errors", metavar="FOLDER")
    result.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        help="minimum score in confusion matrix and pictures",
    )
    result.add_argument("--worst", type=int, default=12, help="pictures drawn")
    return result


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Detect in every picture, judge, draw, write."""
    args = parser().parse_args(arguments)
    if not 0 <= args.threshold <= 1:
        raise UserError(f"--threshold is {args.threshold}; it must be between 0 and 1")
    if args.worst < 0:
        raise UserError(f"--worst is {args.worst}: give 0 or more pictures")

    from rich.progress import track

    from atto_det import data, engine
    from atto_det.data import catalog
    from atto_det.drawing.gallery import draw_detections, draw_truth, to_bgr
    from atto_det.drawing.instances import encode_image, side_by_side
    from atto_det.reports.errors import analyse
    from atto_det.reports.errors_html import page
    from atto_det.training.scoring import to_ground_truth
    from atto_det.weights.checkpoint import run_record

    package = engine.choose(args.engine)
    predictor = package.Predictor(args.checkpoint)
    if args.config_file:
        package.load_config(args.config_file)
    else:
        catalog.register_own_data(predictor.cfg)
    dataset = catalog.load_dataset(args.dataset)
    if list(dataset.class_names) != list(predictor.class_names):
        raise UserError(f"{args.dataset} has other classes than {args.checkpoint} was trained on")
    hidden = not sys.stdout.isatty()
    found = {
        record.image_id: predictor(record.file_name)
        for record in track(dataset.records, "detecting", disable=hidden)
    }
    truth = {record.image_id: to_ground_truth(record) for record in dataset.records}
    content = analyse(
        truth,
        found,
        dataset.class_names,
        split=args.dataset,
        score=args.threshold,
        worst=args.worst,
    )
    content["title"] = f"Errors of {args.checkpoint.name} on {args.dataset}"
    content["remarks"] = [
        f"{content['images']:,} pictures, {content['objects']:,} objects; "
        f"{dataset.left_out} objects left out by the reader.",
    ]
    content["run"] = run_record(
        seed=predictor.cfg.SEED, processes=1, device=predictor.cfg.MODEL.DEVICE
    )
    records = {record.image_id: record for record in dataset.records}
    pictures = []
    for one in content["worst"]:
        record = records[one["image"]]
        image = to_bgr(data.read_image(record.file_name))
        names, detected = dataset.class_names, found[record.image_id]
        drawn = side_by_side(
            draw_truth(image, record, names),
            draw_detections(image, detected, names, args.threshold),
        )
        caption = f"{record.image_id}: {one['wrong']} wrong, {one['unfound']} of {one['objects']} "
        pictures.append((caption + "objects not found", encode_image(drawn, ".jpg")))
    write_file(args.output / "errors.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_file(args.output / "errors.html", page(content, pictures))
    _print(content)
    print(f"wrote {args.output / 'errors.html'} and errors.json")
    return 0


def _print(content: dict) -> None:
    """Costs and counts on the terminal."""
    from atto_det.reports.grid import Grid, print_grids

    kinds = content["kinds"]
    header = ("error", *(f"{kind}\n{what}" for kind in kinds for what in ("costs AP", "count")))
    rows = []
    for name in kinds["box"]["costs"]:
        cells = [(f"{k['costs'][name]:.1f}", f"{k['counts'][name]:,}") for k in kinds.values()]
        rows.append((name, *(cell for pair in cells for cell in pair)))
    aps = ", ".join(f"{kind} AP {figures['AP']:.1f}" for kind, figures in kinds.items())
    print_grids([Grid(f"{content['title']}: {aps}", header, tuple(rows))])
