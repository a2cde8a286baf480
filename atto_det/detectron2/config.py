"""Detectron2's config with the keys of this project, and experiment files turned into one."""

from pathlib import Path
from typing import Any

import detectron2
from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.utils import comm

from atto_det.config import ConfigReader, load_yaml
from atto_det.design.networks import find_network
from atto_det.training.keys import KEYS

from . import catalog

MODEL_ZOO = Path(detectron2.__file__).parent / "model_zoo" / "configs"


def add_attonet_config(cfg: CfgNode) -> None:
    """Add the keys of this project to a config of Detectron2. No existing key is changed."""
    cfg.MODEL.ATTONET = CfgNode()
    # Which network: a name of atto_det.list_backbones(). In an experiment file also the file of a
    # found network, or of a generator and a seed: found.yaml, g3.yaml@7.
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


class Detectron2Configs(ConfigReader):
    """Experiment files of this project and of Detectron2's model zoo."""

    catalog = catalog
    find_network = staticmethod(find_network)

    def defaults(self) -> CfgNode:
        """All keys of Detectron2 and of this project."""
        return get_cfg()

    def shared_seed(self) -> int:
        """Drawn by Detectron2."""
        return comm.shared_random_seed()

    def load_yaml(self, config_file: str | Path) -> dict[str, Any]:
        """The content of an experiment file.

        Args:
            config_file: a path, or a file of Detectron2's model zoo by its name there, such as
                COCO-Detection/retinanet_R_50_FPN_3x.yaml.
        """
        if not Path(config_file).exists() and (MODEL_ZOO / config_file).is_file():
            config_file = MODEL_ZOO / config_file
        content = load_yaml(config_file, trusted=MODEL_ZOO)  # RetinaNet's anchors are code there
        content.pop("VERSION", None)  # of Detectron2's config format; there is one since 2019
        return content


configs = Detectron2Configs()
load_config, read_file = configs.load_config, configs.read_file
config_from_text = configs.config_from_text
