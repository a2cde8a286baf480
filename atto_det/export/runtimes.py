"""Detectors in ONNX files, run by ONNX Runtime or OpenVINO with the same call."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pycocotools.mask as mask_util
import torch

from atto_det import data
from atto_det.errors import UserError
from atto_det.evaluation import Detections
from atto_det.evaluation.arrays import mask_areas
from atto_det.evaluation.tiling import check_tile, detect_in_tiles
from atto_det.torchvision.predictor import to_detections

from .metadata import Metadata, read_metadata

RUNTIMES = ("onnxruntime", "openvino")
GPU = {  # ONNX Runtime's providers, in the order in which they take a node; the CPU takes the rest
    "onnxruntime-cuda": ("CUDAExecutionProvider",),
    "onnxruntime-tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
}
BF16 = "openvino-bf16"  # OpenVINO's own default where a CPU has bfloat16; the results differ
# Lines of OpenVINO's messages that tell where in its code something went wrong.
_PLACE = re.compile(r"Exception from |.*Check '.*' failed at |.*:\s*$")
Run = Callable[[np.ndarray], dict[str, np.ndarray]]  # from the input to outputs by name


class OnnxDetector:
    """A detector that `atto-det export` wrote, used like `atto_det.Predictor`.

    Args:
        path: the `.onnx` file; nothing else is needed.
        runtime: one of `RUNTIMES`, on the CPU, in single precision unless the file uses 8 bits;
            "openvino-bf16", OpenVINO in bfloat16; or one of `GPU`, ONNX Runtime on a GPU.
        threads: 0 for the runtime's choice.
        tile: side in pixels of the tiles that larger pictures are cut into, as in `Predictor`.

    Attributes:
        metadata: the description in the file.
        class_names: name of each class index.

    Raises:
        UserError: a missing, damaged or foreign file, a backbone, or a runtime that is unknown, not
            installed, or not for this machine.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        runtime: str = "onnxruntime",
        threads: int = 0,
        tile: int | None = None,
    ) -> None:
        check_tile(tile)
        self.tile = tile
        self.metadata: Metadata = read_metadata(path)
        if self.metadata.kind != "detector":
            raise UserError(f"{path} holds a {self.metadata.kind}, which detects nothing by itself")
        self.class_names = self.metadata.class_names
        self._run = open_runtime(path, runtime, threads)

    def __call__(self, image: str | Path | np.ndarray, *, order: str = "BGR") -> Detections:
        """Detect objects in a picture: a path, or uint8 (H, W, 3) in BGR order, as OpenCV reads it.

        Args:
            order: of an array's channels: "BGR" or "RGB".

        Returns:
            Boxes, masks and scores at the picture's own size, highest score first.

        Raises:
            UserError: an unreadable picture, an array of the wrong shape or type, or a model that
                returns values that are not finite, or classes without a name.
        """
        image = data.take_picture(image, self.metadata.channel_order, order)
        return detect_in_tiles(self._detect, image, self.tile)

    def _detect(self, image: np.ndarray) -> Detections:
        """Detections in uint8 (H, W, 3), in the file's order of channels."""
        outputs = self._run(np.ascontiguousarray(image))
        if broken := [name for name, value in outputs.items() if not np.isfinite(value).all()]:
            raise UserError(
                f"the model gives {', '.join(broken)} that are NaN or infinite: its file is damaged"
            )
        found = {k: torch.as_tensor(v) for k, v in outputs.items()}
        count = len(self.class_names)
        if (
            len(found["classes"])
            and not 0 <= found["classes"].min() <= found["classes"].max() < count
        ):
            raise UserError(
                f"the model finds class {int(found['classes'].max())}, but its file names {count} "
                "classes: it was modified; export it again"
            )
        found |= {"labels": found["classes"] + 1, "masks": found["masks"][:, None]}
        return to_detections(found, image.shape[:2], image.shape[:2])


def open_runtime(path: str | Path, runtime: str, threads: int = 0) -> Run:
    """The graph of an ONNX file as a function of its one input.

    Raises:
        UserError: a runtime that is unknown, not installed or not for this machine, fewer than no
            threads, or a graph that it cannot run, now or in a later call.
    """
    known = (*RUNTIMES, BF16, *GPU)
    if runtime not in known:
        raise UserError(f"the runtime is {runtime!r}: choose one of {', '.join(known)}")
    if threads < 0:  # ONNX Runtime would choose itself, and records would state this number
        raise UserError(f"threads is {threads}: give 1 or more, or 0 for the runtime's choice")
    with one_sentence(path, runtime):
        if runtime == "onnxruntime" or runtime in GPU:
            run = session(path, threads, runtime)[1]
        else:
            run = _openvino(path, threads, bf16=runtime == BF16)

    def run_checked(value: np.ndarray) -> dict[str, np.ndarray]:
        with one_sentence(path, runtime):
            return run(value)

    return run_checked


@contextmanager
def one_sentence(path: str | Path, runtime: str) -> Iterator[None]:
    """What a runtime raises inside, as a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        raise UserError(
            f"{runtime} is not installed: pip install 'atto_det[onnx]' ({error})"
        ) from error
    except Exception as error:  # the runtimes' exceptions have no common base class
        lines = [line for line in str(error).splitlines() if line.strip()]
        said = [line for line in lines if not _PLACE.match(line)]
        reason = (said or lines or [type(error).__name__])[0].strip()
        raise UserError(f"{runtime} cannot run {path}: {reason}") from error


def check_provider(runtime: str) -> None:
    """Refuse a runtime of `GPU` that the installed ONNX Runtime was built without.

    Raises:
        UserError: it has no such provider.
    """
    import onnxruntime

    if GPU[runtime][0] not in onnxruntime.get_available_providers():
        raise UserError(
            f"the installed onnxruntime has no {GPU[runtime][0]}, which {runtime} needs: install "
            "onnxruntime-gpu in its place, or choose the runtime onnxruntime"
        )


def session(
    path: str | Path,
    threads: int = 0,
    runtime: str = "onnxruntime",
    *,
    profile: str = "",
    optimisation: Any = None,
) -> tuple[Any, Run]:
    """A session of ONNX Runtime, and its graph as a function.

    Args:
        runtime: "onnxruntime" or one of `GPU`.
        profile: how the name of its profiler's file starts; empty for no profiler.
        optimisation: a `GraphOptimizationLevel`; None for all.

    Raises:
        UserError: a GPU that cannot be used.
    """
    import onnxruntime

    providers = GPU.get(runtime, ())
    if providers:
        check_provider(runtime)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    # Otherwise its threads spin for a while, and mask pasting takes twice as long.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    if optimisation is not None:
        options.graph_optimization_level = optimisation
    made = onnxruntime.InferenceSession(
        os.fspath(path), options, providers=[*providers, "CPUExecutionProvider"]
    )
    # A provider whose libraries or GPU are missing is left out with a warning.
    if lost := [name for name in providers if name not in made.get_providers()]:
        raise UserError(
            f"onnxruntime cannot load {' and '.join(lost)}: a GPU, its driver, or the libraries "
            f"that {runtime} needs are missing"
        )
    [name] = (item.name for item in made.get_inputs())
    names = [item.name for item in made.get_outputs()]
    return made, lambda value: dict(zip(names, made.run(names, {name: value}), strict=True))


def compiled_model(
    path: str | Path, threads: int = 0, *, bf16: bool = False, **options: object
) -> tuple[Any, tuple[list[str], list[str]]]:
    """A model compiled by OpenVINO with further options, and names of its inputs and outputs.

    Raises:
        UserError: `bf16` on a CPU without bfloat16.
    """
    import openvino

    if bf16 and not has_bf16():
        raise UserError("this CPU has no bfloat16: choose the runtime openvino")
    # By default it computes in bfloat16 if the CPU supports it, which moves four in ten objects.
    hint = "bf16" if bf16 else "f32"
    options |= {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
    model = _only(openvino.Core).compile_model(os.fspath(path), "CPU", options)
    inputs, outputs = ([item.get_any_name() for item in at] for at in (model.inputs, model.outputs))
    return model, (inputs, outputs)


def has_bf16() -> bool:
    """Whether OpenVINO can compute in bfloat16 on this CPU."""
    import openvino

    core = _only(openvino.Core)
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@cache
def _only(core: type) -> Any:
    """OpenVINO's core, of which a process has one.

    Each makes the thread's signals use a stack of its own, and at its end puts back what it found.
    If the first of two ends first, that is memory already freed, and the next signal, such as the
    end of a loader's worker, is a segmentation fault (2026.4).
    """
    return core()


def _openvino(path: str | Path, threads: int, bf16: bool) -> Run:
    model, ([name], names) = compiled_model(path, threads, bf16=bf16)

    def run(value: np.ndarray) -> dict[str, np.ndarray]:
        result = model({name: value})
        return {name: np.array(result[name]) for name in names}

    return run


class Agreement(NamedTuple):
    """The number of equal detections of two detectors, and the larger number of detections."""

    same: int
    total: int

    @property
    def share(self) -> float:
        """The share of equal detections, 0 to 1; 1 if neither found anything."""
        return self.same / self.total if self.total else 1.0


def agreement(
    first: Sequence[Detections],
    second: Sequence[Detections],
    *,
    box_iou: float = 0.99,
    mask_iou: float = 0.98,
) -> Agreement:
    """Pair detections of the same class, in each picture, whose boxes and masks overlap enough.

    Two empty masks are equal.
    """
    same = total = 0
    for one, other in zip(first, second, strict=True):
        total += max(len(one.scores), len(other.scores))
        if len(one.scores) and len(other.scores):
            crowd = [0] * len(other.scores)
            boxes = mask_util.iou(_corner_and_size(one), _corner_and_size(other), crowd)
            masks = mask_util.iou(list(one.rles), list(other.rles), crowd)
            empty = (mask_areas(found.rles) == 0 for found in (one, other))
            fits = (boxes > box_iou) & ((masks > mask_iou) | np.logical_and.outer(*empty))
            fits &= np.equal.outer(one.classes, other.classes)
            for row in fits:
                if row.any():
                    same += 1
                    fits[:, row.argmax()] = False
    return Agreement(same, total)


def _corner_and_size(found: Detections) -> np.ndarray:
    return np.hstack([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]])
