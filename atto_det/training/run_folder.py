"""The folder of a training run, the same for both engines.

config.yaml, run.json       what the run follows from
metrics.json                a line per 20 iterations, and per evaluation
evaluation/                 a result of each data set and evaluation
model_<iteration>.pth       the last two checkpoints
model_best.pth              by AP_m of the first test set; by AP_d of boxes alone
model_final.pth             of the last iteration
last_checkpoint             the name of the one to resume from
"""

import json
import logging
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from atto_det.errors import UserError, atomic_path
from atto_det.weights import checkpoint
from atto_det.weights.detector_file import holds_detector
from atto_det.weights.zoo import find_file

logger = logging.getLogger(__name__)


def carried_config(options: Sequence[str]) -> tuple[str, str]:
    """The checkpoint in option MODEL.WEIGHTS of a command line, and the config in it as YAML text.

    Raises:
        UserError: the option is missing, or the checkpoint carries no config.
    """
    path = dict(zip(options[::2], options[1::2], strict=False)).get("MODEL.WEIGHTS")
    if not path:
        raise UserError("give --config-file, or --eval-only with MODEL.WEIGHTS and a checkpoint")
    file = find_file(path)
    if file.suffix == ".safetensors" and not holds_detector(file):
        raise UserError(f"{path} holds a backbone and no config: give --config-file")
    return path, checkpoint.read_description(checkpoint.load_checkpoint(path), path)["config"]


def folder_of(weights: str) -> str:
    """The folder that results of a file of weights go into: its own; of a URL ./output."""
    return "./output" if "://" in weights else str(Path(weights).parent)


def refuse_used(output: Path) -> None:
    """Refuse to start a run in a folder that holds one.

    Raises:
        UserError: it does.
    """
    if (output / "last_checkpoint").exists():
        raise UserError(
            f"{output} holds a run already: go on with it by --resume, or set OUTPUT_DIR elsewhere"
        )


def record(output: Path, config: str, *, seed: int, processes: int, device: str) -> None:
    """Write config.yaml and run.json; records that a resumed run had stay under "earlier".

    Args:
        config: YAML text.

    Raises:
        UserError: a file cannot be written.
    """
    with atomic_path(output / "config.yaml") as temporary:
        temporary.write_text(config)
    content = checkpoint.run_record(seed=seed, processes=processes, device=device)
    path = output / "run.json"
    if path.exists() and (output / "last_checkpoint").exists():
        with suppress(ValueError):  # a damaged record is worth less than going on
            last = json.loads(path.read_text())
            content["earlier"] = [*last.pop("earlier", []), last]
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def write_checkpoint(
    path: Path, weights: dict[str, Any], config: str, class_names: Sequence[str], **state: Any
) -> Path:
    """Write a checkpoint of a run; one that says its "engine" becomes that to resume from.

    Args:
        weights: tensors on the CPU, under Detectron2's names.
        config: YAML text.
        state: what else it holds.

    Returns:
        `path`.

    Raises:
        UserError: it cannot be written.
    """
    description = checkpoint.description(config, list(class_names))
    checkpoint.save_checkpoint(path, {"model": weights, "atto_det": description} | state)
    logger.info("wrote %s", path)
    if "engine" in state:
        tag_last(path.parent, path.name)
    return path


def tag_last(output: Path, name: str) -> None:
    """Name the checkpoint to resume from."""
    with atomic_path(output / "last_checkpoint") as temporary:
        temporary.write_text(name)


def finish(output: Path) -> None:
    """Make the last checkpoint the final one, of a run that was killed just before that."""
    name = (output / "last_checkpoint").read_text().strip()
    if name != "model_final.pth":
        with atomic_path(output / "model_final.pth") as temporary:
            shutil.copyfile(output / name, temporary)
        tag_last(output, "model_final.pth")


def read_last(output: Path, engine: str, class_names: list[str]) -> tuple[Path, dict[str, Any]]:
    """Path and content of the checkpoint to resume from.

    Args:
        engine: "detectron2" or "torchvision", the one that resumes.
        class_names: of the data.

    Returns:
        The content has "run", the state of the `policy.Run`.

    Raises:
        UserError: it is missing or damaged, of the other engine, or of other classes.
    """
    path = output / (output / "last_checkpoint").read_text().strip()
    content = checkpoint.load_checkpoint(path)
    part = checkpoint.read_description(content, path)
    trained_with = content.get("engine", "detectron2")
    if trained_with != engine:
        raise UserError(
            f"{path} was trained with the engine {trained_with}: resume it with --engine "
            f"{trained_with}, or start from its weights by MODEL.WEIGHTS in another OUTPUT_DIR"
        )
    if part["class_names"] != class_names:
        raise UserError(f"{path} was trained on other classes: resume with its own data sets")
    if "run" not in content:  # older ones had the best AP elsewhere
        hooks = content.get("trainer", {}).get("hooks", {})
        older = hooks.pop("EvaluationHook", None) or {"best": content.get("best", -1.0)}
        content["run"] = older
    return path, content


def forget_after(metrics: Path, iteration: int) -> None:
    """Remove what a run wrote to metrics.json after the checkpoint that it is resumed from."""
    if not metrics.exists():
        return
    kept = []
    for line in metrics.read_text().splitlines():
        try:
            if json.loads(line)["iteration"] < iteration:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue  # a line cut short by the end of the run
    with atomic_path(metrics) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in kept))


def old_checkpoints(output: Path, iteration: int) -> list[Path]:
    """The periodic checkpoints before `iteration`, oldest first.

    Half-written ones, of a run that was killed, are removed.
    """
    for half_written in output.glob(".model_*.pth"):
        half_written.unlink()
    found = sorted(output.glob("model_[0-9]*.pth"))
    return [path for path in found if int(path.stem.removeprefix("model_")) < iteration]


def divergence(cfg: Any, iteration: int) -> UserError:
    """The sentence for a loss that is not finite any more."""
    return UserError(
        f"the loss became NaN or infinite at iteration {iteration}: lower SOLVER.BASE_LR "
        f"(now {cfg.SOLVER.BASE_LR}) or lengthen SOLVER.WARMUP_ITERS (now "
        f"{cfg.SOLVER.WARMUP_ITERS}); checkpoints before it are in {cfg.OUTPUT_DIR}"
    )


def check_classes(path: str, known: list[str], datasets: dict[str, list[str]]) -> None:
    """Refuse data sets whose class names are not those that the model of `path` knows.

    Raises:
        UserError: it names the data set.
    """
    for name, class_names in datasets.items():
        if class_names != known:
            raise UserError(
                f"the model of {path} knows the classes {', '.join(known)}; "
                f"{name} has {', '.join(class_names)}"
            )
