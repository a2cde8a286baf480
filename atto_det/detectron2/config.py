"""Detectron2's config with the keys of this project, and experiment files turned into one."""

import logging
from collections.abc import Sequence
from pathlib import Path

import detectron2
from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.utils import comm

from atto_det.config import (
    load_yaml,
    merge,
    merge_options,
    parse_yaml,
    set_class_count,
    use_available_device,
)
from atto_det.training.keys import KEYS

from .catalog import class_names_of, register_own_data

logger = logging.getLogger(__name__)

MODEL_ZOO = Path(detectron2.__file__).parent / "model_zoo" / "configs"


def add_attonet_config(cfg: CfgNode) -> None:
    """Add the keys of this project to a config of Detectron2. No existing key is changed."""
    cfg.MODEL.ATTONET = CfgNode()
    # Which AttoNet: attonet_a, attonet_b, attonet_c, attonet_d.
    cfg.MODEL.ATTONET.NAME = "attonet_a"
    # Batch norm of the backbone: BN, SyncBN (across GPUs), FrozenBN (with trained weights only).
    cfg.MODEL.ATTONET.NORM = "BN"
    cfg.MODEL.TIMM = CfgNode()
    # With MODEL.BACKBONE.NAME build_timm_fpn_backbone: which network of timm's.
    cfg.MODEL.TIMM.NAME = ""
    # A file of weights of a classifier of that kind, which a training starts from.
    cfg.MODEL.TIMM.WEIGHTS = ""
    cfg.MODEL.SEPARABLE = CfgNode()
    # With MODEL.BACKBONE.NAME build_separable_fpn_backbone: the builder whose FPN it lightens.
    cfg.MODEL.SEPARABLE.BACKBONE = "build_attonet_fpn_backbone"
    # With MODEL.RPN.HEAD_NAME SeparableRPNHead: its norm, BN, SyncBN, FrozenBN or "" for none.
    cfg.MODEL.SEPARABLE.RPN_NORM = ""
    # Your own folders in VOC layout, [[name, path], ...]; a relative path starts at the data root.
    # Each split ImageSets/Segmentation/<split>.txt becomes the data set <name>_<split>.
    cfg.DATASETS.FOLDERS = []
    # Your own COCO files, [[name, json, image folder], ...], paths as above.
    cfg.DATASETS.COCO = []
    # Names in FOLDERS or COCO, or of data sets, that must not be mirrored in training because their
    # classes tell left from right.
    cfg.DATASETS.NO_HORIZONTAL_FLIP = []
    for section, keys in KEYS.items():
        for name, value in keys.items():
            cfg[section][name] = CfgNode(value) if isinstance(value, dict) else value


def get_cfg() -> CfgNode:
    """A fresh config of Detectron2 with this project's keys at their defaults."""
    cfg = get_detectron2_cfg()
    add_attonet_config(cfg)
    return cfg


def load_config(config_file: str | Path, options: Sequence[str] = ()) -> CfgNode:
    """The frozen config of an experiment: defaults, then the file, then `KEY VALUE` options.

    Registers the data that the config names, takes the class count from it, and falls back to the
    CPU (and no mixed precision) with one line where there is no GPU.

    Raises:
        UserError: an unknown key, a value of another type, or data that does not fit.
    """
    cfg = read_file(config_file, options)
    complete(cfg)
    cfg.freeze()
    return cfg


def read_file(config_file: str | Path, options: Sequence[str] = ()) -> CfgNode:
    """Defaults, then the file, then `KEY VALUE` options; without a look at data or machine.

    Args:
        config_file: a path, or a file of Detectron2's model zoo by its name there, such as
            COCO-Detection/retinanet_R_50_FPN_3x.yaml.

    Raises:
        UserError: an unknown key, or a value of another type.
    """
    cfg = get_cfg()
    if not Path(config_file).exists() and (MODEL_ZOO / config_file).is_file():
        config_file = MODEL_ZOO / config_file
    content = load_yaml(config_file, trusted=MODEL_ZOO)  # RetinaNet's anchors are code there
    content.pop("VERSION", None)  # of Detectron2's config format; there is one since 2019
    merge(cfg, content, str(config_file))
    merge_options(cfg, options)
    return cfg


def config_from_text(text: str, where: str, options: Sequence[str] = ()) -> CfgNode:
    """The config that a checkpoint carries, for use without its data. Not frozen."""
    cfg = get_cfg()
    merge(cfg, parse_yaml(text, where), where)
    merge_options(cfg, options)
    use_available_device(cfg)
    return cfg


def complete(cfg: CfgNode) -> None:
    """Fill in what follows from data and machine: device, class count. Changes `cfg`."""
    use_available_device(cfg)
    register_own_data(cfg)
    if cfg.SEED < 0:
        cfg.SEED = comm.shared_random_seed()  # one for all processes
        logger.info("SEED was not set; it is %d now", cfg.SEED)
    if cfg.DATASETS.TRAIN:
        set_class_count(cfg, class_names_of(cfg.DATASETS.TRAIN[0]), cfg.DATASETS.TRAIN[0])
