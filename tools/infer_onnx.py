"""Detect in pictures, folders of them and videos with an exported model: one file for the device.

python infer_onnx.py street.jpg --model model.onnx --output found.png
python infer_onnx.py photos/ drive.mp4 --model model.onnx --output found/ --json found.json
python infer_onnx.py aerial.png --model model.onnx --tile 640     in tiles, where it is larger

It needs onnxruntime, numpy and OpenCV. The model's own metadata describe the model and its input.
"""

import argparse
import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OPENCV_LOG_LEVEL", "FATAL")  # before OpenCV is loaded
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np
import onnxruntime

FORMAT = 1  # of the metadata
OUTPUTS = ("boxes", "classes", "scores", "masks")
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
FONT = cv2.FONT_HERSHEY_SIMPLEX


class Mistake(Exception):
    """An error to show to the user as one sentence."""


def load_model(path: Path) -> tuple[onnxruntime.InferenceSession, dict]:
    """The model, and its metadata by name."""
    if not path.is_file():
        raise Mistake(f"{path} does not exist")
    onnxruntime.set_default_logger_severity(4)  # its errors are reported by our own messages
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise Mistake(f"{path} is not an ONNX model, or damaged ({str(error).strip()})") from error
    texts = session.get_modelmeta().custom_metadata_map
    number = texts.get("atto_det_format", "")
    if not (number.isdecimal() and len(number) < 9):
        raise Mistake(f"{path} was not written by atto_det: make one with atto-det export")
    if int(number) > FORMAT:
        raise Mistake(f"{path} has format {number}, this program reads {FORMAT}: get a newer one")
    try:
        metadata = {k: json.loads(texts[k]) for k in ("kind", "class_names", "channel_order")}
    except (KeyError, ValueError, RecursionError):
        metadata = {}
    names = metadata.get("class_names")
    fits = isinstance(names, list) and all(isinstance(name, str) for name in names)
    fits = fits and metadata["kind"] in ("detector", "backbone")
    if not fits or metadata["channel_order"] not in ("RGB", "BGR"):
        raise Mistake(f"{path} has metadata that was damaged: export it again")
    if metadata["kind"] == "backbone":
        raise Mistake(f"{path} holds a backbone, which detects nothing by itself")
    return session, metadata


def read_picture(path: Path) -> np.ndarray:
    """BGR uint8 (H, W, 3), upright as EXIF says; of 16 bits per channel, the high byte."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Mistake(f"{path} cannot be read: {error.strerror}") from error
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    try:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    except cv2.error as error:
        reason = "is not a picture, or has more pixels than OPENCV_IO_MAX_IMAGE_PIXELS allows"
        raise Mistake(f"{path} {reason} (an environment variable)") from error
    # OpenCV silently fills in missing parts of a JPEG, including its end.
    cut = content.startswith(b"\xff\xd8") and content.rfind(b"\xff\xd9") < len(content) // 2
    if picture is None or cut:
        raise Mistake(f"{path} is not a picture, or a damaged one")
    if picture.dtype not in (np.uint8, np.uint16):
        raise Mistake(f"{path} has 32 bits a channel: save it with 8 or 16")
    return (picture >> 8).astype(np.uint8) if picture.dtype == np.uint16 else picture


def detect(session: onnxruntime.InferenceSession, metadata: dict, picture: np.ndarray) -> list:
    """boxes (N, 4) in pixels, classes (N,), scores (N,), masks (N, 28, 28), highest score first."""
    step = -1 if metadata["channel_order"] == "RGB" else 1
    try:
        found = session.run(OUTPUTS, {"image": np.ascontiguousarray(picture[:, :, ::step])})
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:300]
        raise Mistake(f"the model cannot be run on this picture ({reason})") from error
    if not all(np.isfinite(values).all() for values in found):
        raise Mistake("the model gives values that are NaN or infinite: its weights are damaged")
    (boxes, classes), count = found[:2], len(metadata["class_names"])
    if classes.size and not 0 <= classes.min() <= classes.max() < count:
        raise Mistake(f"the model finds class {classes.max()}, but has names of {count}")
    height, width = picture.shape[:2]
    boxes[:] = boxes.clip(0, [width, height, width, height])
    kept = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return [values[kept] for values in found]


def tiles_of(height: int, width: int, side: int) -> list[tuple[int, int, int, int]]:
    """top, left, bottom, right of tiles that overlap by a quarter, at least."""
    starts = []
    for length in (height, width):
        steps = max(0, -(-4 * (length - side) // (3 * side)))
        starts.append([(length - side) * k // steps if steps else 0 for k in range(steps + 1)])
    return [
        (top, left, min(top + side, height), min(left + side, width))
        for top in starts[0]
        for left in starts[1]
    ]


def detect_in_tiles(look: Callable[[np.ndarray], list], picture: np.ndarray, side: int) -> list:
    """What `look` finds in tiles of a picture; the masks are pixels of the boxes, bool (h, w).

    Two detections of one class are one object where half of their masks agree in what both tiles
    show: then their masks and boxes are joined, and the higher score counts.
    """
    parts = []
    for tile in tiles_of(*picture.shape[:2], side):
        top, left, bottom, right = tile
        for box, index, score, mask in zip(*look(picture[top:bottom, left:right]), strict=True):
            (rows, columns), inside = paste(mask, box, bottom - top, right - left)
            corner = np.array([top + rows.start, left + columns.start])
            parts.append((tile, box + np.float64([left, top] * 2), index, score, corner, inside))
    groups = {k: [k] for k in range(len(parts))}
    for _, one, other in sorted(same_objects(parts), key=lambda pair: -pair[0]):
        one, other = (next(g for g, own in groups.items() if k in own) for k in (one, other))
        tiles = {parts[k][0] for k in groups[one]}
        if one != other and not any(parts[k][0] in tiles for k in groups[other]):
            groups[one] += groups.pop(other)
    merged = []
    for own in ([parts[k] for k in group] for group in groups.values()):
        boxes = np.array([part[1] for part in own])
        box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
        (x1, y1), (x2, y2) = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
        merged.append((box, own[0][2], max(p[3] for p in own), shown(own, (y1, x1, y2, x2))))
    merged.sort(key=lambda item: -item[2])
    masks = np.empty(len(merged), object)
    masks[:] = [item[3] for item in merged]
    boxes = np.array([item[0] for item in merged]).reshape(-1, 4)
    return [boxes, np.array([i[1] for i in merged], int), np.array([i[2] for i in merged]), masks]


def same_objects(parts: list) -> list[tuple[float, int, int]]:
    """IoU in what both tiles show, and the places, of each two parts of one object."""
    pairs, classes = [], np.array([part[2] for part in parts])
    boxes = np.array([part[1] for part in parts]).reshape(-1, 4)
    for first, (tile, box, index, *_) in enumerate(parts):
        starts, ends = np.split(boxes[:first], 2, axis=1)
        near = (np.maximum(starts, box[:2]) < np.minimum(ends, box[2:])).all(axis=1)
        for second in np.flatnonzero(near & (classes[:first] == index)):
            other = parts[second][0]
            if tile == other:
                continue
            area = (*map(max, tile[:2], other[:2]), *map(min, tile[2:], other[2:]))
            masks = [shown([parts[k]], area) for k in (first, second)]
            overlap = (masks[0] & masks[1]).sum() / max(1, (masks[0] | masks[1]).sum())
            if overlap >= 0.5:
                pairs.append((overlap, first, second))
    return pairs


def shown(parts: list, area: tuple[int, int, int, int]) -> np.ndarray:
    """The masks of parts as one, bool, in an area (top, left, bottom, right) of the picture."""
    low, high = np.array(area[:2]), np.array(area[2:])
    canvas = np.zeros(np.maximum(high - low, 0), bool)
    for *_, corner, mask in parts:
        start, end = np.maximum(corner, low), np.minimum(corner + mask.shape, high)
        if (start < end).all():
            inside = mask[(*map(slice, start - corner, end - corner),)]
            canvas[(*map(slice, start - low, end - low),)] |= inside
    return canvas


def spread(start: float, end: float, low: int, high: int, cells: int) -> np.ndarray:
    """(high - low, cells): the weight of each cell of a mask for each pixel."""
    places = (np.arange(low, high) + 0.5 - start) / (end - start) * cells - 0.5
    return np.clip(1 - np.abs(places[:, None] - np.arange(cells)), 0, None)


def paste(mask: np.ndarray, box: np.ndarray, height: int, width: int) -> tuple[slice, np.ndarray]:
    """A mask on its box: the place in the picture, and whether each pixel belongs.

    One (28, 28) of probabilities, or of bool for each pixel.
    """
    x1, y1 = np.clip(np.floor(box[:2]).astype(int), 0, None)
    x2, y2 = np.minimum(np.ceil(box[2:]).astype(int), (width, height))
    if mask.dtype == bool:
        return np.s_[y1:y2, x1:x2], mask
    rows = spread(box[1], box[3], y1, y2, mask.shape[0])
    columns = spread(box[0], box[2], x1, x2, mask.shape[1])
    return np.s_[y1:y2, x1:x2], rows @ mask @ columns.T >= 0.5


def colour_of(index: int) -> tuple[int, int, int]:
    """A BGR colour; those of neighbouring classes are far apart on the colour circle."""
    hsv = np.uint8([[[index * 67 % 180, 200, 255]]])
    return tuple(map(int, cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0]))


def draw(picture: np.ndarray, found: list, class_names: list[str]) -> np.ndarray:
    """A copy of the picture with masks, boxes and labels; the surest are on top."""
    picture = picture.copy()
    (height, width), items = picture.shape[:2], list(zip(*found, strict=True))[::-1]
    scale = max(0.4, (height * width) ** 0.5 / 1000)
    line = max(1, round(2 * scale))
    for box, index, _, mask in items:
        place, inside = paste(mask, box, height, width)
        picture[place][inside] = picture[place][inside] // 2 + np.array(colour_of(index)) // 2
    for box, index, score, _ in items:
        x1, y1, x2, y2 = map(int, np.rint(box))
        cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), colour_of(index), line)
        text = f"{class_names[index]} {score:.0%}"
        (wide, high), _ = cv2.getTextSize(text, FONT, scale, line)
        x, y = max(0, min(x1, width - wide)), max(y1, high + 2 * line)
        corners = (x, y - high - 2 * line), (x + wide, y + line)
        cv2.rectangle(picture, *corners, colour_of(index), cv2.FILLED)
        cv2.putText(picture, text, (x, y), FONT, scale, (0, 0, 0), line)
    return picture


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path that is renamed to `path` at the end, if there was no error."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except BrokenPipeError:
        raise  # from something printed inside the block
    except (OSError, cv2.error) as error:
        reason = getattr(error, "strerror", None) or "use .png or .jpg"
        raise Mistake(f"{path} was not written: {reason}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture completely or not at all."""
    with whole(path) as temporary:
        temporary.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())


def is_video(path: Path) -> bool:
    """Whether a path has the suffix of a video."""
    return path.suffix.lower() in VIDEOS


def list_inputs(paths: list[Path]) -> list[Path]:
    """The pictures and videos among `paths`, and those directly in folders, sorted."""
    found = []
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else []
        inside = [p for p in inside if p.suffix.lower() in PICTURES + VIDEOS]
        if path.is_dir() and not inside:
            raise Mistake(f"{path} holds no picture and no video")
        found += inside or [path]
    return found


def runs_of(box: np.ndarray, mask: np.ndarray, height: int, width: int) -> list[int]:
    """COCO's uncompressed RLE: lengths of runs in column order, the first one outside."""
    place, inside = paste(mask, box, height, width)
    whole_mask = np.zeros((height, width), bool)
    whole_mask[place] = inside
    edges = np.flatnonzero(np.diff(whole_mask.ravel(order="F"), prepend=False)).tolist()
    return np.diff([0, *edges, height * width]).tolist()


def as_json(found: list, names: list[str], height: int, width: int) -> list[dict]:
    """The detections of a picture as JSON values."""
    return [
        {
            "class": names[index],
            "class_index": int(index),
            "score": float(score),
            "box": [float(side) for side in box],  # x1 y1 x2 y2
            "mask": {"size": [height, width], "counts": runs_of(box, mask, height, width)},
        }
        for box, index, score, mask in zip(*found, strict=True)
    ]


def print_rows(found: list, names: list[str], height: int, width: int) -> None:
    """A line for each detection."""
    print(f"{'class':<20} {'score':>6}   {'x1':>7} {'y1':>7} {'x2':>7} {'y2':>7}   mask pixels")
    for box, index, score, mask in zip(*found, strict=True):
        area = paste(mask, box, height, width)[1].sum()
        corners = " ".join(f"{value:7.1f}" for value in box)
        print(f"{names[index]:<20} {score:6.1%}   {corners}   {area:11,}")


def annotate_video(path: Path, target: Path, look: Callable[[np.ndarray, int], np.ndarray]) -> int:
    """Write a video in which `look` has processed each frame; returns the number of frames."""
    if f"{path}{target}" != f"{path}{target}".encode(errors="replace").decode():
        raise Mistake(f"{path} is not a name in UTF-8, without which OpenCV crashes: rename it")
    capture = cv2.VideoCapture(str(path))
    readable, frame = capture.read()
    if not readable:
        raise Mistake(f"{path} is not a video that OpenCV can read")
    height, width = frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2  # video needs even sides
    rate, count = capture.get(cv2.CAP_PROP_FPS) or 25, 0
    with whole(target) as temporary:
        for name in ("avc1", "mp4v"):  # H.264 if OpenCV has it, else MPEG-4
            code = cv2.VideoWriter.fourcc(*name)
            writer = cv2.VideoWriter(str(temporary), code, rate, (width, height))
            if writer.isOpened():
                break
        try:
            while readable and writer.isOpened():
                writer.write(look(frame, count)[:height, :width])
                count += 1
                readable, frame = capture.read()
        finally:
            writer.release()
        if readable:
            raise Mistake(f"{target} was not written: OpenCV cannot make it")
    return count


def main(arguments: list[str] | None = None) -> None:
    """Read, detect, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inputs", nargs="+", type=Path, help="pictures, folders, videos")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--output", type=Path, help="found.png, or the folder found of several")
    parser.add_argument("--json", type=Path, help="write the detections to this file, too")
    parser.add_argument("--threshold", type=float, default=0.5, help="minimum score shown")
    parser.add_argument("--tile", type=int, help="look at larger pictures in tiles of this side")
    args = parser.parse_args(arguments)
    if args.tile is not None and args.tile < 64:
        raise Mistake(f"--tile is {args.tile}: give 64 pixels or more")
    if not 0 <= args.threshold <= 1:
        raise Mistake(f"--threshold is {args.threshold}; it must be between 0 and 1")
    session, metadata = load_model(args.model)
    names, inputs = metadata["class_names"], list_inputs(args.inputs)
    single = inputs == args.inputs and len(inputs) == 1 and not is_video(inputs[0])
    output = args.output or Path("found.png" if single else "found")
    targets, taken = {}, set()
    for path in inputs:
        name, number = path.stem, 1
        while name in taken:
            number += 1
            name = f"{path.stem}_{number}"
        taken.add(name)
        suffix = ".mp4" if is_video(path) else ".png"
        targets[path] = output if single else output / f"{name}{suffix}"
    known = {path.resolve() for path in [*inputs, args.model]}
    for target in [*targets.values(), *filter(None, [args.json])]:
        if target.resolve() in known:
            raise Mistake(f"{target} is one of the inputs, or written twice: choose another output")
        known.add(target.resolve())

    with contextlib.ExitStack() as stack:
        records, separator = None, "[\n"
        if args.json:
            records = stack.enter_context(stack.enter_context(whole(args.json)).open("w"))

        def look(picture: np.ndarray, path: Path, frame: int | None = None) -> np.ndarray:
            nonlocal separator
            height, width = picture.shape[:2]
            try:
                whole = args.tile is None or max(height, width) <= args.tile
                see = functools.partial(detect, session, metadata)
                found = see(picture) if whole else detect_in_tiles(see, picture, args.tile)
            except Mistake as mistake:
                raise Mistake(f"{path}: {mistake}") from mistake
            found = [values[found[2] >= args.threshold] for values in found]
            if records:
                row = {"file": str(path), "frame": frame, "height": height, "width": width}
                row["detections"] = as_json(found, names, height, width)
                records.write(separator + json.dumps(row))
                separator = ",\n"
            if frame is None:
                print_rows(found, names, height, width)
            return draw(picture, found, names)

        if not single:
            try:
                output.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise Mistake(f"{output} cannot be made: {error.strerror}") from error
        for path, target in targets.items():
            if is_video(path):
                count = annotate_video(path, target, lambda frame, k, p=path: look(frame, p, k))
                print(f"wrote {target} ({count} frames)")
                continue
            if not single:
                print(path)
            write_picture(target, look(read_picture(path), path))
            print(f"wrote {target}")
        if records:
            records.write("\n]\n")
    if args.json:
        print(f"wrote {args.json}")


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # for class names on an ASCII terminal
    try:
        main()
        sys.stdout.flush()
    except Mistake as mistake:
        sys.exit(f"error: {mistake}")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of the output has gone, as with `| head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
