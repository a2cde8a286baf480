"""Every experiment file: it reads, builds, and does a training step on a small picture."""

from pathlib import Path

import pytest
import torch
import yaml

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2 import model_zoo
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from atto_det.config import load_yaml
from atto_det.detectron2 import get_cfg, load_config
from atto_det.detectron2.config import read_file

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(  # detectors alone; the others: tests/pretraining, tests/exploration
    path
    for path in CONFIGS.rglob("*.yaml")
    if not path.name.startswith("Base-") and {"explore", "pretrain"}.isdisjoint(path.parts)
)
CPU = ("MODEL.DEVICE", "cpu")
FEW_REGIONS = (
    *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", "50", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "10"),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "8"),
)


ZOO = Path(model_zoo.get_config_file("COCO-Detection/retinanet_R_50_FPN_1x.yaml")).parents[1]


@pytest.mark.parametrize("name", sorted(str(p.relative_to(ZOO)) for p in ZOO.glob("*/*.yaml")))
def test_detectron2_s_zoo_by_name(name):
    assert_contains(read_file(name), model_zoo.get_config(name))


def assert_contains(ours: CfgNode, theirs: CfgNode) -> None:
    for key, value in theirs.items():
        if isinstance(value, CfgNode):
            assert_contains(ours[key], value)
        else:
            assert ours[key] == value


def test_a_base_in_detectron2_s_zoo(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"_BASE_: {ZOO}/Base-RetinaNet.yaml\nMODEL: {{RETINANET: {{NUM_CLASSES: 3}}}}\n"
    )
    cfg = read_file(path)
    assert (cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.RETINANET.NUM_CLASSES) == ("RetinaNet", 3)
    assert cfg.MODEL.ANCHOR_GENERATOR.SIZES[0] == [32, 32 * 2 ** (1 / 3), 32 * 2 ** (2 / 3)]


def named(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


def picture() -> dict:
    """A picture with one rectangle, its mask a bitmap as the configs ask."""
    objects = Instances((128, 128))
    objects.gt_boxes = Boxes(torch.tensor([[16.0, 8, 96, 112]]))
    objects.gt_classes = torch.tensor([0])
    mask = torch.zeros(1, 128, 128, dtype=torch.bool)
    mask[:, 8:112, 16:96] = True
    objects.gt_masks = BitMasks(mask)
    image = torch.randint(0, 256, (3, 128, 128), dtype=torch.uint8)
    return {"image": image, "instances": objects, "height": 128, "width": 128}


def stand_in(folder: Path, class_count: int) -> None:
    """As much of a folder in VOC layout as naming its splits and classes takes."""
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split in ("train", "val"):
        (lists / f"{split}.txt").write_text("picture\n")
    names = [f"class {index}" for index in range(class_count)]
    (folder / "class_names.txt").write_text("\n".join(names) + "\n")


@pytest.mark.parametrize("path", FILES, ids=named)
def test_every_config_trains(path, tmp_path, monkeypatch):
    torch.manual_seed(0)
    folders = load_yaml(path)["DATASETS"].get("FOLDERS", [])
    for _, folder in folders:
        stand_in(tmp_path / folder, class_count=3)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    cfg = load_config(path, [*CPU, *FEW_REGIONS])
    assert cfg.INPUT.MASK_FORMAT == "bitmask"
    assert cfg.SOLVER.MOMENTUM == 0.9
    classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
    assert classes == (3 if folders else 20)
    assert cfg.MODEL.WEIGHTS == ""
    model = build_model(cfg)
    with EventStorage():
        losses = model([picture(), picture()])
        assert all(loss.isfinite() for loss in losses.values()), losses
        assert "loss_mask" in losses
        sum(losses.values()).backward()
    without = [k for k, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    frozen = [k for k, p in model.named_parameters() if not p.requires_grad]
    assert frozen == []


def test_every_config_has_an_output_of_its_own():
    users: dict[str, list[str]] = {}
    for path in FILES:
        users.setdefault(load_yaml(path)["OUTPUT_DIR"], []).append(named(path))
    assert [names for names in users.values() if len(names) > 1] == []


# Keys without effect on these models: other heads', data (named by the experiments), neutral
# defaults.
NOT_IN_BASE = {
    *("VERSION", "DATASETS", "CUDNN_BENCHMARK", "FLOAT32_PRECISION", "VIS_PERIOD", "GLOBAL"),
    *("MODEL.LOAD_PROPOSALS", "MODEL.KEYPOINT_ON", "MODEL.ANCHOR_GENERATOR.ANGLES"),
    *("MODEL.RESNETS", "MODEL.RETINANET", "MODEL.SEM_SEG_HEAD", "MODEL.PANOPTIC_FPN"),
    *("MODEL.ROI_BOX_CASCADE_HEAD", "MODEL.ROI_KEYPOINT_HEAD", "MODEL.ROI_BOX_HEAD.CONV_DIM"),
    *("MODEL.ROI_BOX_HEAD.USE_FED_LOSS", "MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES"),
    *("MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER", "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE"),
    *("INPUT.CROP.TYPE", "INPUT.CROP.SIZE"),
    *("DATALOADER.SAMPLER_TRAIN", "DATALOADER.REPEAT_THRESHOLD", "DATALOADER.REPEAT_SQRT"),
    *("SOLVER.BASE_LR_END", "SOLVER.NUM_DECAYS", "SOLVER.RESCALE_INTERVAL"),
    *("SOLVER.REFERENCE_WORLD_SIZE", "SOLVER.BIAS_LR_FACTOR", "SOLVER.WEIGHT_DECAY_BIAS"),
    "MODEL.TIMM",  # of a backbone that the configs of lite0 name
    "MODEL.SEPARABLE",  # of the heads that the lite and tiny configs name
    *("TEST.EXPECTED_RESULTS", "TEST.KEYPOINT_OKS_SIGMAS", "TEST.AUG", "TEST.PRECISE_BN"),
}


def lacking(known: CfgNode, stated: dict, prefix: str = "") -> set[str]:
    """Keys of `known` that `stated` lacks, the uppermost of each branch."""
    result = set()
    for key, value in known.items():
        if key not in stated:
            result.add(prefix + key)
        elif isinstance(value, CfgNode):
            result |= lacking(value, stated[key], f"{prefix}{key}.")
    return result


def test_the_base_states_every_key_that_matters():
    """So that another engine can read it alone."""
    base = yaml.safe_load((CONFIGS / "Base-Atto-MaskRCNN.yaml").read_text())
    assert lacking(get_cfg(), base) - NOT_IN_BASE == set()


@pytest.mark.parametrize("variant", ["a", "b", "c", "d"])
def test_there_is_a_config_for_every_variant(variant):
    name = "atto_maskrcnn_voc" if variant == "a" else f"atto_maskrcnn_{variant}_voc"
    cfg = load_config(CONFIGS / f"{name}.yaml", CPU)
    assert cfg.MODEL.ATTONET.NAME.removeprefix("attonet_") == variant
    assert cfg.MODEL.BACKBONE.NAME == "build_attonet_fpn_backbone"
    assert cfg.DATASETS.TRAIN == ("voc_2012_seg_train",)
    assert cfg.DATASETS.TEST == ("voc_2012_seg_val",)


def test_the_baseline_has_the_same_recipe():
    ours = load_config(CONFIGS / "atto_maskrcnn_voc.yaml", CPU)
    baseline = load_config(CONFIGS / "r50_maskrcnn_voc.yaml", CPU)
    for section in ("SOLVER", "INPUT", "DATALOADER", "DATASETS", "TEST"):
        assert ours[section] == baseline[section]
    assert ours.MODEL.RPN == baseline.MODEL.RPN
    assert ours.MODEL.ROI_HEADS == baseline.MODEL.ROI_HEADS
    assert ours.MODEL.ROI_MASK_HEAD == baseline.MODEL.ROI_MASK_HEAD
