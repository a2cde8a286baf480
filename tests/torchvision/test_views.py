"""Test-time augmentation: the same on both engines, and with one view what there is without."""

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

import atto_det.detectron2
import atto_det.torchvision
from atto_det.errors import UserError
from atto_det.weights import checkpoint

from .conftest import PLAIN, SEPARABLE
from .test_parity import match, photo

AUGMENTED = ["TEST.AUG.ENABLED", "True", "TEST.AUG.MAX_SIZE", "260"]
THREE = [*AUGMENTED, "TEST.AUG.MIN_SIZES", "(128, 160, 192)"]


@pytest.fixture
def written(pair, tmp_path):
    """A function from a config and options to a checkpoint that finds objects everywhere."""

    def write(config, options):
        both = pair(config, options)
        part = checkpoint.description(both.cfg.dump(), [f"class {k}" for k in range(7)])
        path = tmp_path / "model.pth"
        checkpoint.save_checkpoint(path, {"model": both.weights, "atto_det": part})
        return path

    return write


@pytest.mark.parametrize(
    ("config", "options"),
    [(PLAIN, THREE), (SEPARABLE, [*THREE, "DATASETS.NO_HORIZONTAL_FLIP", "['a']"])],
    ids=["sizes and flip", "sizes alone"],
)
def test_both_engines_find_the_same_in_several_views(written, photos, config, options):
    path = written(config, options)
    theirs, ours = (p.Predictor(path) for p in (atto_det.detectron2, atto_det.torchvision))
    matched = total = 0
    for number in (3, 11):
        image = photo(photos, number)[:, :, ::-1]
        pairs, count = match(theirs(image), ours(image))
        matched, total = matched + pairs, total + count
    assert total > 50
    assert matched >= 0.97 * total


@pytest.mark.parametrize("engine", [atto_det.detectron2, atto_det.torchvision])
def test_one_view_is_the_detection_without_augmentation(written, photos, engine):
    one_view = [*AUGMENTED, "TEST.AUG.MIN_SIZES", "(160,)", "TEST.AUG.FLIP", "False"]
    size = ["INPUT.MIN_SIZE_TEST", "160", "INPUT.MAX_SIZE_TEST", "260"]
    image = photo(photos, 5)[:, :, ::-1]
    plain = engine.Predictor(written(PLAIN, size))(image)
    augmented = engine.Predictor(written(PLAIN, [*size, *one_view]))(image)
    assert len(plain.scores) > 20
    # NMS once more may drop boxes that rounding brings above its threshold.
    pairs, count = match(plain, augmented)
    assert pairs >= 0.97 * count


@pytest.mark.parametrize("shape", [(2, 3000, 3), (3000, 2, 3)])
def test_narrow_strips_keep_a_pixel(written, shape):
    path = written(PLAIN, [*AUGMENTED, "TEST.AUG.MIN_SIZES", "(160,)"])
    strip = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    theirs, ours = (p.Predictor(path)(strip) for p in (atto_det.detectron2, atto_det.torchvision))
    pairs, count = match(theirs, ours)
    assert count > 50
    assert pairs >= 0.8 * count  # many boxes of a strip overlap as much as NMS allows


def test_boxes_of_a_picture_that_a_loader_has_resized_are_those_of_its_own_size(pair):
    from atto_det.detectron2.augmented_test import AugmentedTest

    both = pair(PLAIN, [*AUGMENTED, "TEST.AUG.MIN_SIZES", "(160,)"])
    viewer = AugmentedTest(both.cfg, both.detectron2).tta_mapper
    item = {"image": torch.zeros(3, 50, 100, dtype=torch.uint8), "height": 100, "width": 200}
    for view in viewer(item):
        end = np.array([view["image"].shape[:0:-1]], float)
        box = view["transforms"].inverse().apply_box(np.concatenate([0 * end, end], axis=1))
        assert np.allclose(box, [[0, 0, 200, 100]])


def test_mirrored_views_see_the_mirrored_picture(written, photos):
    path = written(PLAIN, [*AUGMENTED, "TEST.AUG.MIN_SIZES", "(160,)"])
    predictor = atto_det.torchvision.Predictor(path)
    image = photo(photos, 5)[:, :, ::-1]
    one, other = predictor(image), predictor(image[:, ::-1])
    width = image.shape[1]
    assert np.allclose(one.scores, other.scores, atol=1e-3)
    order = np.lexsort((one.boxes[:, 0].round(), one.classes, -one.scores.round(4)))[:5]
    mirrored = other.boxes.copy()
    mirrored[:, [0, 2]] = width - mirrored[:, [2, 0]]
    for row in order:  # each has its like among the mirrored ones
        assert np.abs(mirrored - one.boxes[row]).max(1).min() < 1


def test_models_that_it_is_not_made_for_are_refused():
    cfg = atto_det.detectron2.config.read_file(
        "COCO-Detection/retinanet_R_50_FPN_1x.yaml", ["TEST.AUG.ENABLED", "True"]
    )
    from atto_det.detectron2.augmented_test import augmented

    with pytest.raises(UserError, match=r"TEST.AUG.ENABLED is True, which needs .* not RetinaNet"):
        augmented(cfg, None)


@pytest.mark.parametrize("engine", [atto_det.detectron2, atto_det.torchvision])
def test_an_evaluation_looks_at_the_views_of_the_native_picture(
    trained, data_root, repository, tmp_path, monkeypatch, engine
):
    seen = set()
    resize = Image.Image.resize

    def noting(self, size, *args, **kwargs):
        if self.mode == "RGB":
            seen.add((self.size, size))
        return resize(self, size, *args, **kwargs)

    options = [*THREE, "MODEL.WEIGHTS", str(trained), "OUTPUT_DIR", str(tmp_path)]
    options += ["DATALOADER.NUM_WORKERS", "0"]
    cfg = engine.load_config(repository / "tests/tiny_mini_voc.yaml", options)
    monkeypatch.setattr(Image.Image, "resize", noting)
    result = engine.run.evaluate(cfg)["mini_voc_val"]
    assert result["protocol"]["images"] == 4
    names = (data_root / "mini_voc/ImageSets/Segmentation/val.txt").read_text().split()
    files = [data_root / f"mini_voc/JPEGImages/{name}.jpg" for name in names]
    assert {before for before, _ in seen} == {Image.open(file).size for file in files}
    assert {min(after) for _, after in seen} == {128, 160, 192}
