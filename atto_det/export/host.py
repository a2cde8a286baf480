"""Detects with the parts of an exported detector; all that happens between them is done in numpy.

python host.py street.jpg --model tiny/ --threshold 0.5

A file for the device, which can be copied there on its own, and the reference for a program in
another language. It needs numpy, Pillow for the command, and LiteRT (`ai-edge-litert`) or
ExecuTorch to run the parts. `detector.json` in the folder describes them; `Host` says what they
take and give.

Shapes in comments: H and W height and width, C channels, A anchors per place, K classes,
R regions, P bins along an axis.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FORMAT = 1  # of the description
DESCRIPTION = "detector.json"
PARTS = ("picture", "boxes", "masks")
SUFFIXES = {"litert": ".tflite", "executorch": ".pte"}
MOST_GROWTH = np.float32(np.log(1000 / 16))  # of a side in one regression, as in Detectron2

Run = Callable[[np.ndarray], dict[str, np.ndarray]]  # from the input to outputs by name


class Mistake(ValueError):
    """An error to show to the user as one sentence."""


class Found(NamedTuple):
    """Detections in a resized picture, highest score first.

    boxes (N, 4): x1 y1 x2 y2 in its pixels. classes (N,): from 0. scores (N,). masks (N, M, M):
    probabilities on a grid over the box.
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    masks: np.ndarray


class Host:
    """A detector in three parts, with proposals, pooling and selection between them.

    Args:
        about: the description, `detector.json`.
        runs: the parts by name. Each takes one array and returns its outputs by name, float32:
            picture: (1, H, W, 3), normalised, zeros beside the picture, to each level's map
                (1, h, w, C), `logits_…` (1, h, w, A) and `deltas_…` (1, h, w, 4 * A).
            boxes: pooled regions (R, P, P, C) to `scores` (R, K + 1), probabilities, the
                background first, and `deltas` (R, 4 * (K + 1)).
            masks: pooled regions (R, P, P, C) to `masks` (R, M, M, K + 1) of probabilities.
    """

    def __init__(self, about: Mapping[str, Any], runs: Mapping[str, Run]) -> None:
        self.about, self.runs = about, runs
        self.class_names: list[str] = list(about["class_names"])
        self.size = (int(about["size"][0]), int(about["size"][1]))
        self.mean, self.std = np.float32(about["mean"]), np.float32(about["std"])
        self.anchors = [grid(**level) for level in about["levels"]]
        self.strides = {level["name"]: level["stride"] for level in about["levels"]}

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width to which the caller resizes a picture.

        The shorter side becomes `min_size`, or less where the longer one would exceed `max_size`
        or where the picture would not fit into `size`.
        """
        short, longest = float(self.about["min_size"]), self.about["max_size"]
        scale = short / min(height, width)
        rows, columns = (short, scale * width) if height < width else (scale * height, short)
        shrink = min(1, longest / max(rows, columns))
        rows, columns = rows * shrink, columns * shrink
        shrink = min(1, self.size[0] / rows, self.size[1] / columns)
        return max(1, int(rows * shrink + 0.5)), max(1, int(columns * shrink + 0.5))

    def __call__(self, pixels: np.ndarray) -> Found:
        """Detections in (h, w, 3) of 0 to 255, resized, channels in the description's order."""
        height, width = pixels.shape[:2]
        canvas = np.zeros((1, *self.size, 3), np.float32)
        canvas[0, :height, :width] = (pixels - self.mean) / self.std
        outputs = self.run("picture", canvas)
        regions = self.propose(outputs, height, width)
        maps = [outputs[name][0] for name in self.about["pooled"]]
        boxes, classes, scores = self.choose(maps, regions, height, width)
        masks = self.head("masks", maps, boxes)["masks"]  # (N, M, M, K + 1)
        return Found(boxes, classes, scores, masks[np.arange(len(boxes)), :, :, classes + 1])

    def propose(self, outputs: Mapping[str, np.ndarray], height: int, width: int) -> np.ndarray:
        """The best regions (R, 4) in which there may be an object."""
        rules, kept = self.about["proposals"], []
        for index, (level, anchors) in enumerate(zip(self.strides, self.anchors, strict=True)):
            logits = outputs[f"logits_{level}"].reshape(-1)
            best = np.argsort(-logits, kind="stable")[: rules["before_nms"]]
            deltas = outputs[f"deltas_{level}"].reshape(-1, 4)[best]
            boxes = decode(deltas, anchors[best], rules["box_weights"])
            kept.append((clip(boxes, height, width), logits[best], np.full(len(best), index)))
        boxes, logits, levels = (np.concatenate(column) for column in zip(*kept, strict=True))
        large = (boxes[:, 2:] - boxes[:, :2] > rules["min_side"]).all(axis=1)
        boxes, logits, levels = boxes[large], logits[large], levels[large]
        return boxes[nms(boxes, logits, levels, rules["nms_threshold"], rules["most"])]

    def choose(
        self, maps: Sequence[np.ndarray], regions: np.ndarray, height: int, width: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (N, 4), classes (N,) and scores (N,) of the objects in the regions."""
        rules = self.about["boxes"]
        outputs = self.head("boxes", maps, regions)
        scores = outputs["scores"][:, 1:]  # (R, K)
        row, classes = np.nonzero(scores > rules["score_threshold"])
        deltas = outputs["deltas"].reshape(len(regions), scores.shape[1] + 1, 4)[row, classes + 1]
        boxes = clip(decode(deltas, regions[row], rules["box_weights"]), height, width)
        kept = nms(boxes, scores[row, classes], classes, rules["nms_threshold"], rules["most"])
        return boxes[kept], classes[kept], scores[row, classes][kept]

    def head(
        self, part: str, maps: Sequence[np.ndarray], regions: np.ndarray
    ) -> dict[str, np.ndarray]:
        """What a part gives for regions (R, 4), of which it takes a fixed number at a time."""
        rules, results = self.about[part], []
        strides = [self.strides[name] for name in self.about["pooled"]]
        count = rules["regions"]
        for start in range(0, max(len(regions), 1), count):  # at least one, for the shapes
            own = regions[start : start + count]
            pooled = pool(maps, own, strides, rules["bins"], rules["samples"])
            full = np.zeros((count, *pooled.shape[1:]), np.float32)
            full[: len(own)] = pooled
            outputs = self.run(part, full)
            results.append({name: value[: len(own)] for name, value in outputs.items()})
        return {name: np.concatenate([r[name] for r in results]) for name in results[0]}

    def run(self, part: str, value: np.ndarray) -> dict[str, np.ndarray]:
        """A part's outputs.

        Raises:
            Mistake: values that are not finite.
        """
        outputs = self.runs[part](value)
        if broken := [name for name, own in outputs.items() if not np.isfinite(own).all()]:
            raise Mistake(f"the part {part} gives {', '.join(broken)} that are NaN or infinite")
        return outputs


def grid(
    name: str, stride: int, shape: Sequence[int], anchors: Sequence[Sequence[float]]
) -> np.ndarray:
    """A level's anchors (H * W * A, 4): those around zero, at each place of its map."""
    y, x = (np.arange(cells, dtype=np.float32) * stride for cells in shape)
    places = np.stack(np.broadcast_arrays(x, y[:, None], x, y[:, None]), axis=-1)  # (H, W, 4)
    return (places[:, :, None] + np.float32(anchors)).reshape(-1, 4)


def decode(deltas: np.ndarray, boxes: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Boxes (N, 4) moved and grown as `deltas` (N, 4) say: dx dy dw dh, times `weights`."""
    deltas = deltas / np.float32(weights)
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + sides / 2 + deltas[:, :2] * sides
    sides = sides * np.exp(np.minimum(deltas[:, 2:], MOST_GROWTH))
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)


def clip(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Boxes (N, 4) cut at the borders of a picture."""
    return boxes.clip(0, np.float32([width, height, width, height]))


def nms(
    boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, threshold: float, limit: int
) -> np.ndarray:
    """Indices of at most `limit` boxes that no better one of the same group overlaps, best first.

    Args:
        threshold: IoU above which the better box suppresses the other.
    """
    order, kept = np.argsort(-scores, kind="stable"), []
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    while len(order) and len(kept) < limit:
        best, order = order[0], order[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[order, :2])
        high = np.minimum(boxes[best, 2:], boxes[order, 2:])
        shared = (high - low).clip(min=0).prod(axis=1)
        overlaps = shared > threshold * (areas[best] + areas[order] - shared)
        order = order[(groups[order] != groups[best]) | ~overlaps]
    return np.array(kept, int)


def pool(
    maps: Sequence[np.ndarray],
    boxes: np.ndarray,
    strides: Sequence[int],
    bins: int,
    samples: int,
) -> np.ndarray:
    """ROIAlign with the half-pixel correction (R, P, P, C), each region on the level of its size.

    A region of 224 x 224 pixels goes to the map of stride 16, one of half the side to that of
    stride 8. Interpolation along one axis is a matrix product, so each region takes two of them.

    Args:
        maps: of each level (H, W, C).
        samples: per bin and axis; 0 for one per cell that the bin spans, rounded up.
    """
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    levels = np.floor(4 + np.log2(sides / 224 + 1e-8))
    first, last = (stride.bit_length() - 1 for stride in (strides[0], strides[-1]))
    levels = levels.clip(first, last).astype(int) - first
    result = np.zeros((len(boxes), bins, bins, maps[0].shape[2]), np.float32)
    for region, box, level in zip(result, boxes, levels, strict=True):
        x1, y1, x2, y2 = box / np.float32(strides[level]) - np.float32(0.5)
        rows, down = interpolation(y1, y2, bins, samples, maps[level].shape[0])
        columns, across = interpolation(x1, x2, bins, samples, maps[level].shape[1])
        region[:] = across @ np.tensordot(down, maps[level][rows, columns], 1)  # (P, W, C) inside
    return result


def interpolation(
    start: float, end: float, bins: int, samples: int, cells: int
) -> tuple[slice, np.ndarray]:
    """The cells that the bins need along one axis, and the weights (P, cells) of them."""
    side = (end - start) / bins
    count = samples or max(int(np.ceil(side)), 0)
    if not count:
        return np.s_[:1], np.zeros((bins, 1), np.float32)  # no area: zeros
    places = start + (np.arange(bins)[:, None] + (np.arange(count) + 0.5) / count) * side
    inside = (places >= -1) & (places <= cells)  # further out, there is nothing
    places = places.clip(0, cells - 1)
    low, high = int(places.min()), int(places.max()) + 2
    away = np.abs(places[:, :, None] - np.arange(low, min(high, cells)))
    weights = ((1 - away).clip(min=0) * inside[:, :, None]).mean(axis=1)
    return np.s_[low : min(high, cells)], weights.astype(np.float32)


def paste(mask: np.ndarray, box: np.ndarray, height: int, width: int) -> np.ndarray:
    """A mask (M, M) of probabilities on its box: whether each pixel (height, width) belongs."""
    result = np.zeros((height, width), bool)
    x1, y1 = np.clip(np.floor(box[:2]).astype(int), 0, None)
    x2, y2 = np.minimum(np.ceil(box[2:]).astype(int), (width, height))

    def weights(start: float, end: float, pixels: np.ndarray) -> np.ndarray:  # (pixels, M)
        places = (pixels + 0.5 - start) / (end - start) * len(mask) - 0.5
        return np.clip(1 - np.abs(places[:, None] - np.arange(len(mask))), 0, None)

    rows = weights(box[1], box[3], np.arange(y1, y2))
    columns = weights(box[0], box[2], np.arange(x1, x2))
    result[y1:y2, x1:x2] = rows @ mask @ columns.T >= 0.5
    return result


def open_folder(folder: str | Path, threads: int = 1) -> Host:
    """The detector that `atto-det export` wrote into a folder.

    Raises:
        Mistake: no threads; the folder lacks a file; or its description is damaged or too new.
    """
    if threads < 1:
        raise Mistake(f"threads is {threads}: give 1 or more")
    path = Path(folder) / DESCRIPTION
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        number = about["atto_det_parts"]
        if not isinstance(number, int) or number > FORMAT:
            raise Mistake(f"{path} has format {number}, this program reads {FORMAT}")
        files = {part: Path(folder) / f"{part}{SUFFIXES[about['format']]}" for part in PARTS}
        host = Host(about, {})
        names = {part: about["outputs"][part] for part in PARTS}
        for key in ("precision", "inputs", "proposals", *PARTS[1:]):
            about[key]
    except Mistake:
        raise
    except OSError as error:
        raise Mistake(f"{path} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise Mistake(f"{path} is damaged, or was not written by atto_det: {error!r}") from error
    if missing := [file.name for file in files.values() if not file.is_file()]:
        raise Mistake(f"{folder} lacks {', '.join(missing)}: export it again")
    load = _litert if about["format"] == "litert" else _executorch
    host.runs = {part: load(file, threads, names[part]) for part, file in files.items()}
    return host


def _litert(path: Path, threads: int, names: Sequence[str]) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    try:
        runner = Interpreter(str(path), num_threads=threads).get_signature_runner()
    except (ValueError, RuntimeError) as error:
        raise Mistake(f"LiteRT cannot run {path}: {error}") from error
    [(name, taken)] = runner.get_input_details().items()
    given = runner.get_output_details()

    def run(value: np.ndarray) -> dict[str, np.ndarray]:
        outputs = runner(**{name: _to_integers(value, **taken)})
        return {key: _from_integers(output, **given[key]) for key, output in outputs.items()}

    return run


def _to_integers(value: np.ndarray, dtype: type, quantization: tuple, **_: object) -> np.ndarray:
    scale, zero = quantization
    if not scale:
        return value  # the part takes floats
    limits = np.iinfo(dtype)
    return (np.rint(value / scale) + zero).clip(limits.min, limits.max).astype(dtype)


def _from_integers(value: np.ndarray, quantization: tuple, **_: object) -> np.ndarray:
    scale, zero = quantization
    return np.float32(scale) * (value.astype(np.float32) - zero) if scale else value


def _executorch(path: Path, threads: int, names: Sequence[str]) -> Run:
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    portable_lib._unsafe_reset_threadpool(threads)
    try:
        program = Runtime.get().load_program(path)
        method = program.load_method("forward")
    except RuntimeError as error:
        raise Mistake(f"ExecuTorch cannot run {path}: {error}") from error

    def run(value: np.ndarray) -> dict[str, np.ndarray]:
        outputs = method.execute([torch.from_numpy(value)])
        # Copies, since the next call reuses the memory.
        return {name: out.numpy().copy() for name, out in zip(names, outputs, strict=True)}

    return run


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each object in a picture."""
    from PIL import Image, ImageOps

    parser = argparse.ArgumentParser(description="Detect in a picture with a detector in parts.")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--model", type=Path, required=True, help="folder of atto-det export")
    parser.add_argument("--threshold", type=float, default=0.5, help="minimum score shown")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(arguments)
    host = open_folder(args.model, args.threads)
    try:
        picture = ImageOps.exif_transpose(Image.open(args.picture))
        if picture.mode.startswith("I"):  # 16 bits, which `convert` would clip
            picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
        picture = picture.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Mistake(f"{args.picture} is not a picture, or a damaged one ({error})") from error
    width, height = picture.size
    rows, columns = host.shape(height, width)
    pixels = np.asarray(picture.resize((columns, rows), Image.Resampling.BILINEAR))
    found = host(pixels[:, :, :: -1 if host.about["channel_order"] == "BGR" else 1])
    scale = np.float32([width / columns, height / rows] * 2)
    print(f"{'class':<20} {'score':>6}   {'x1':>7} {'y1':>7} {'x2':>7} {'y2':>7}   mask pixels")
    for box, index, score, mask in zip(*found, strict=True):
        if score >= args.threshold:
            corners = " ".join(f"{value:7.1f}" for value in box * scale)
            pixel_count = paste(mask, box * scale, height, width).sum()
            print(f"{host.class_names[index]:<20} {score:6.1%}   {corners}   {pixel_count:11,}")


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")
    try:
        main()
    except Mistake as mistake:
        sys.exit(f"error: {mistake}")
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error.name} is not installed, which this model needs")
