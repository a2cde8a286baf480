"""Implements `atto-det analyze`: from a config or checkpoint to its costs, beside baselines."""

import re
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN
from torch import nn

from atto_det.complexity import Cost, Part, count, merge, peak_memory
from atto_det.config import class_head
from atto_det.errors import UserError
from atto_det.reports.costs import Analysis, record, tables
from atto_det.reports.costs_plot import plot_costs
from atto_det.reports.grid import write_report
from atto_det.weights import checkpoint

from .baselines import build_baseline, torchvision_parts
from .catalog import class_names_of, register_own_data
from .complexity import detector_cost, detector_parts
from .config import config_from_text, read_file
from .model import build_model
from .predictor import Predictor

C4_NOTE = "res5 runs on every proposal and again on every detection"


class Pass(NamedTuple):
    """A picture's pass through a detector: its size in pixels, and the numbers of regions."""

    height: int
    width: int
    proposals: int
    detections: int


def parse_size(text: str) -> tuple[int, int]:
    """Height and width in pixels from text such as "800x1088".

    Raises:
        UserError: the text has another form.
    """
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if not match:
        raise UserError(
            f"{text!r} is not an input size: write HEIGHTxWIDTH in pixels, as in 800x1088"
        )
    return int(match[1]), int(match[2])


def read_config(config_file: str | Path, classes: int | None = None) -> CfgNode:
    """The config of a file, on the CPU, for analysing the model alone; its data may be missing.

    Args:
        classes: class count that replaces the config's.

    Raises:
        UserError: a faulty config, or one that takes the class count from data that is missing.
    """
    cfg = read_file(config_file)
    cfg.MODEL.DEVICE = "cpu"
    key, head = class_head(cfg)
    if classes is not None:
        head.NUM_CLASSES = classes
    elif head.NUM_CLASSES == 0:
        head.NUM_CLASSES = _classes_of_data(cfg, config_file, key)
    cfg.freeze()
    return cfg


def _classes_of_data(cfg: CfgNode, config_file: str | Path, key: str) -> int:
    try:
        register_own_data(cfg)
        return len(class_names_of(cfg.DATASETS.TRAIN[0]))
    except (UserError, IndexError) as error:
        raise UserError(
            f"{config_file} takes the class count from its data ({key} is 0), "
            "which is missing here: give --classes"
        ) from error


def build_named(name: str, classes: int | None = None) -> tuple[nn.Module, str]:
    """A detector by name, with random weights, and a description of its origin.

    Args:
        name: one of `BASELINES`, or a YAML file as in `read_config`.
        classes: class count; by default that of the file, or VOC's 20 for a baseline.

    Raises:
        UserError: `name` is neither, or an error of `read_config`.
    """
    if Path(name).suffix:
        return build_model(read_config(name, classes)).eval(), name
    return build_baseline(name, classes or 20)


def analyse(
    name: str,
    source: str,
    model: nn.Module,
    workloads: dict[str, Sequence[Pass]],
    *,
    memory: bool = False,
) -> Analysis:
    """The cost by part of `model`, one of Detectron2's models or torchvision's Mask R-CNN.

    Args:
        workloads: name to passes, over which the cost is averaged.
        memory: also compute the peak memory of each workload's first pass.

    Raises:
        UserError: an architecture that `detector_cost` does not know.
    """
    known = {
        one_pass: _cost(model, one_pass)
        for passes in workloads.values()
        for one_pass in dict.fromkeys(passes)
    }
    costs = {
        key: _mean([known[one_pass] for one_pass in passes]) for key, passes in workloads.items()
    }
    peaks = {}
    if memory:
        peaks = {k: peak_memory(_parts(model, passes[0])) for k, passes in workloads.items()}
    is_c4 = isinstance(model, GeneralizedRCNN) and hasattr(model.roi_heads, "res5")
    return Analysis(name, source, costs, peaks, C4_NOTE if is_c4 else "")


def _parts(model: nn.Module, one_pass: Pass) -> list[Part]:
    if _is_torchvision(model):
        return torchvision_parts(model, **one_pass._asdict())
    return detector_parts(model, **one_pass._asdict(), stages=True)


def _is_torchvision(model: nn.Module) -> bool:
    return type(model).__module__.startswith("torchvision.")


def _cost(model: nn.Module, one_pass: Pass) -> list[Cost]:
    if _is_torchvision(model):
        return merge(count(_parts(model, one_pass)))
    return detector_cost(model, **one_pass._asdict(), stages=True)


def _mean(costs: list[list[Cost]]) -> list[Cost]:
    """The mean cost of each part; all lists have the same parts."""
    return [
        Cost(
            parts[0].name,
            round(statistics.fmean(part.macs for part in parts)),
            parts[0].parameters,
            round(statistics.fmean(part.activations for part in parts)),
        )
        for parts in zip(*costs, strict=True)
    ]


def cost_of_config(text: str, where: str, one_pass: Pass) -> list[dict[str, Any]]:
    """The cost of each part, as `Cost` has it, of the model that a complete config describes.

    Args:
        text: YAML.
        where: origin of the config, for messages.

    Raises:
        UserError: a faulty config, or an architecture that `detector_cost` does not know.
    """
    cfg = config_from_text(text, where)
    cfg.MODEL.DEVICE = "cpu"
    return [asdict(cost) for cost in _cost(build_model(cfg), one_pass)]


def passes_on(
    predictor: Predictor,
    paths: Sequence[Path],
    progress: Callable[[Sequence[Path]], Iterable[Path]] = iter,
) -> list[Pass]:
    """Predict on pictures; returns each one's size in the network and the regions found in it.

    Raises:
        UserError: an unreadable picture, or a model that is not a Faster or Mask R-CNN.
    """
    model = predictor.model
    if not isinstance(model, GeneralizedRCNN):
        raise UserError(
            f"regions of a {type(model).__name__} cannot be counted: give a Faster or Mask R-CNN"
        )
    seen: dict[str, tuple[int, ...]] = {}
    hooks = [
        model.backbone.register_forward_pre_hook(
            lambda module, args: seen.update(size=tuple(args[0].shape[-2:]))
        ),
        model.proposal_generator.register_forward_hook(
            lambda module, args, output: seen.update(proposals=(len(output[0][0]),))
        ),
        model.roi_heads.register_forward_hook(
            lambda module, args, output: seen.update(detections=(len(output[0][0]),))
        ),
    ]
    passes = []
    try:
        for path in progress(paths):
            predictor(path)
            passes.append(Pass(*seen["size"], *seen["proposals"], *seen["detections"]))
    finally:
        for hook in hooks:
            hook.remove()
    return passes


def describe(passes: Sequence[Pass]) -> str:
    """A sentence about the regions found in pictures."""
    text = []
    for name in ("proposals", "detections"):
        found = [getattr(one_pass, name) for one_pass in passes]
        text.append(f"{min(found)} to {max(found)} {name} (median {statistics.median(found):g})")
    pictures = "1 picture" if len(passes) == 1 else f"{len(passes)} pictures"
    return f"On {pictures} the model found {' and '.join(text)}."


def write(
    folder: Path,
    analyses: Sequence[Analysis],
    cfg: CfgNode,
    workloads: dict[str, Sequence[Pass]],
    remarks: Sequence[str],
) -> list[Path]:
    """Write complexity.md, complexity.json and complexity.png to `folder`; returns their paths.

    Raises:
        UserError: a file cannot be written.
    """
    content = {
        "command": sys.argv,
        "versions": checkpoint.versions(),
        "workloads": {
            k: [one_pass._asdict() for one_pass in passes] for k, passes in workloads.items()
        },
        "detectors": record(analyses),
        "config": yaml.safe_load(cfg.dump()),
    }
    title, grids = f"What {analyses[0].name} costs", tables(analyses)
    plot = folder / "complexity.png"
    files = [*write_report(folder / "complexity", title, grids, remarks, content), plot]
    plot_costs(analyses, plot)
    return files
