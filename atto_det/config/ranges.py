"""The values that each key of a detector's config may have, in addition to their type.

One table serves both engines. A value that is out of range would make a training fail hours later,
or with an error of some library. Rules about several keys at once follow the table; what depends on
the data or on the engine is checked where that is known.
"""

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from yacs.config import CfgNode

from atto_det.errors import shown

Rule = Callable[[Any], str]  # from a value to what is wrong with it; "" if nothing is
MOST = 10**9  # for values without a limit of their own, so that nothing overflows


class Fault(NamedTuple):
    """A value that a key must not have: the `key`, and the rest of the sentence about it."""

    key: str
    says: str


def number(
    low: float = -MOST,
    high: float = MOST,
    *,
    beyond: float = -math.inf,
    below: float = math.inf,
) -> Rule:
    """From `low` to `high`, both included; above `beyond` and below `below`, both excluded."""

    def complaint(value: Any) -> str:
        if type(value) not in (int, float):
            return "it must be a number"
        if not math.isfinite(value):
            return "it must be finite"
        if value <= beyond:
            return f"it must be above {beyond:g}"
        if value >= below:
            return f"it must be below {below:g}"
        if low <= value <= high:
            return ""
        if high == MOST:
            return f"it must be at least {low:g}" if value < low else f"it must be at most {MOST:,}"
        return f"it must be between {low:,} and {high:,}"

    return complaint


def whole(low: int, high: int = MOST) -> Rule:
    """A whole number from `low` to `high`, both included."""
    within = number(low, high)
    return lambda value: within(value) if type(value) is int else "it must be a whole number"


def one_of(*values: Any) -> Rule:
    """One of the given values."""
    allowed = ", ".join(map(repr, values))
    return lambda value: "" if value in values else f"choose one of {allowed}"


def each(rule: Rule, *, count: tuple[int, ...] = (), least: int = 0) -> Rule:
    """A list whose items all follow `rule`, with one of the lengths in `count`."""

    def complaint(value: Any) -> str:
        if not isinstance(value, list | tuple):
            return "it must be a list"
        if len(value) < least:
            return "give at least one item"
        if count and len(value) not in count:
            return f"give {' or '.join(map(str, count))} items"
        wrong = ((item, rule(item)) for item in value)
        return next((f"of {shown(item, 60)} in it, {says}" for item, says in wrong if says), "")

    return complaint


def either(*rules: Rule) -> Rule:
    """A value that follows any of the rules; if none fits, the first one gives the message."""
    return lambda value: "" if any(not rule(value) for rule in rules) else rules[0](value)


def text(value: Any) -> str:
    """Text that is not empty."""
    return "" if isinstance(value, str) and value else "it must be text"


def path(value: Any) -> str:
    """The path of a file or folder, which need not exist."""
    if not isinstance(value, str):
        return "it must be the path of a file or folder"
    try:
        Path(value).expanduser()
        if b"\0" in os.fsencode(value) or len(value) > 4000:
            return "it is not a path"
        if "://" not in value and any(len(os.fsencode(part)) > 255 for part in Path(value).parts):
            return "it has a name of more than 255 bytes"
    except RuntimeError:
        return "it names the home folder of an unknown user"
    except ValueError:
        return "it is not a path"
    return ""


def paths_within(value: Any) -> str:
    """The paths in lists such as DATASETS.FOLDERS, whose structure the catalogue checks."""
    rows = value if isinstance(value, list | tuple) else ()
    parts = [part for row in rows if isinstance(row, list | tuple) for part in row]
    wrong = ((part, path(part)) for part in parts if isinstance(part, str))
    return next((f"of {shown(part, 60)} in it, {says}" for part, says in wrong if says), "")


def increasing(value: Any) -> str:
    """A smallest and a largest scale."""
    fits = isinstance(value, list | tuple) and len(value) == 2
    fits = fits and not any(map(number(beyond=0, high=100), value)) and value[0] <= value[1]
    return "" if fits else "give the smallest and the largest scale, such as (0.1, 2.0)"


def height_and_width(value: Any) -> str:
    """A size in pixels."""
    fits = isinstance(value, list | tuple) and len(value) == 2 and not any(map(PIXELS, value))
    return "" if fits else "give height and width, such as (512, 512)"


def anything(value: Any) -> str:
    """Any value that libraries accept: numbers of ordinary size, and text that can be encoded."""
    if isinstance(value, dict | list | tuple):
        values = [*value, *value.values()] if isinstance(value, dict) else value
        return next(filter(None, map(anything, values)), "")
    if type(value) in (int, float) and value not in (math.inf, -math.inf):
        return number(-(2**53), 2**53)(value)
    if isinstance(value, str):
        try:
            return "it contains a NUL" if b"\0" in os.fsencode(value) else ""
        except ValueError:
            return "it contains an invalid character"
    return ""


SHARE = number(0, 1)
ABOVE_ZERO = number(beyond=0)
NOT_NEGATIVE = number(0)
COUNT = whole(1)
COUNT_OR_NONE = whole(0)
PIXELS = whole(1, 100_000)
CHANNELS = whole(1, 100_000)
NORM = one_of("", "BN", "SyncBN", "FrozenBN", "GN", "LN", "nnSyncBN", "naiveSyncBN")
NAMES = each(text)
SHARES = each(SHARE, least=1)
LABELS = each(one_of(-1, 0, 1), least=2)
BOX_WEIGHTS = each(ABOVE_ZERO, count=(4, 5))  # five for rotated boxes
BY_LEVEL = either(  # a single list applies to all levels
    each(each(number(beyond=0, high=100_000), least=1), least=1),
    each(number(beyond=0, high=100_000), least=1),
)
POOLED = whole(1, 512)
SAMPLES = whole(0, 64)

WORDS = {"SOLVER.ACCUMULATE": "auto"}  # keys that accept a word instead of a whole number
RANGES: dict[str, Rule] = {
    "MODEL.WEIGHTS": path,
    "MODEL.PIXEL_MEAN": each(number(), least=1),
    "MODEL.PIXEL_STD": each(ABOVE_ZERO, least=1),
    "MODEL.BACKBONE.FREEZE_AT": whole(0, 5),
    "MODEL.ATTONET.NAME": text,
    "MODEL.ATTONET.NORM": one_of("BN", "SyncBN", "FrozenBN"),
    "MODEL.TIMM.WEIGHTS": path,
    "MODEL.SEPARABLE.RPN_NORM": one_of("", "BN", "SyncBN", "FrozenBN"),
    "MODEL.FPN.IN_FEATURES": NAMES,
    "MODEL.FPN.OUT_CHANNELS": CHANNELS,
    "MODEL.FPN.NORM": NORM,
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": whole(0, 100_000),
    "MODEL.ANCHOR_GENERATOR.SIZES": BY_LEVEL,
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": BY_LEVEL,
    "MODEL.ANCHOR_GENERATOR.OFFSET": SHARE,
    "MODEL.RPN.IN_FEATURES": NAMES,
    "MODEL.RPN.BOUNDARY_THRESH": whole(-1),
    "MODEL.RPN.IOU_THRESHOLDS": SHARES,
    "MODEL.RPN.IOU_LABELS": LABELS,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": COUNT,
    "MODEL.RPN.POSITIVE_FRACTION": SHARE,
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": NOT_NEGATIVE,
    "MODEL.RPN.BBOX_REG_WEIGHTS": BOX_WEIGHTS,
    "MODEL.RPN.SMOOTH_L1_BETA": NOT_NEGATIVE,
    "MODEL.RPN.LOSS_WEIGHT": NOT_NEGATIVE,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": COUNT,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": COUNT,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": COUNT,
    "MODEL.RPN.POST_NMS_TOPK_TEST": COUNT,
    "MODEL.RPN.NMS_THRESH": SHARE,
    "MODEL.RPN.CONV_DIMS": each(either(CHANNELS, one_of(-1)), least=1),
    "MODEL.ROI_HEADS.NUM_CLASSES": whole(0, 100_000),  # 0: taken from the data
    "MODEL.ROI_HEADS.IN_FEATURES": NAMES,
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": SHARES,
    "MODEL.ROI_HEADS.IOU_LABELS": LABELS,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": COUNT,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": SHARE,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": SHARE,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": SHARE,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": NOT_NEGATIVE,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": BOX_WEIGHTS,
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": NOT_NEGATIVE,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": POOLED,
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": SAMPLES,
    "MODEL.ROI_BOX_HEAD.NUM_FC": whole(0, 100),
    "MODEL.ROI_BOX_HEAD.FC_DIM": CHANNELS,
    "MODEL.ROI_BOX_HEAD.NUM_CONV": whole(0, 100),
    "MODEL.ROI_BOX_HEAD.CONV_DIM": CHANNELS,
    "MODEL.ROI_BOX_HEAD.NORM": NORM,
    "MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES": COUNT,
    "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS": each(BOX_WEIGHTS, least=1),
    "MODEL.ROI_BOX_CASCADE_HEAD.IOUS": SHARES,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": whole(0, 100),
    "MODEL.ROI_MASK_HEAD.CONV_DIM": CHANNELS,
    "MODEL.ROI_MASK_HEAD.NORM": NORM,
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": POOLED,
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": SAMPLES,
    "MODEL.RETINANET.NUM_CLASSES": whole(0, 100_000),
    "MODEL.RETINANET.IN_FEATURES": NAMES,
    "MODEL.RETINANET.NUM_CONVS": whole(1, 100),
    "MODEL.RETINANET.IOU_THRESHOLDS": SHARES,
    "MODEL.RETINANET.IOU_LABELS": LABELS,
    "MODEL.RETINANET.PRIOR_PROB": number(beyond=0, below=1),
    "MODEL.RETINANET.SCORE_THRESH_TEST": SHARE,
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST": COUNT,
    "MODEL.RETINANET.NMS_THRESH_TEST": SHARE,
    "MODEL.RETINANET.BBOX_REG_WEIGHTS": BOX_WEIGHTS,
    "MODEL.RETINANET.FOCAL_LOSS_GAMMA": NOT_NEGATIVE,
    "MODEL.RETINANET.FOCAL_LOSS_ALPHA": number(-1, 1),  # -1: all classes have the same weight
    "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": NOT_NEGATIVE,
    "MODEL.RETINANET.NORM": NORM,
    "MODEL.RESNETS.DEPTH": one_of(18, 34, 50, 101, 152),
    "MODEL.RESNETS.OUT_FEATURES": NAMES,
    "MODEL.RESNETS.NUM_GROUPS": CHANNELS,
    "MODEL.RESNETS.NORM": NORM,
    "MODEL.RESNETS.WIDTH_PER_GROUP": CHANNELS,
    "MODEL.RESNETS.RES5_DILATION": one_of(1, 2),
    "MODEL.RESNETS.RES2_OUT_CHANNELS": CHANNELS,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": CHANNELS,
    "MODEL.RESNETS.DEFORM_NUM_GROUPS": CHANNELS,
    "INPUT.MIN_SIZE_TRAIN": each(whole(0, 100_000)),  # 0: the picture's own size
    "INPUT.MAX_SIZE_TRAIN": PIXELS,
    "INPUT.MIN_SIZE_TEST": whole(0, 100_000),  # likewise
    "INPUT.MAX_SIZE_TEST": PIXELS,
    "INPUT.LSJ.SCALE_RANGE": increasing,
    "INPUT.LSJ.SIZE": height_and_width,
    "INPUT.COPY_PASTE.PROBABILITY": SHARE,
    "INPUT.COPY_PASTE.MIN_VISIBLE": SHARE,
    "INPUT.COLOR_JITTER.BRIGHTNESS": SHARE,
    "INPUT.COLOR_JITTER.CONTRAST": SHARE,
    "INPUT.COLOR_JITTER.SATURATION": SHARE,
    "INPUT.COLOR_JITTER.HUE": number(0, 0.5),
    "DATASETS.TRAIN": NAMES,
    "DATASETS.TEST": NAMES,
    "DATASETS.FOLDERS": paths_within,
    "DATASETS.COCO": paths_within,
    "DATASETS.NO_HORIZONTAL_FLIP": NAMES,
    "DATASETS.HOLD_OUT": COUNT_OR_NONE,
    "DATASETS.PROPOSAL_FILES_TRAIN": each(path),
    "DATASETS.PROPOSAL_FILES_TEST": each(path),
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN": COUNT,
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST": COUNT,
    "DATALOADER.NUM_WORKERS": whole(0, 1000),
    "DATALOADER.REPEAT_THRESHOLD": SHARE,
    "SOLVER.IMS_PER_BATCH": whole(1, 100_000),
    "SOLVER.ACCUMULATE": either(whole(1), one_of("auto")),
    "SOLVER.BASE_LR": NOT_NEGATIVE,
    "SOLVER.BASE_LR_END": NOT_NEGATIVE,
    "SOLVER.MOMENTUM": number(0, below=1),
    "SOLVER.WEIGHT_DECAY": NOT_NEGATIVE,
    "SOLVER.WEIGHT_DECAY_NORM": either(NOT_NEGATIVE, one_of(None)),
    "SOLVER.WEIGHT_DECAY_BIAS": either(NOT_NEGATIVE, one_of(None)),
    "SOLVER.BIAS_LR_FACTOR": NOT_NEGATIVE,
    "SOLVER.GAMMA": NOT_NEGATIVE,
    "SOLVER.STEPS": each(COUNT_OR_NONE),
    "SOLVER.NUM_DECAYS": COUNT,
    "SOLVER.MAX_ITER": COUNT,
    "SOLVER.WARMUP_FACTOR": SHARE,
    "SOLVER.WARMUP_ITERS": COUNT_OR_NONE,
    "SOLVER.CHECKPOINT_PERIOD": COUNT,
    "SOLVER.REFERENCE_WORLD_SIZE": whole(0, 100_000),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": ABOVE_ZERO,
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": either(ABOVE_ZERO, one_of(math.inf)),
    "SOLVER.EMA.DECAY": number(0, below=1),
    "TEST.EVAL_PERIOD": COUNT_OR_NONE,
    "TEST.PATIENCE": COUNT_OR_NONE,
    "TEST.DETECTIONS_PER_IMAGE": whole(1, 1_000_000),
    "TEST.AUG.MIN_SIZES": each(PIXELS),
    "TEST.AUG.MAX_SIZE": PIXELS,
    "TEST.PRECISE_BN.NUM_ITER": COUNT,
    "OUTPUT_DIR": path,
    "SEED": whole(-1, 2**32 - 1),  # -1: drawn at random
    "VIS_PERIOD": COUNT_OR_NONE,
}


def first_fault(cfg: CfgNode) -> Fault | None:
    """The first key of a config with a value that is not allowed."""
    values = dict(leaves(cfg))
    for key, value in values.items():
        if says := RANGES.get(key, anything)(value):
            return Fault(key, f"is {shown(value)}: {says}")
    for key, says in _misfits(values):
        return Fault(key, f"is {shown(values[key])}: {says}")
    return None


def _misfits(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys whose values do not fit those of other keys, and what they need."""
    std, mean = "MODEL.PIXEL_STD", "MODEL.PIXEL_MEAN"
    if std in values and len(values[std]) != len(values[mean]):
        yield std, f"it needs as many values as {mean} has"
    if values.get("SOLVER.NESTEROV") and values["SOLVER.MOMENTUM"] <= 0:
        yield "SOLVER.NESTEROV", "it needs a SOLVER.MOMENTUM above 0"
    for section in ("RPN", "ROI_HEADS", "RETINANET"):
        labels, thresholds = (f"MODEL.{section}.IOU_{name}" for name in ("LABELS", "THRESHOLDS"))
        if labels in values and len(values[labels]) != len(values[thresholds]) + 1:
            yield labels, f"it needs one more value than {thresholds} has"


def leaves(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a config with its value."""
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
