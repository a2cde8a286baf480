"""What either engine trains on of a photo that is stored turned: masks and boxes on the objects."""

import json
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from atto_det.data.orientation import turn


@pytest.mark.parametrize("orientation", [3, 6])
def test_masks_lie_on_the_objects_as_the_photo_is_seen(
    engine, orientation, repository, tmp_path, monkeypatch
):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    monkeypatch.setenv("ATTO_DET_CACHE", str(tmp_path / "cache"))
    upright = np.zeros((64, 96), np.uint8)
    upright[8:28, 10:70] = 250
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = turn(upright, {6: 8}.get(orientation, orientation))
    (tmp_path / "images").mkdir()
    Image.fromarray(stored).save(tmp_path / "images/a.png", exif=exif)
    object_ = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 8, 60, 20], "area": 1200}
    object_ |= {"segmentation": [[10, 8, 70, 8, 70, 28, 10, 28]], "iscrowd": 0}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 64, "width": 96}],
        "annotations": [object_],
        "categories": [{"id": 1, "name": "x"}],
    }
    (tmp_path / "own.json").write_text(json.dumps(content))
    cfg = engine.load_config(
        repository / "tests/tiny_mini_voc.yaml",
        [
            *("DATASETS.COCO", "[['own', 'own.json', 'images']]", "DATASETS.TRAIN", "('own',)"),
            *("DATASETS.TEST", "()", "INPUT.MIN_SIZE_TRAIN", "(64,)", "DATASETS.FOLDERS", "[]"),
            *("SOLVER.IMS_PER_BATCH", "1", "DATALOADER.NUM_WORKERS", "0"),
        ],
    )
    for _, scene in islice(engine.training_scenes(cfg), 4):
        bright = scene.image[..., 0] > 100
        assert bright.sum() == 1200
        assert np.array_equal(scene.masks[0] > 0, bright)
        x1, y1, x2, y2 = scene.boxes[0].round().astype(int)
        assert bright[y1:y2, x1:x2].all()
