"""What comes with Detectron2 runs on this project's data sets and networks."""

import json
import os

import pytest
import torch
import yaml

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from detectron2.data import (
    DatasetCatalog,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.evaluation import COCOEvaluator, inference_on_dataset
from detectron2.modeling import FPN, Backbone, build_model
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils.events import EventStorage
from omegaconf import OmegaConf

from atto_det.data.coco import coco_ids
from atto_det.detectron2 import create_backbone, load_dataset
from atto_det.errors import UserError


def test_a_plain_loop_trains_and_detectron2_s_own_evaluator_evaluates(config, tmp_path):
    """As a training script without any trainer does it."""
    cfg = config("SOLVER.MAX_ITER", 2, "DATALOADER.NUM_WORKERS", 0, "INPUT.RANDOM_FLIP", "none")
    name = cfg.DATASETS.TEST[0]
    assert MetadataCatalog.get(name).evaluator_type == "coco"
    model = build_model(cfg).train()
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    batches = iter(build_detection_train_loader(cfg))
    with EventStorage():
        for _ in range(cfg.SOLVER.MAX_ITER):
            losses = sum(model(next(batches)).values())
            assert losses.isfinite()
            optimizer.zero_grad()
            losses.backward()
            optimizer.step()
            scheduler.step()
    evaluator = COCOEvaluator(name, output_dir=str(tmp_path))
    found = inference_on_dataset(model, build_detection_test_loader(cfg, name), evaluator)
    assert set(found) == {"bbox", "segm"}
    assert found["segm"]["AP"] >= 0
    # What Detectron2's tool that draws such a file needs: the class of each id, and the picture.
    classes = MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id
    known = {item["image_id"] for item in DatasetCatalog.get(name)}
    rows = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert rows
    assert {row["image_id"] for row in rows} <= known
    assert all(0 <= classes[row["category_id"]] < 20 for row in rows)
    assert all(isinstance(row["segmentation"]["counts"], str) for row in rows)
    # It wrote the ground truth as JSON; the data set here is as it was.
    dataset = load_dataset(name)
    assert isinstance(dataset.records[0].instances[0].rle["counts"], bytes)
    truth = json.loads((tmp_path / f"{name}_coco_format.json").read_text())
    assert [item["id"] for item in truth["categories"]] == coco_ids(dataset)[1]
    count = sum(len(record.instances) for record in dataset.records)
    assert len(truth["annotations"]) == count


def test_ids_of_a_coco_file_are_kept(tmp_path, config):
    pixels = {"file_name": "a.png", "id": 7, "height": 8, "width": 8}
    box = {"image_id": 7, "category_id": 30, "bbox": [1, 1, 4, 4], "iscrowd": 0, "id": 1}
    box["segmentation"] = [[1, 1, 5, 1, 5, 5, 1, 5]]
    categories = [{"id": 30, "name": "cup"}, {"id": 12, "name": "door"}]
    content = {"images": [pixels], "annotations": [box], "categories": categories}
    (tmp_path / "own.json").write_text(json.dumps(content))
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    config("DATASETS.COCO", f"[['own', '{tmp_path}/own.json', '{tmp_path}']]")
    own = MetadataCatalog.get("own")
    assert own.thing_classes == ["door", "cup"]
    assert own.thing_dataset_id_to_contiguous_id == {12: 0, 30: 1}


LEVELS = ["res2", "res3", "res4", "res5"]


def saved(cfg: object, path: os.PathLike) -> object:
    """A config in Python after a round by way of YAML that runs no code."""
    LazyConfig.save(OmegaConf.create({"model": cfg}, flags={"allow_objects": True}), str(path))
    assert yaml.safe_load(path.read_text())["model"]
    return LazyConfig.load(str(path)).model


def test_a_backbone_in_a_config_in_python(tmp_path):
    lazy = L(create_backbone)(name="attonet_d", out_features=LEVELS, freeze_at=2)
    backbone = instantiate(saved(lazy, tmp_path / "a.yaml"))
    assert isinstance(backbone, Backbone)
    assert list(backbone.output_shape()) == LEVELS
    assert not any(p.requires_grad for p in backbone.stem.parameters())
    with pytest.raises(UserError, match="attonet_x"):
        create_backbone("attonet_x")


def test_mask_rcnn_and_retinanet_in_python(tmp_path):
    """The recipe of docs/drop-in.md."""
    mask_rcnn = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
    mask_rcnn.backbone.bottom_up = L(create_backbone)(name="attonet_d", out_features=LEVELS)
    model = instantiate(mask_rcnn)
    assert isinstance(model.backbone, FPN)
    assert isinstance(model.backbone.top_block, LastLevelMaxPool)
    retinanet = model_zoo.get_config("common/models/retinanet.py").model
    bottom_up = L(create_backbone)(name="attonet_d", out_features=LEVELS[1:])
    retinanet.backbone.bottom_up = bottom_up
    retinanet.backbone.top_block.in_channels = instantiate(bottom_up).channels["res5"]
    retinanet.num_classes = 3
    model = instantiate(retinanet).eval()
    picture = torch.zeros(3, 64, 96)
    with torch.no_grad():
        assert len(model([{"image": picture}])[0]["instances"].image_size) == 2
    assert saved(retinanet.backbone, tmp_path / "a.yaml").bottom_up.name == "attonet_d"
