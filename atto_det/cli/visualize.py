"""Draw ground truth, predictions, or both side by side.

No display is needed.

atto-det visualize --dataset voc_2012_seg_val                          ground truth
atto-det visualize --checkpoint model_best.pth photo.jpg folder/       predictions
atto-det visualize --checkpoint model_best.pth drive.mp4               an annotated video
atto-det visualize --checkpoint model_best.pth --dataset voc_2012_seg_val
                                                                 ground truth beside prediction
atto-det visualize --augmented --config-file mine.yaml                  what training sees
"""

import argparse
import os
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from atto_det.cli import verb_parser
from atto_det.errors import UserError, command_line


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("visualize", __doc__)
    result.add_argument("inputs", nargs="*", type=Path, help="images, folders of images, videos")
    result.add_argument(
        "--checkpoint", type=Path, help="draw its predictions; it contains its config"
    )
    result.add_argument("--dataset", help="draw the pictures of this data set")
    result.add_argument(
        "--config-file",
        help="names your own folders (DATASETS.FOLDERS), and the model of a checkpoint that "
        "carries no config, such as one of Detectron2's DefaultTrainer",
    )
    result.add_argument(
        "--augmented",
        action="store_true",
        help="draw the first pictures of the training of --config-file (16, or --limit) as the "
        "network sees them, on one contact sheet",
    )
    result.add_argument("--output", type=Path, default=Path("output/visualize"), metavar="FOLDER")
    result.add_argument("--sheet", type=Path, help="write one contact sheet instead of many files")
    result.add_argument("--columns", type=int, default=4, help="of the contact sheet")
    result.add_argument("--threshold", type=float, default=0.5, help="minimum score drawn")
    result.add_argument(
        "--tile", type=int, metavar="PIXELS", help="look at larger pictures in tiles of this side"
    )
    result.add_argument("--labels", choices=("auto", "all", "none"), default="auto")
    result.add_argument("--limit", type=int, help="maximum number of pictures")
    return result


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Draw what the flags ask for."""
    args = parser().parse_args(arguments)
    if args.augmented and (args.inputs or args.dataset or args.checkpoint or not args.config_file):
        raise UserError(
            "--augmented draws the training of --config-file, without pictures, --dataset or "
            "--checkpoint"
        )
    if not args.dataset and not args.inputs and not args.augmented:
        raise UserError("nothing to draw: give images, folders or videos, or --dataset")
    if args.inputs and not args.checkpoint:
        raise UserError("drawing on images and videos needs --checkpoint")
    if (args.limit is not None and args.limit < 1) or args.columns < 1:
        raise UserError("--limit and --columns must be at least 1")
    if args.tile is not None and not args.checkpoint:
        raise UserError("--tile is for the predictions of --checkpoint")
    if not 0 <= args.threshold <= 1:
        raise UserError(f"--threshold is {args.threshold}; it must be between 0 and 1")

    # Our own messages report broken input; set before OpenCV is loaded.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

    from rich.progress import track

    from atto_det import engine
    from atto_det.data.catalog import class_names_of, load_dataset, register_own_data
    from atto_det.drawing import gallery

    if args.augmented:
        package = engine.choose()
        cfg = package.load_config(args.config_file)
        count, sheet = args.limit or 16, args.sheet or args.output / "augmented.png"
        scenes = islice(package.training_scenes(cfg), count)
        names = class_names_of(cfg.DATASETS.TRAIN[0])
        scenes = track(scenes, "drawing", total=count)
        tiles = gallery.scene_tiles(scenes, names, args.labels, order=cfg.INPUT.FORMAT)
        gallery.write_tiles(tiles, args.output, sheet, args.columns)
        print(f"wrote {count} pictures on {sheet}")
        return 0
    videos = [p for p in args.inputs if p.suffix.lower() in gallery.VIDEO_SUFFIXES]
    if args.dataset and len(videos) < len(args.inputs):
        raise UserError("draw images or --dataset, not both at once: run twice")
    if args.sheet and not args.dataset and len(videos) == len(args.inputs):
        raise UserError("--sheet is for pictures; without it a video is written to --output")
    images = gallery.list_images([p for p in args.inputs if p not in videos])[: args.limit]
    targets = gallery.check_targets(args.output, images, videos, args.sheet)

    threshold = args.threshold
    package = engine.choose() if args.checkpoint or args.config_file else None
    predictor = args.checkpoint and package.Predictor(
        args.checkpoint, cfg=args.config_file, score_threshold=threshold, tile=args.tile
    )
    if args.config_file:
        package.load_config(args.config_file)
    elif predictor and args.dataset:
        register_own_data(predictor.cfg)
    for video, target in zip(videos, targets, strict=True):
        names = predictor.class_names
        progress = partial(_track_frames, video.name)
        count = gallery.annotate_video(
            video, target, predictor, names, threshold, progress, args.labels
        )
        print(f"wrote {target} ({count} frames)")

    tiles, total = [], len(images)
    if args.dataset:
        dataset = load_dataset(args.dataset)
        if predictor and list(dataset.class_names) != list(predictor.class_names):
            raise UserError(
                f"{args.dataset} has other classes than {args.checkpoint} was trained on"
            )
        gallery.check_dataset_target(args.output, dataset, args.sheet)
        total = len(dataset.records[: args.limit])
        if not total:
            raise UserError(f"{args.dataset} has no picture to draw; check its image list")
        tiles = gallery.dataset_tiles(dataset, predictor, threshold, args.limit, args.labels)
    elif images:
        tiles = gallery.image_tiles(
            images, predictor, predictor.class_names, threshold, args.labels
        )
    if total:
        tiles = track(tiles, "drawing", total=total)
        gallery.write_tiles(tiles, args.output, args.sheet, args.columns)
        where = f"on {args.sheet}" if args.sheet else f"to {args.output}"
        print(f"wrote {total} pictures {where}")
    return 0


def _track_frames(name: str, frames: Iterator[Any], total: int) -> Iterator[Any]:
    """The frames of a video, with a progress bar; a total of 0 means an unknown number."""
    from rich.progress import track

    return track(frames, name, total=total or None)
