"""Detectron2's config with this project's keys, and the reader of experiment files."""

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
    """Add this project's keys to a Detectron2 config. Existing keys are not changed."""
    cfg.MODEL.ATTONET = CfgNode()
    # Network: a name in atto_det.list_backbones(). In an experiment file also the file of a found
    # network, or of a generator with a seed: found.yaml, g3.yaml@7.
    cfg.MODEL.ATTONET.NAME = "attonet_a"
    # Batch norm of the backbone: BN, SyncBN (across GPUs), FrozenBN (with trained weights only).
    cfg.MODEL.ATTONET.NORM = "BN"
    # Recompute the activations of the backbone's stages in the backward pass instead of keeping
    # them: less memory, more time, the same results. See `atto_det.nets.recomputation`.
    cfg.MODEL.BACKBONE.GRADIENT_CHECKPOINTING = False
    cfg.MODEL.TIMM = CfgNode()
    # With MODEL.BACKBONE.NAME build_timm_fpn_backbone: the name of the timm network.
    cfg.MODEL.TIMM.NAME = ""
    # A file with weights of such a classifier, which the training starts from.
    cfg.MODEL.TIMM.WEIGHTS = ""
    cfg.MODEL.SEPARABLE = CfgNode()
    # With MODEL.BACKBONE.NAME build_separable_fpn_backbone: the builder whose FPN becomes
    # separable.
    cfg.MODEL.SEPARABLE.BACKBONE = "build_attonet_fpn_backbone"
    # With MODEL.RPN.HEAD_NAME SeparableRPNHead: its norm; BN, SyncBN, FrozenBN, or "" for none.
    cfg.MODEL.SEPARABLE.RPN_NORM = ""
    # Your own folders in VOC's layout, [[name, path], ...]; relative paths start at the data root.
    # Each split ImageSets/Segmentation/<split>.txt becomes the data set <name>_<split>.
    cfg.DATASETS.FOLDERS = []
    # Your own COCO files, [[name, json, image folder], ...], paths as above.
    cfg.DATASETS.COCO = []
    # Names in FOLDERS or COCO, or of data sets, that must not be mirrored in training because their
    # classes distinguish left from right.
    cfg.DATASETS.NO_HORIZONTAL_FLIP = []
    for section, keys in KEYS.items():
        for name, value in keys.items():
            cfg[section][name] = CfgNode(value) if isinstance(value, dict) else value


def get_cfg() -> CfgNode:
    """A new Detectron2 config with this project's keys at their defaults."""
    cfg = get_detectron2_cfg()
    add_attonet_config(cfg)
    return cfg


class Detectron2Configs(ConfigReader):
    """Reads the experiment files of this project and of Detectron2's model zoo."""

    catalog = catalog
    find_network = staticmethod(find_network)

    def defaults(self) -> CfgNode:
        """All keys of Detectron2 and of this project."""
        return get_cfg()

    def shared_seed(self) -> int:
        """A seed drawn by Detectron2."""
        return comm.shared_random_seed()

    def load_yaml(self, config_file: str | Path) -> dict[str, Any]:
        """The content of an experiment file.

        Args:
            config_file: a path, or the name of a file in Detectron2's model zoo, such as
                COCO-Detection/retinanet_R_50_FPN_3x.yaml.
        """
        if not Path(config_file).exists() and (MODEL_ZOO / config_file).is_file():
            config_file = MODEL_ZOO / config_file
        content = load_yaml(config_file, trusted=MODEL_ZOO)  # there, RetinaNet's anchors are code
        content.pop("VERSION", None)  # of Detectron2's config format; unchanged since 2019
        return content


configs = Detectron2Configs()
load_config, read_file = configs.load_config, configs.read_file
config_from_text = configs.config_from_text
