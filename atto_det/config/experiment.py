"""Reading experiment files: YAML with `_BASE_`, merged into a yacs node, with readable errors.

Both engines read the same files with this module. YAML is always loaded safely: a tag that would
create a Python object is an error.
"""

import contextlib
import difflib
import functools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from yacs.config import CfgNode

from atto_det.bounded_yaml import line_of, parse_yaml, read_text
from atto_det.config.ranges import WORDS, first_fault
from atto_det.config.values import fitting, literal
from atto_det.errors import UserError, shown

logger = logging.getLogger(__name__)

COMMAND_LINE = "the command line"  # named in errors as the place of a key
# The experiments that come with atto_det: in the package once installed, else in the checkout.
CONFIGS = Path(__file__).resolve().parents[1] / "configs"
if not CONFIGS.is_dir():
    CONFIGS = CONFIGS.parents[1] / "configs"


def find_config(name: str | Path, folder: Path = Path(), where: str = "") -> Path:
    """The file `name` in `folder`, or else the experiment of that name in `CONFIGS`.

    Raises:
        UserError: `name` starts with the home folder of an unknown user (prefixed with `where`).
    """
    own, shipped = folder / _file(name, where), CONFIGS / name
    with contextlib.suppress(OSError):  # such as a name that is too long: reading it will fail
        return shipped if not own.exists() and shipped.is_file() else own
    return own


class DataCatalog(Protocol):
    """An engine's data sets by name."""

    def register_own_data(self, cfg: CfgNode) -> object:
        """Register the data sets of `DATASETS.FOLDERS` and `DATASETS.COCO`."""

    def class_names_of(self, name: str) -> list[str]:
        """The class names of a data set."""


class ConfigReader(ABC):
    """Turns experiment files into configs; an engine's subclass supplies what differs.

    Attributes:
        catalog: the engine's data sets.
        find_network: `atto_det.design.find_network`, which this layer must not import.
    """

    catalog: DataCatalog
    find_network: Callable[..., str]

    @abstractmethod
    def defaults(self) -> CfgNode:
        """A new config with every key at its default."""

    @abstractmethod
    def shared_seed(self) -> int:
        """A random seed, the same in all processes, used if SEED is negative."""

    def load_yaml(self, config_file: str | Path) -> dict[str, Any]:
        """The content of an experiment file."""
        return load_yaml(config_file)

    def merged(self, content: Mapping[str, Any], where: str, options: Sequence[str]) -> CfgNode:
        """The defaults, overridden by `content`, which comes from `where`, and then by `options`.

        Raises:
            UserError: an unknown key, or a value that is not allowed.
        """
        cfg = self.defaults()
        merge(cfg, content, where)
        merge_options(cfg, options)
        if fault := first_fault(cfg):
            place = COMMAND_LINE if fault.key in options[::2] else _place(where, fault.key)
            raise UserError(f"{place}: {fault.key} {fault.says}")
        return cfg

    def load_config(self, config_file: str | Path, options: Sequence[str] = ()) -> CfgNode:
        """The frozen config of an experiment: defaults, then the file, then `KEY VALUE` options.

        Registers the data that the config names and takes the class count from it. Without a GPU it
        switches to the CPU and turns mixed precision off, and logs this.

        Raises:
            UserError: an unknown key, a value of the wrong type or one that the engine does not
                support, or data that does not fit.
        """
        return self.completed(self.read_file(config_file, options))

    def read_file(self, config_file: str | Path, options: Sequence[str] = ()) -> CfgNode:
        """The config of an experiment, before data and machine are considered. Not frozen.

        Raises:
            UserError: as `load_config`, except for the data.
        """
        cfg = self.merged(self.load_yaml(config_file), str(config_file), options)
        # A network file is only opened here, where the user names it. A checkpoint contains the
        # network itself, so `config_from_text` opens no file.
        network = cfg.MODEL.ATTONET
        network.NAME = self.find_network(network.NAME, key="MODEL.ATTONET.NAME")
        return cfg

    def config_from_text(self, text: str, where: str, options: Sequence[str] = ()) -> CfgNode:
        """The config stored in a checkpoint, usable without its data. Not frozen.

        Raises:
            UserError: as `read_file`.
        """
        cfg = self.merged(parse_yaml(text, where), where, options)
        use_available_device(cfg)
        return cfg

    def completed(self, cfg: CfgNode) -> CfgNode:
        """`cfg`, frozen, after filling in the device, the seed and the class count.

        Raises:
            UserError: data that does not fit.
        """
        use_available_device(cfg)
        check_device(cfg.MODEL.DEVICE, "MODEL.DEVICE")
        self.catalog.register_own_data(cfg)
        if cfg.SEED < 0:
            cfg.SEED = self.shared_seed()
            logger.info("SEED was not set; it is %d now", cfg.SEED)
        if cfg.DATASETS.TRAIN:
            name = cfg.DATASETS.TRAIN[0]
            set_class_count(cfg, self.catalog.class_names_of(name), name)
        cfg.freeze()
        return cfg


def load_yaml(path: str | Path, trusted: Path | None = None) -> dict[str, Any]:
    """The content of an experiment file, merged over that of its `_BASE_` (a relative path).

    A file that does not exist is looked up in `CONFIGS`. `_BASE_` may be a list of files, of which
    a later one overrides an earlier one.

    Args:
        trusted: folder whose files may use tags that run code, as some files that come with an
            installed package do.

    Raises:
        UserError: a missing file, no YAML mapping, an unsafe tag, or a cycle of bases.
    """
    return _load_yaml(find_config(path), trusted, ())


def _load_yaml(path: Path, trusted: Path | None, above: tuple[Path, ...]) -> dict[str, Any]:
    try:
        text = read_text(path, "config file")
    except FileNotFoundError:
        raise UserError(f"config file {path} does not exist{_neighbours(path)}") from None
    if path.resolve() in above:
        raise UserError(f"{path} is its own _BASE_, directly or through others: remove the cycle")
    safe = trusted is None or not path.resolve().is_relative_to(trusted.resolve())
    content = parse_yaml(text, str(path), safe=safe)
    bases = content.pop("_BASE_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(
            f"{path}: _BASE_ must be the path of a file, or a list of them: {shown(bases)}"
        )
    below: dict[str, Any] = {}
    for base in bases:
        own = find_config(base, path.parent, f"{path}: ")
        below = _over(_load_yaml(own, trusted, (*above, path.resolve())), below)
    return _over(content, below)


def _file(path: str | Path, where: str) -> Path:
    """The path with `~` expanded; an error message begins with `where`."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{where}{shown(path)} names the home folder of an unknown user") from error


def _over(upper: Mapping, lower: Mapping) -> dict[str, Any]:
    merged = dict(lower)
    for key, value in upper.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _over(value, merged[key]) if both else value
    return merged


def _neighbours(path: Path) -> str:
    known = {p.stem: p.relative_to(CONFIGS) for p in sorted(CONFIGS.rglob("*.yaml"))}
    with contextlib.suppress(OSError):
        known |= {p.stem: p for p in sorted(path.parent.glob("*.yaml"))}
    close = difflib.get_close_matches(path.stem, known, n=1, cutoff=0.6)
    return f"; did you mean {known[close[0]]}?" if close else ""


def merge(cfg: CfgNode, content: Mapping[str, Any], where: str) -> None:
    """Set each key of the nested `content` in `cfg`; errors name `where` as its source.

    Raises:
        UserError: `cfg` has no such key (the nearest one is named), or the value's type is wrong.
    """
    for key, value in _leaves(cfg, content, where):
        _set(cfg, key, value, functools.partial(_place, where, key))


def merge_options(cfg: CfgNode, options: Sequence[str]) -> None:
    """Set the `KEY VALUE` pairs of a command line in `cfg`. Values are Python literals or text.

    Raises:
        UserError: a key without a value, an unknown key, or a value of the wrong type.
    """
    if len(options) % 2:
        raise UserError(f"options are pairs KEY VALUE, but {shown(options[-1])} has no partner")
    for key, text in zip(options[::2], options[1::2], strict=True):
        _set(cfg, key, text, lambda: COMMAND_LINE)


def refuse_other_weights(options: Sequence[str], path: str | Path) -> None:
    """Refuse options that name other weights than those of the checkpoint at `path`.

    Raises:
        UserError: MODEL.WEIGHTS is among the keys.
    """
    if "MODEL.WEIGHTS" in options[::2]:
        raise UserError(
            f"MODEL.WEIGHTS is given beside the checkpoint {path}, whose weights are used: leave "
            "it out, or name the other checkpoint"
        )


def set_class_count(cfg: CfgNode, class_names: Sequence[str], dataset: str) -> None:
    """Set the heads' class count from the data; if the config states a count, it must agree."""
    key, head = class_head(cfg)
    if head.NUM_CLASSES not in (0, len(class_names)):
        raise UserError(
            f"{key} is {head.NUM_CLASSES}, but {dataset} has {len(class_names)} classes: "
            f"set it to {len(class_names)}, or to 0 to take it from the data"
        )
    head.NUM_CLASSES = len(class_names)


def check_class_names(cfg: CfgNode, class_names: Sequence[str], where: str) -> None:
    """Refuse class names that do not fit the model's outputs; `where` says where they are stored.

    Raises:
        UserError: their number is wrong, or a name occurs twice.
    """
    count = class_head(cfg)[1].NUM_CLASSES
    if len(class_names) != count:
        raise UserError(
            f"{where} names {len(class_names)} classes, but its model has {count}: the file was "
            "modified; use the one that the training wrote"
        )
    if twice := [name for name in class_names if class_names.count(name) > 1]:
        raise UserError(f"{where} names the class {shown(twice[0])} twice: the file was modified")


def class_head(cfg: CfgNode) -> tuple[str, CfgNode]:
    """The key of a detector's class count, and the node of `cfg` that holds it as NUM_CLASSES."""
    if cfg.MODEL.META_ARCHITECTURE == "RetinaNet":
        return "MODEL.RETINANET.NUM_CLASSES", cfg.MODEL.RETINANET
    return "MODEL.ROI_HEADS.NUM_CLASSES", cfg.MODEL.ROI_HEADS


def check_values(cfg: CfgNode) -> None:
    """Refuse values that a key cannot have, in a config that was changed after it was read.

    Raises:
        UserError: the first of them.
    """
    if fault := first_fault(cfg):
        raise UserError(f"the config's {fault.key} {fault.says}")


def use_available_device(cfg: CfgNode) -> None:
    """Switch a config that asks for CUDA to the CPU if there is no CUDA, with a log line."""
    import torch

    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logger.warning("no CUDA device: running on the CPU, without mixed precision")
        cfg.MODEL.DEVICE = "cpu"
    if cfg.MODEL.DEVICE == "cpu":
        cfg.SOLVER.AMP.ENABLED = False


def set_prediction(cfg: CfgNode, device: str | None, score_threshold: float | None) -> None:
    """Set the device and the score threshold of predictions, if they are given.

    Raises:
        UserError: a device that does not exist, or a threshold outside 0 to 1.
    """
    check_device(device or cfg.MODEL.DEVICE)
    cfg.MODEL.DEVICE = device or cfg.MODEL.DEVICE
    if score_threshold is not None:
        if not 0 <= score_threshold <= 1:
            raise UserError(f"score_threshold is {score_threshold}; it must be between 0 and 1")
        class_head(cfg)[1].SCORE_THRESH_TEST = float(score_threshold)


def check_device(device: str, key: str = "device") -> None:
    """Refuse a device that does not exist; `key` is the setting that names it.

    Raises:
        UserError: the message names the device and the reason.
    """
    import torch

    try:
        torch.empty(1, device=device)
    except (AssertionError, RuntimeError, ValueError) as error:  # ValueError for a NUL
        reason = str(error).splitlines()[0]
        raise UserError(f"{key} is {device}, which cannot be used here: {reason}") from error


def _leaves(node: CfgNode, content: Mapping, where: str, prefix: str = "") -> Iterator:
    for key, value in content.items():
        full = f"{prefix}{key}"
        if isinstance(value, dict) and isinstance(node.get(key), CfgNode):
            yield from _leaves(node[key], value, where, f"{full}.")
        else:
            yield full, value


def _place(where: str, key: str) -> str:
    """The file among `where` and its bases that sets `key`, with the line; or else `where`."""
    waiting, seen = [where], set()
    while waiting:
        name = waiting.pop(0)
        try:
            path = find_config(name)
            text = read_text(path, "")
            bases = parse_yaml(text, "").get("_BASE_", [])
        except (OSError, UserError):
            continue
        if line := line_of(text, key):
            return f"{path}, line {line}"
        seen.add(path)
        for base in reversed([bases] if isinstance(bases, str) else bases):
            if (below := find_config(base, path.parent)) not in seen:
                waiting.append(str(below))
    return where


def _set(cfg: CfgNode, key: str, value: Any, where: Callable[[], str]) -> None:
    *parents, name = key.split(".")
    node = cfg
    for parent in parents:
        node = node.get(parent) if isinstance(node, CfgNode) else None
    if not isinstance(node, CfgNode) or name not in node:
        known = list(_all_keys(cfg))
        close = difflib.get_close_matches(key[:100], known, n=1, cutoff=0)
        raise UserError(f"{where()}: there is no key {_plain(key)}; the nearest is {close[0]}")
    if isinstance(node[name], CfgNode):
        raise UserError(f"{where()}: {key} is a section; set one of the keys in it")
    if isinstance(value, str):
        value = literal(value, text_expected=isinstance(node[name], str) and key not in WORDS)
    node[name] = fitting(value, node[name], key, where)


def _plain(key: str) -> str:
    """A key as shown in a message: unchanged, unless it is too long or not printable."""
    return key if len(key) <= 100 and key.isprintable() else shown(key)


def _all_keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, CfgNode):
            yield from _all_keys(value, f"{prefix}{key}.")
