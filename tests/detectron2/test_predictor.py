"""A checkpoint and a picture are enough."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

import atto_det
from atto_det import data
from atto_det.detectron2 import AttoDatasetMapper, Predictor
from atto_det.detectron2.evaluator import to_detections
from atto_det.detectron2.model import build_model
from atto_det.errors import UserError
from atto_det.training.run_folder import folder_of
from atto_det.weights import checkpoint
from atto_det.weights.checkpoint import load_weights


@pytest.fixture
def pictures(data_root) -> list[Path]:
    return sorted((data_root / "mini_voc/JPEGImages").glob("*.jpg"))


def assert_same(one, other, pixels: float = 0.0) -> None:
    """Equal up to rounding; `pixels` of the masks' pixels may differ, as those near 0.5 will."""
    assert len(one.scores) > 0
    assert np.allclose(one.boxes, other.boxes, atol=1e-3)
    assert np.allclose(one.scores, other.scores, atol=1e-6)
    assert one.classes.tolist() == other.classes.tolist()
    for rles in zip(one.rles, other.rles, strict=True):
        first, second = map(mask_util.decode, rles)
        assert (first != second).mean() <= pixels


def test_three_lines_without_any_data(trained, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "none"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        predictor = atto_det.Predictor(str(trained))
        found = predictor(str(pictures[0]))
    assert 1 <= len(found.scores) <= 5
    assert predictor.class_names[found.classes[0]] != ""


def test_the_result_is_that_of_the_training_s_own_evaluation(config, trained, pictures):
    cfg = config()
    model = build_model(cfg).to(memory_format=torch.channels_last).eval()
    load_weights(model, checkpoint.load_checkpoint(trained), trained)
    predictor = atto_det.Predictor(trained)
    mapper = AttoDatasetMapper(cfg, False)
    for picture in pictures[:4]:
        height, width = data.image_size(picture)
        item = mapper({"file_name": str(picture), "height": height, "width": width})
        with torch.inference_mode():
            expected = to_detections(model([item])[0]["instances"])
        found = predictor(picture)
        assert_same(expected, found, pixels=0.01)  # of a model trained for two steps
        assert all(rle["size"] == [height, width] for rle in found.rles)
        assert (np.diff(found.scores) <= 0).all()


def test_path_text_and_bgr_array_agree(trained, pictures):
    predictor = Predictor(trained)
    pixels = np.ascontiguousarray(data.read_image(pictures[0])[:, :, ::-1])
    for image in (str(pictures[0]), pixels, pixels[:, :, ::-1].copy()[:, :, ::-1]):
        assert_same(predictor(pictures[0]), predictor(image))
    rgb = predictor(pixels[:, :, ::-1])
    assert not np.array_equal(rgb.scores, predictor(pixels).scores)
    lossless = pictures[0].parent.parent / "copy.png"
    cv2.imwrite(str(lossless), pixels)
    try:
        assert_same(predictor(lossless), predictor(cv2.imread(str(lossless))))
    finally:
        lossless.unlink()


def test_a_list_of_pictures_gives_what_each_gives_alone(trained, pictures):
    predictor = Predictor(trained)
    several = [pictures[0], data.read_image(pictures[1])[:, :, ::-1], str(pictures[2])]
    for one, other in zip(map(predictor, several), predictor(several), strict=True):
        assert_same(one, other)
    assert predictor([]) == []


def test_a_bgr_model_gets_bgr(trained, pictures, tmp_path):
    """A checkpoint whose config says BGR, with the same weights, sees the channels turned."""
    content = checkpoint.load_checkpoint(trained)
    text = content["atto_det"]["config"]
    assert "FORMAT: RGB" in text
    content["atto_det"]["config"] = text.replace("FORMAT: RGB", "FORMAT: BGR")
    checkpoint.save_checkpoint(tmp_path / "bgr.pth", content)
    pixels = np.ascontiguousarray(data.read_image(pictures[0])[:, :, ::-1])
    turned = np.ascontiguousarray(pixels[:, :, ::-1])
    assert_same(Predictor(trained)(pixels), Predictor(tmp_path / "bgr.pth")(turned))


def test_attributes_and_arguments(trained, pictures):
    predictor = Predictor(trained, device="cpu", score_threshold=0.0)
    assert predictor.class_names == list(data.VOC_CLASSES)
    assert predictor.cfg.MODEL.ATTONET.NAME == "attonet_d"
    assert not predictor.model.training
    scores = predictor(pictures[0]).scores
    middle = float(np.median(scores))
    kept = Predictor(trained, score_threshold=middle)(pictures[0]).scores
    assert kept.tolist() == [score for score in scores.tolist() if score > middle]
    assert len(Predictor(trained, score_threshold=1.0)(pictures[0]).scores) == 0


@pytest.mark.parametrize("device", ["abacus", "cuda:99", "cuda"])
def test_a_device_that_is_not_there_is_a_sentence(trained, device):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(UserError, match=f"device is {device}"):
        Predictor(trained, device=device)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_that_no_score_can_have_is_a_sentence(trained, threshold):
    with pytest.raises(UserError, match=r"score_threshold is .*between 0 and 1"):
        Predictor(trained, score_threshold=threshold)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 5), np.uint8),
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((4, 5, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((1, 4, 5, 3), np.uint8),
        None,
        [[1, 2, 3]],
    ],
)
def test_an_array_of_another_form_is_a_sentence(trained, image):
    with pytest.raises(UserError, match="a picture must be a path or a uint8 array"):
        Predictor(trained)(image)


def test_small_and_narrow_pictures_work(trained):
    predictor = Predictor(trained)
    for shape in ((1, 1, 3), (3, 200, 3), (200, 2, 3)):
        found = predictor(np.full(shape, 128, np.uint8))
        assert all(rle["size"] == list(shape[:2]) for rle in found.rles)


def test_an_unreadable_picture_is_named(trained, pictures, tmp_path):
    predictor = Predictor(trained)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(pictures[0].read_bytes()[:-50])
    for path in (broken, tmp_path / "nothing.jpg", tmp_path):
        with pytest.raises(UserError, match=str(path)):
            predictor(path)


def change(trained, target, **changes):
    content = checkpoint.load_checkpoint(trained)
    content["atto_det"] |= changes
    checkpoint.save_checkpoint(target, content)
    return target


def test_a_checkpoint_that_does_not_fit_its_config_is_refused(trained, tmp_path):
    text = checkpoint.load_checkpoint(trained)["atto_det"]["config"]
    for old, new, sentence in (
        ("FC_DIM: 16", "FC_DIM: 17", "do not fit the config"),
        ("NAME: attonet_d", "NAME: attonet_z", "choose one of attonet_a"),
        ("MASK_ON: true", "MASK_ON: false", "do not fit the config"),
        ("GeneralizedRCNN", "ProposalNetwork", "does not detect objects"),
        ("MASK_ON: true", "MASK_UN: true", "there is no key MODEL.MASK_UN"),
        ("GeneralizedRCNN", "GeneralisedRCNN", "no model can be built"),
    ):
        assert old in text
        path = change(trained, tmp_path / "changed.pth", config=text.replace(old, new, 1))
        with pytest.raises(UserError, match=sentence):
            Predictor(path)


def test_class_names_that_are_not_the_model_s_are_refused(trained, tmp_path):
    names = checkpoint.load_checkpoint(trained)["atto_det"]["class_names"]
    for others, sentence in (
        (names[:-1], "names 19 classes, but its model has 20"),
        ([*names, "yeti"], "names 21 classes, but its model has 20"),
        ([names[0], *names[:-1]], "names the class 'aeroplane' twice"),
    ):
        path = change(trained, tmp_path / "changed.pth", class_names=others)
        with pytest.raises(UserError, match=sentence):
            Predictor(path)


def test_a_hostile_config_runs_no_code(trained, tmp_path):
    mark = tmp_path / "mark"
    for text in (
        f'!!python/object/apply:os.system ["touch {mark}"]',
        f'MODEL:\n  WEIGHTS: !!python/object/apply:os.system ["touch {mark}"]',
        f"OUTPUT_DIR: !!python/object/new:os.system [touch {mark}]",
        "MODEL: {DEVICE: !!python/name:os.system }",
    ):
        with pytest.raises(UserError, match="could run code"):
            Predictor(change(trained, tmp_path / "hostile.pth", config=text))
    expression = f"__import__('os').system('touch {mark}')"
    text = checkpoint.load_checkpoint(trained)["atto_det"]["config"]
    text = text.replace("MAX_SIZE_TEST: 128", f'MAX_SIZE_TEST: "{expression}"')
    assert expression in text
    with pytest.raises(UserError, match="MAX_SIZE_TEST takes a whole number"):
        Predictor(change(trained, tmp_path / "hostile.pth", config=text))
    assert not mark.exists()


def test_a_missing_or_foreign_checkpoint_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing.pth does not exist"):
        Predictor(tmp_path / "nothing.pth")
    torch.save({"model": {}}, tmp_path / "foreign.pth")
    with pytest.raises(UserError, match=r"foreign.pth does not carry its config"):
        Predictor(tmp_path / "foreign.pth")


def test_a_checkpoint_names_no_place_to_write(trained, data_root):
    """What it was trained into may be any folder of this machine."""
    weights = ["MODEL.WEIGHTS", str(trained)]
    read = atto_det.detectron2.run.read_config
    carried = read(None, weights)
    assert Path(carried.OUTPUT_DIR) == trained.parent
    assert read(None, [*weights, "OUTPUT_DIR", "elsewhere"]).OUTPUT_DIR == "elsewhere"
    assert folder_of("https://a.b/c/model.pth") == "./output"
