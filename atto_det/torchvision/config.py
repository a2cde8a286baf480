"""Detectron2's experiment files without Detectron2: what this engine supports and what it does not.

Every key has Detectron2's default here. `Only` marks the keys of which this engine supports only
some values; any other value is an error that names the key. `IGNORED` are sections for other
models, which Detectron2's Atto-MaskRCNN does not read, either.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from yacs.config import CfgNode

from atto_det.config import ConfigReader, backbones, resnets
from atto_det.data import catalog
from atto_det.design.networks import find_network
from atto_det.errors import UserError
from atto_det.nets import NORMS
from atto_det.training.keys import KEYS, SAMPLERS

BUILDERS = (backbones.ATTONET, backbones.TIMM, *backbones.RESNETS)


class Unsupported(UserError):
    """A config that Detectron2 may support, but not this engine."""


class Only:
    """The values that a key may have; Detectron2's default is the first, or given explicitly."""

    def __init__(self, *allowed: Any, default: Any = None) -> None:
        self.allowed = allowed
        self.default = allowed[0] if default is None else default


DEFAULTS: dict[str, Any] = {
    "MODEL": {
        "META_ARCHITECTURE": Only("GeneralizedRCNN"),
        "MASK_ON": False,
        "KEYPOINT_ON": Only(False),
        "LOAD_PROPOSALS": Only(False),
        "WEIGHTS": "",
        "DEVICE": "cuda",
        "PIXEL_MEAN": [103.53, 116.28, 123.675],
        "PIXEL_STD": [1.0, 1.0, 1.0],
        "BACKBONE": {
            "NAME": Only(*BUILDERS, backbones.SEPARABLE, default="build_resnet_backbone"),
            "FREEZE_AT": 2,
            "GRADIENT_CHECKPOINTING": False,
        },
        "ATTONET": {"NAME": "attonet_a", "NORM": "BN"},
        "TIMM": {"NAME": "", "WEIGHTS": ""},
        "SEPARABLE": {"BACKBONE": Only(*BUILDERS), "RPN_NORM": ""},
        "RESNETS": resnets.DEFAULTS
        | {
            "OUT_FEATURES": ["res4"],  # the FPN's input says which
            "NORM": Only(*NORMS, default="FrozenBN"),
            "RES5_DILATION": Only(1),
            "STEM_OUT_CHANNELS": Only(64),
            "DEFORM_ON_PER_STAGE": Only([False] * 4),
        },
        "FPN": {
            "IN_FEATURES": [],
            "OUT_CHANNELS": 256,
            "NORM": "",
            "FUSE_TYPE": Only("sum"),
        },
        "ANCHOR_GENERATOR": {
            "NAME": Only("DefaultAnchorGenerator"),
            "SIZES": [[32, 64, 128, 256, 512]],
            "ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
            "OFFSET": Only(0.0),
        },
        "PROPOSAL_GENERATOR": {"NAME": Only("RPN"), "MIN_SIZE": 0},
        "RPN": {
            "HEAD_NAME": Only("StandardRPNHead", "SeparableRPNHead"),
            "IN_FEATURES": ["res4"],
            "CONV_DIMS": Only([-1]),
            "BOUNDARY_THRESH": Only(-1),
            "IOU_THRESHOLDS": [0.3, 0.7],
            "IOU_LABELS": [0, -1, 1],
            "BATCH_SIZE_PER_IMAGE": 256,
            "POSITIVE_FRACTION": 0.5,
            "BBOX_REG_LOSS_TYPE": Only("smooth_l1"),
            "BBOX_REG_LOSS_WEIGHT": 1.0,
            "BBOX_REG_WEIGHTS": (1.0, 1.0, 1.0, 1.0),
            "SMOOTH_L1_BETA": 0.0,
            "LOSS_WEIGHT": 1.0,
            "PRE_NMS_TOPK_TRAIN": 12000,
            "PRE_NMS_TOPK_TEST": 6000,
            "POST_NMS_TOPK_TRAIN": 2000,
            "POST_NMS_TOPK_TEST": 1000,
            "NMS_THRESH": 0.7,
        },
        "ROI_HEADS": {
            "NAME": Only("StandardROIHeads", default="Res5ROIHeads"),
            "NUM_CLASSES": 80,
            "IN_FEATURES": ["res4"],
            "IOU_THRESHOLDS": [0.5],
            "IOU_LABELS": [0, 1],
            "BATCH_SIZE_PER_IMAGE": 512,
            "POSITIVE_FRACTION": 0.25,
            "PROPOSAL_APPEND_GT": True,
            "SCORE_THRESH_TEST": 0.05,
            "NMS_THRESH_TEST": 0.5,
        },
        "ROI_BOX_HEAD": {
            "NAME": Only("FastRCNNConvFCHead", default=""),
            "NUM_CONV": Only(0),
            "NUM_FC": Only(2, default=0),
            "FC_DIM": 1024,
            "POOLER_TYPE": Only("ROIAlignV2"),
            "POOLER_RESOLUTION": 14,
            "POOLER_SAMPLING_RATIO": 0,
            "BBOX_REG_LOSS_TYPE": Only("smooth_l1"),
            "BBOX_REG_LOSS_WEIGHT": 1.0,
            "BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0),
            "SMOOTH_L1_BETA": 0.0,
            "CLS_AGNOSTIC_BBOX_REG": Only(False),
            "TRAIN_ON_PRED_BOXES": Only(False),
            "USE_FED_LOSS": Only(False),
            "USE_SIGMOID_CE": Only(False),
        },
        "ROI_MASK_HEAD": {
            "NAME": Only("MaskRCNNConvUpsampleHead", "SeparableMaskHead"),
            "NUM_CONV": 0,
            "CONV_DIM": 256,
            "NORM": "",
            "CLS_AGNOSTIC_MASK": Only(False),
            "POOLER_TYPE": Only("ROIAlignV2"),
            "POOLER_RESOLUTION": 14,
            "POOLER_SAMPLING_RATIO": 0,
        },
    },
    "INPUT": {
        "FORMAT": Only("BGR", "RGB"),
        "MASK_FORMAT": Only("polygon", "bitmask"),
        "MIN_SIZE_TRAIN": (800,),
        "MIN_SIZE_TRAIN_SAMPLING": Only("choice", "range"),
        "MAX_SIZE_TRAIN": 1333,
        "MIN_SIZE_TEST": 800,
        "MAX_SIZE_TEST": 1333,
        "RANDOM_FLIP": Only("horizontal", "none"),
        "CROP": {"ENABLED": Only(False)},
        **KEYS["INPUT"],
    },
    "DATASETS": {
        "TRAIN": (),
        "TEST": (),
        "FOLDERS": [],
        "COCO": [],
        "NO_HORIZONTAL_FLIP": [],
        **KEYS["DATASETS"],
    },
    "DATALOADER": {
        "NUM_WORKERS": 4,
        "ASPECT_RATIO_GROUPING": True,
        "FILTER_EMPTY_ANNOTATIONS": True,
        "SAMPLER_TRAIN": Only(*SAMPLERS),
        "REPEAT_THRESHOLD": 0.0,
        "REPEAT_SQRT": True,
    },
    "SOLVER": {
        "LR_SCHEDULER_NAME": Only("WarmupMultiStepLR", "WarmupCosineLR"),
        "IMS_PER_BATCH": 16,
        "BASE_LR": 0.001,
        "BASE_LR_END": 0.0,
        "MOMENTUM": 0.9,
        "NESTEROV": False,
        "WEIGHT_DECAY": 0.0001,
        "WEIGHT_DECAY_NORM": 0.0,
        "WEIGHT_DECAY_BIAS": None,
        "BIAS_LR_FACTOR": 1.0,
        "GAMMA": 0.1,
        "STEPS": (30000,),
        "MAX_ITER": 40000,
        "WARMUP_FACTOR": 0.001,
        "WARMUP_ITERS": 1000,
        "WARMUP_METHOD": Only("linear", "constant"),
        "RESCALE_INTERVAL": Only(False),
        "REFERENCE_WORLD_SIZE": Only(0),
        "CHECKPOINT_PERIOD": 5000,
        "CLIP_GRADIENTS": {
            "ENABLED": False,
            "CLIP_TYPE": Only("value", "norm"),
            "CLIP_VALUE": 1.0,
            "NORM_TYPE": 2.0,
        },
        "AMP": {"ENABLED": False},
        **KEYS["SOLVER"],
    },
    "TEST": {
        **KEYS["TEST"],
        "EVAL_PERIOD": 0,
        "DETECTIONS_PER_IMAGE": 100,
        "AUG": {
            "ENABLED": False,
            "MIN_SIZES": (400, 500, 600, 700, 800, 900, 1000, 1100, 1200),
            "MAX_SIZE": 4000,
            "FLIP": True,
        },
        "PRECISE_BN": {"ENABLED": Only(False)},
        "EXPECTED_RESULTS": Only([]),
    },
    "OUTPUT_DIR": "./output",
    "SEED": -1,
    "CUDNN_BENCHMARK": False,
    "FLOAT32_PRECISION": Only(""),
    "VIS_PERIOD": Only(0),
}

IGNORED = (
    *("VERSION", "GLOBAL"),
    *("MODEL.RETINANET", "MODEL.PANOPTIC_FPN", "MODEL.SEM_SEG_HEAD"),
    *("MODEL.ROI_KEYPOINT_HEAD", "MODEL.ROI_BOX_CASCADE_HEAD", "MODEL.ANCHOR_GENERATOR.ANGLES"),
    # Only relevant for features that are fixed above: box head convolutions, federated loss, …
    *("MODEL.ROI_BOX_HEAD.NORM", "MODEL.ROI_BOX_HEAD.CONV_DIM"),
    *("MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES", "MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER"),
    *("INPUT.CROP.SIZE", "INPUT.CROP.TYPE", "SOLVER.NUM_DECAYS"),
    *("DATASETS.PROPOSAL_FILES_TRAIN", "DATASETS.PROPOSAL_FILES_TEST"),
    *("DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN", "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST"),
    *("TEST.PRECISE_BN", "TEST.KEYPOINT_OKS_SIGMAS"),
)


class TorchvisionConfigs(ConfigReader):
    """Experiment files; a key that this engine does not support is an error."""

    catalog = catalog
    find_network = staticmethod(find_network)

    def defaults(self) -> CfgNode:
        """A copy of `DEFAULTS`."""
        return CfgNode(_values(DEFAULTS))

    def shared_seed(self) -> int:
        """Always an error: each of Lightning's processes reads the config for itself."""
        raise UserError("SEED is below 0: the torchvision engine needs one of 0 or more")

    def merged(self, content: Mapping[str, Any], where: str, options: Sequence[str]) -> CfgNode:
        """The config without the keys that no Atto-MaskRCNN reads.

        Raises:
            Unsupported: a value that this engine does not support.
            UserError: a key that it does not have.
        """
        keys, values = options[::2], options[1::2]
        if len(keys) == len(values):
            pairs = zip(keys, values, strict=True)
            options = [text for pair in pairs if not _is_ignored(pair[0]) for text in pair]
        cfg = super().merged(_honoured(content), where, options)
        is_resnet = backbones.builder(cfg) in backbones.RESNETS
        for key, only in _restricted(DEFAULTS):
            if key.startswith("MODEL.RESNETS.") and not is_resnet:
                continue
            value = cfg
            for name in key.split("."):
                value = value[name]
            if value not in only.allowed:
                allowed = " or ".join(map(repr, only.allowed))
                raise Unsupported(
                    f"{where}: {key} is {value!r}, which the torchvision engine does not support; "
                    f"it supports {allowed}: change it, or use Detectron2 (--engine detectron2)"
                )
        if cfg.INPUT.MIN_SIZE_TEST == 0:
            raise Unsupported(
                f"{where}: INPUT.MIN_SIZE_TEST is 0, for pictures of their own size, which the "
                "torchvision engine does not support: give the shorter side"
            )
        if not is_resnet:
            resnets.say_what_resnets_alone_have(cfg.MODEL.BACKBONE.NAME, cfg.MODEL.RESNETS)
        return cfg


def _values(tree: Mapping[str, Any]) -> dict[str, Any]:
    plain = {}
    for key, value in tree.items():
        plain[key] = _values(value) if isinstance(value, dict) else value
        if isinstance(value, Only):
            plain[key] = value.default
    return plain


def _restricted(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Only]]:
    for key, value in tree.items():
        if isinstance(value, Only):
            yield f"{prefix}{key}", value
        elif isinstance(value, dict):
            yield from _restricted(value, f"{prefix}{key}.")


def _honoured(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`content` without the keys that no Atto-MaskRCNN reads."""
    kept = {}
    for key, value in content.items():
        full = f"{prefix}{key}"
        if not _is_ignored(full):
            kept[key] = _honoured(value, f"{full}.") if isinstance(value, dict) else value
    return kept


def _is_ignored(key: str) -> bool:
    """Whether `key` or a section above it is ignored; keys that `DEFAULTS` has never are."""
    parts = key.split(".")
    above = {".".join(parts[: n + 1]) for n in range(len(parts))}
    return _default(key) is None and not above.isdisjoint(IGNORED)


def _default(key: str) -> Any:
    node: Any = DEFAULTS
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


configs = TorchvisionConfigs()
load_config, read_file = configs.load_config, configs.read_file
config_from_text = configs.config_from_text
