"""Detect in a picture with an exported model: one file for the device.

python infer_onnx.py street.jpg --model model.onnx --output found.png

Needs onnxruntime, numpy and OpenCV. What the model is and takes stands in its own metadata.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # before OpenCV is loaded

import cv2
import numpy as np
import onnxruntime

FORMAT = 1  # of the metadata
OUTPUTS = ("boxes", "classes", "scores", "masks")
FONT = cv2.FONT_HERSHEY_SIMPLEX


class Mistake(Exception):
    """One sentence for the user."""


def load_model(path: Path) -> tuple[onnxruntime.InferenceSession, dict]:
    """The model, and its metadata by name."""
    if not path.is_file():
        raise Mistake(f"{path} does not exist")
    onnxruntime.set_default_logger_severity(4)  # its errors become sentences here
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise Mistake(f"{path} is no ONNX model, or damaged ({str(error).strip()})") from error
    texts = session.get_modelmeta().custom_metadata_map
    if not (number := texts.get("atto_det_format", "")).isdecimal():
        raise Mistake(f"{path} was not written by atto_det: make one with its tools/export.py")
    if int(number) > FORMAT:
        raise Mistake(f"{path} has format {number}, this program reads {FORMAT}: get a newer one")
    metadata = {k: json.loads(texts[k]) for k in ("kind", "class_names", "channel_order")}
    if metadata["kind"] != "detector":
        raise Mistake(f"{path} holds a {metadata['kind']}, which detects nothing by itself")
    return session, metadata


def read_picture(path: Path) -> np.ndarray:
    """BGR uint8 (H, W, 3), upright as EXIF says; of 16 bits a channel the high byte."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Mistake(f"{path} cannot be read: {error.strerror}") from error
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    # OpenCV fills up what is missing of a JPEG, its end included, and says nothing.
    cut = content.startswith(b"\xff\xd8") and content.rfind(b"\xff\xd9") < len(content) // 2
    if picture is None or cut:
        raise Mistake(f"{path} is no picture, or a damaged one")
    return (picture >> 8).astype(np.uint8) if picture.dtype == np.uint16 else picture


def detect(session: onnxruntime.InferenceSession, metadata: dict, picture: np.ndarray) -> list:
    """boxes (N, 4) in pixels, classes (N,), scores (N,), masks (N, 28, 28), highest score first."""
    step = -1 if metadata["channel_order"] == "RGB" else 1
    return session.run(OUTPUTS, {"image": np.ascontiguousarray(picture[:, :, ::step])})


def spread(start: float, end: float, low: int, high: int, cells: int) -> np.ndarray:
    """(high - low, cells): how much of each cell of a mask the pixels get."""
    places = (np.arange(low, high) + 0.5 - start) / (end - start) * cells - 0.5
    return np.clip(1 - np.abs(places[:, None] - np.arange(cells)), 0, None)


def paste(mask: np.ndarray, box: np.ndarray, height: int, width: int) -> tuple[slice, np.ndarray]:
    """A mask (28, 28) on its box: the place in the picture, and whether each pixel belongs."""
    x1, y1 = np.clip(np.floor(box[:2]).astype(int), 0, None)
    x2, y2 = np.minimum(np.ceil(box[2:]).astype(int), (width, height))
    rows = spread(box[1], box[3], y1, y2, mask.shape[0])
    columns = spread(box[0], box[2], x1, x2, mask.shape[1])
    return np.s_[y1:y2, x1:x2], rows @ mask @ columns.T >= 0.5


def colour_of(index: int) -> tuple[int, int, int]:
    """BGR; neighbouring classes lie far apart on the colour circle."""
    hsv = np.uint8([[[index * 67 % 180, 200, 255]]])
    return tuple(map(int, cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0]))


def draw(picture: np.ndarray, found: list, class_names: list[str]) -> np.ndarray:
    """A copy of the picture with masks, boxes and labels; the surest end on top."""
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


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        temporary.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())
        temporary.replace(path)
    except (OSError, cv2.error) as error:
        reason = getattr(error, "strerror", None) or "use .png or .jpg"
        raise Mistake(f"{path} was not written: {reason}") from error
    finally:
        temporary.unlink(missing_ok=True)


def main() -> None:
    """Read, detect, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--output", type=Path, default="found.png")
    parser.add_argument("--threshold", type=float, default=0.5, help="least score shown")
    args = parser.parse_args()
    (session, metadata), picture = load_model(args.model), read_picture(args.image)
    names, found = metadata["class_names"], detect(session, metadata, picture)
    found = [values[found[2] >= args.threshold] for values in found]
    print(f"{'class':<20} {'score':>6}   {'x1':>7} {'y1':>7} {'x2':>7} {'y2':>7}   mask pixels")
    for box, index, score, mask in zip(*found, strict=True):
        area = paste(mask, box, *picture.shape[:2])[1].sum()
        corners = " ".join(f"{value:7.1f}" for value in box)
        print(f"{names[index]:<20} {score:6.1%}   {corners}   {area:11,}")
    write_picture(args.output, draw(picture, found, names))
    print(f"wrote {args.output}")


if __name__ == "__main__":
    try:
        main()
    except Mistake as mistake:
        sys.exit(f"error: {mistake}")
