"""The folder of a training run, the same for both engines.

config.yaml, run.json       the config; the seed, versions and command of the run
metrics.json                a line per 20 iterations, and per evaluation
evaluation/                 the result of each evaluation on each data set
model_<iteration>.pth       the last two checkpoints
model_best.pth              by AP_m on the first test set; by AP_d for models without masks
model_final.pth             after the last iteration
last_checkpoint             the name of the checkpoint to resume from
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from atto_det.bounded_yaml import parse_yaml
from atto_det.errors import UserError, atomic_path, shown, write_file
from atto_det.training.batches import ranks
from atto_det.weights import checkpoint
from atto_det.weights.detector_file import holds_detector
from atto_det.weights.zoo import PREFIX, find_file

logger = logging.getLogger(__name__)


def carried_config(options: Sequence[str]) -> tuple[str, str, list[str]]:
    """The checkpoint named by option MODEL.WEIGHTS, its config as YAML text, its class names.

    Raises:
        UserError: the option is missing, or the checkpoint carries no config.
    """
    path = dict(zip(options[::2], options[1::2], strict=False)).get("MODEL.WEIGHTS")
    if not path:
        raise UserError(
            "give --config-file, or MODEL.WEIGHTS and a checkpoint that contains a config"
        )
    file = find_file(path)
    if file.suffix == ".safetensors" and not holds_detector(file):
        raise UserError(f"{path} holds a backbone and no config: give --config-file")
    part = checkpoint.read_description(checkpoint.load_checkpoint(path), path)
    return path, part["config"], part["class_names"]


def folder_of(weights: str) -> str:
    """Where results for a weights file go: beside it, or ./output for a URL or one of the zoo."""
    elsewhere = "://" in weights or weights.startswith(PREFIX)
    return "./output" if elsewhere else str(Path(weights).parent)


def set_aside(path: Path) -> Path:
    """Rename a file that is unusable but must not be lost: `metrics.json.damaged`.

    Raises:
        UserError: it cannot be renamed.
    """
    target, count = path.with_name(f"{path.name}.damaged"), 1
    while target.exists():
        count += 1
        target = path.with_name(f"{path.name}.damaged{count}")
    try:
        path.rename(target)
    except OSError as error:
        raise UserError(f"{path} is damaged and cannot be renamed: {error.strerror}") from error
    logger.warning("%s is damaged: it is kept as %s", path, target.name)
    return target


def refuse_used(output: Path) -> None:
    """Refuse to start a run in a folder that already holds one.

    Raises:
        UserError: the folder holds a run.
    """
    if (output / "last_checkpoint").exists():
        raise UserError(
            f"{output} already holds a run: continue it with --resume, or set OUTPUT_DIR elsewhere"
        )


def record(output: Path, *, seed: int, processes: int, device: str, **more: Any) -> None:
    """Write run.json; the records of earlier parts of a resumed run move to "earlier".

    Args:
        more: further content.

    Raises:
        UserError: a file cannot be written.
    """
    content = checkpoint.run_record(seed=seed, processes=processes, device=device) | more
    path = output / "run.json"
    if path.exists() and (output / "last_checkpoint").exists():
        try:
            last = json.loads(path.read_text())
            content["earlier"] = [*last.pop("earlier", []), last]
        except (AttributeError, OSError, RecursionError, TypeError, ValueError):
            set_aside(path)  # a damaged record is no reason not to continue
    write_file(path, json.dumps(content, indent=2) + "\n")


def recorded_parts(output: Path) -> int:
    """The number of parts of a batch recorded in run.json; 1 if there is none."""
    try:
        return int(json.loads((output / "run.json").read_text())["memory"]["parts"])
    except (KeyError, OSError, TypeError, ValueError):
        return 1


def write_checkpoint(
    path: Path, weights: dict[str, Any], config: str, class_names: Sequence[str], **state: Any
) -> Path:
    """Write a checkpoint of a run; one whose state names its "engine" becomes the one to resume.

    Args:
        weights: tensors on the CPU, under Detectron2's names.
        config: YAML text.
        state: further content.

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
    """Record the name of the checkpoint to resume from."""
    write_file(output / "last_checkpoint", name)


def finish(output: Path) -> None:
    """Make the last checkpoint the final one, for a run that was killed just before doing so."""
    name = _last_name(output)
    if name != "model_final.pth":
        with atomic_path(output / "model_final.pth") as temporary:
            shutil.copyfile(output / name, temporary)
        tag_last(output, "model_final.pth")


def _last_name(output: Path) -> str:
    """The file name in `last_checkpoint`.

    Raises:
        UserError: it does not name a file in its folder.
    """
    path = output / "last_checkpoint"
    try:
        name = path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        name = ""
    if not name or name != Path(name).name or "\0" in name:
        raise UserError(f"{path} is damaged: it does not name a checkpoint in its folder")
    return name


def read_last(
    output: Path,
    engine: str,
    class_names: list[str],
    cfg: CfgNode | None = None,
    pictures: int | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Path and content of the checkpoint to resume from.

    If it is damaged or missing, the run's newest intact checkpoint is used instead, and a warning
    is logged.

    Args:
        engine: "detectron2" or "torchvision": the engine that resumes.
        class_names: of the data.
        cfg: of the resumed run; None skips the comparison.
        pictures: the fingerprint of the training pictures; None skips the comparison.

    Returns:
        The content has "run", the state of the `policy.Run`.

    Raises:
        UserError: no checkpoint can be used, or it comes from the other engine, from other classes
            or pictures, or from a config that differs in a key that must not change.
    """
    own = (engine, class_names, cfg, pictures)
    try:
        path = output / _last_name(output)
        content = checkpoint.load_checkpoint(path)
    except UserError as error:
        path, content = _newest_sound(output, *own, reason=error)
    else:
        check_same_run(path, content, *own)
    if "run" not in content:  # older checkpoints stored the best AP elsewhere
        hooks = content.get("trainer", {}).get("hooks", {})
        older = hooks.pop("EvaluationHook", None) or {"best": content.get("best", -1.0)}
        content["run"] = older
    return path, content


@contextmanager
def resuming(where: str | Path) -> Iterator[None]:
    """Turn errors of loading another training's state into one sentence about `where`."""
    try:
        yield
    except UserError:
        raise
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"{where} cannot be resumed from with this config ({error}): use the one of its run"
        ) from error


def _newest_sound(output: Path, *own: Any, reason: UserError) -> tuple[Path, dict[str, Any]]:
    """The run's intact checkpoint with the highest iteration, made the one to resume from.

    Raises:
        UserError: `reason`, if there is none.
    """
    newest: tuple[Path, dict[str, Any]] | None = None
    for path in [*sorted(output.glob("model_[0-9]*.pth")), output / "model_final.pth"]:
        try:
            content = checkpoint.load_checkpoint(path)
            check_same_run(path, content, *own)
        except UserError:
            continue
        iteration = content.get("iteration")
        if isinstance(iteration, int) and (not newest or iteration > newest[1]["iteration"]):
            newest = path, content
    if newest is None:
        raise reason
    logger.warning("%s; continuing from %s instead", reason, newest[0].name)
    if ranks()[0] == 0:
        if (output / "last_checkpoint").is_dir():
            set_aside(output / "last_checkpoint")
        tag_last(output, newest[0].name)
    return newest


# These determine the pictures of each step; all other keys may change when a run is resumed.
_FIXED = ("SEED", "DATASETS.TRAIN", "DATASETS.HOLD_OUT", "SOLVER.IMS_PER_BATCH")


def check_same_run(
    path: Path,
    content: dict[str, Any],
    engine: str,
    class_names: list[str],
    cfg: CfgNode | None = None,
    pictures: int | None = None,
) -> None:
    """Refuse to resume from a checkpoint of another run.

    Args:
        path, content: of the checkpoint.
        engine, class_names, cfg, pictures: as `read_last`.

    Raises:
        UserError: the message names what differs.
    """
    part = checkpoint.read_description(content, path)
    trained_with = content.get("engine", "detectron2")
    if trained_with != engine:
        raise UserError(
            f"{path} was trained with the engine {trained_with}: resume it with --engine "
            f"{trained_with}, or start from its weights with MODEL.WEIGHTS and another OUTPUT_DIR"
        )
    if part["class_names"] != class_names:
        raise UserError(f"{path} was trained on other classes: resume with its own data sets")
    if cfg is not None:
        earlier = parse_yaml(part["config"], f"the config in checkpoint {path}")
        for key in _FIXED:
            old, new = _value(earlier, key), _value(cfg, key)
            if None not in (old, new) and old != new:
                raise UserError(
                    f"{key} is {shown(new)}, but {path} was trained with {shown(old)}: resume with "
                    "that, or start from its weights with MODEL.WEIGHTS and another OUTPUT_DIR"
                )
    run = content.get("run")
    trained_on = run.get("pictures") if isinstance(run, dict) else None
    if None not in (pictures, trained_on) and pictures != trained_on:
        raise UserError(
            f"{path} was trained on other pictures or annotations than DATASETS.TRAIN has now: "
            "resume with the same data, or start from its weights with MODEL.WEIGHTS and another "
            "OUTPUT_DIR"
        )


def _value(config: Any, key: str) -> Any:
    """The value at "A.B" in a nested config; None if there is none."""
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return list(config) if isinstance(config, tuple) else config


def forget_after(metrics: Path, iteration: int) -> None:
    """Remove the lines of metrics.json that are later than the checkpoint being resumed.

    A last line that was cut short is dropped. If other lines are damaged, the file is also kept as
    a copy, and the readable lines are used.
    """
    if not os.path.lexists(metrics):
        return
    kept, damaged = [], 0
    try:
        lines = metrics.read_bytes().splitlines()
    except OSError:  # a folder, for example
        lines, damaged = [], 1
    for number, line in enumerate(lines, 1):
        try:
            if json.loads(line)["iteration"] < iteration:
                kept.append(line.decode())
        except (KeyError, RecursionError, TypeError, ValueError):
            damaged += number < len(lines) or not line.startswith(b"{")
    if damaged:
        set_aside(metrics)
    write_file(metrics, "".join(f"{line}\n" for line in kept))


def old_checkpoints(output: Path, iteration: int) -> list[Path]:
    """The periodic checkpoints before `iteration`, oldest first.

    Half-written ones, left by a run that was killed, are removed.
    """
    for half_written in output.glob(".model_*.pth"):
        half_written.unlink()
    found = sorted(output.glob("model_[0-9]*.pth"))
    numbers = (re.fullmatch(r"model_(\d+)", path.stem) for path in found)  # not a user's copies
    return [
        path
        for path, number in zip(found, numbers, strict=True)
        if number and int(number[1]) < iteration
    ]


def divergence(cfg: Any, iteration: int) -> UserError:
    """The error for a loss that is no longer finite."""
    return UserError(
        f"the loss became NaN or infinite at iteration {iteration}: lower SOLVER.BASE_LR "
        f"(now {cfg.SOLVER.BASE_LR}) or lengthen SOLVER.WARMUP_ITERS (now "
        f"{cfg.SOLVER.WARMUP_ITERS}); checkpoints before it are in {cfg.OUTPUT_DIR}"
    )


def check_classes(path: str, known: list[str], datasets: dict[str, list[str]]) -> None:
    """Refuse data sets whose class names differ from those of the model at `path`.

    Raises:
        UserError: the message names the data set.
    """
    for name, class_names in datasets.items():
        if class_names != known:
            raise UserError(
                f"the model of {path} knows the classes {', '.join(known)}; "
                f"{name} has {', '.join(class_names)}"
            )
