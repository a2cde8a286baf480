"""The description stored in an exported ONNX file, so that the file can be used on its own."""

import dataclasses
import json
from pathlib import Path
from typing import Any, TypeGuard

from atto_det.errors import UserError
from atto_det.nets.normalisation import ORDERS
from atto_det.nets.registry import short_name
from atto_det.weights.tensor_file import check_format

FORMAT = 1
KEY = "atto_det_format"
# For programs without this package: what the file's accuracy was measured with. OpenVINO computes
# in bfloat16 by default on CPUs that have it.
OPENVINO_PRECISION = {"openvino_inference_precision": "f32"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metadata:
    """The `metadata_props` of a file: JSON under each of these names, and `atto_det_format`;
    `openvino_inference_precision` is plain text.

    Attributes:
        kind: "detector" or "backbone".
        network: "attonet_a" …, or its spec as text.
        class_names: by index; for a backbone, those of its training.
        channel_order: of the input, "RGB" or "BGR".
        mean, std: of the network's input in 0 to 255, in that order. A detector's file applies
            them; a backbone's file takes pictures that are already normalised.
        min_size, max_size: a detector's file resizes the shorter side to `min_size` pixels, or to
            less if the longer one would exceed `max_size`. For a backbone, its training size.
        score_threshold: a detector returns no detection below it.
        detections_per_image: the maximum that a detector returns.
        precision: "float32", or "int8" for 8-bit weights and activations of the convolutions.
        opset: of ONNX's operators.
        versions: of the software that made the file.
        checkpoint_sha256: of the checkpoint file.
    """

    kind: str
    network: str
    class_names: list[str]
    channel_order: str
    mean: list[float]
    std: list[float]
    min_size: int
    max_size: int
    score_threshold: float
    detections_per_image: int
    precision: str
    opset: int
    versions: dict[str, str]
    checkpoint_sha256: str

    def as_properties(self) -> dict[str, str]:
        """The values as text by name, the form in which an ONNX file stores them."""
        values = {KEY: FORMAT} | dataclasses.asdict(self)
        texts = {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}
        return texts | OPENVINO_PRECISION

    def summary(self) -> list[str]:
        """The most important facts about the file, in a few lines."""
        size = f"resized in the file to {self.min_size} pixels, at most {self.max_size}"
        if self.kind == "backbone":
            size = f"normalised by mean {self.mean}, std {self.std}"
        return [
            f"model    {self.kind}, {short_name(self.network)}, {len(self.class_names)} classes",
            f"numbers  {self.precision}, opset {self.opset}",
            f"picture  {self.channel_order}, {size}",
            f"sha256   {self.checkpoint_sha256} of the checkpoint",
        ]


def read_metadata(path: str | Path) -> Metadata:
    """The metadata of an ONNX file written by this project.

    Raises:
        UserError: a missing, damaged, foreign or newer file.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (DecodeError, OSError) as error:
        raise UserError(f"{path} is not an ONNX file, or a damaged one ({error})") from error
    values = _parsed({item.key: item.value for item in model.metadata_props})
    number = values.pop(KEY, None)
    if type(number) is not int or not 0 < number < 10**9:
        raise UserError(f"{path} was not written by atto_det: make one with atto-det export")
    check_format(number, FORMAT, path)
    names = {field.name for field in dataclasses.fields(Metadata)}
    if missing := sorted(names - values.keys()):
        raise UserError(f"{path} lacks {', '.join(missing)} in its metadata: export it again")
    if wrong := sorted(name for name in names if not _is_sound(name, values[name])):
        raise UserError(
            f"{path} has impossible metadata in {', '.join(wrong)}: it was damaged or modified; "
            "export it again"
        )
    return Metadata(**{name: values[name] for name in names})


def _parsed(texts: dict[str, str]) -> dict[str, Any]:
    values = {}
    for name, text in texts.items():
        try:
            values[name] = json.loads(text)
        except (ValueError, RecursionError):
            continue  # written by another program
    return values


def _is_sound(name: str, value: object) -> bool:
    """Whether a value is valid for the field `name` of a `Metadata`."""
    match name:
        case "kind":
            return value in ("detector", "backbone")
        case "class_names":
            return _are_texts(value) and len(set(value)) == len(value)
        case "channel_order":
            return value in ORDERS
        case "mean" | "std":
            return isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))
        case "score_threshold":
            return _is_number(value)
        case "min_size" | "max_size" | "detections_per_image" | "opset":
            return isinstance(value, int) and _is_number(value) and value >= 0
        case "versions":
            return isinstance(value, dict) and _are_texts([*value.values()])
        case _:
            return _is_text(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) < 50_000  # a spec may have many modules


def _are_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(map(_is_text, value))
