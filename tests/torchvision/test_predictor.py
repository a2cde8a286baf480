"""One checkpoint and a picture give the same detections on both engines."""

import numpy as np
import pytest
import torch

from atto_det.errors import UserError
from atto_det.ops.resize import resize, resized_shape
from atto_det.torchvision import Predictor, build_model, config, mapping
from atto_det.weights import checkpoint

from .conftest import NARROW, PLAIN


@pytest.fixture
def written(repository, tmp_path):
    """A checkpoint that the torchvision engine could have written, which finds something."""
    options = [*NARROW, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]
    cfg = config.read_file(repository / PLAIN, options)
    torch.manual_seed(0)
    state = mapping.to_detectron2(build_model(cfg).state_dict(), cfg)
    part = checkpoint.description(cfg.dump(), [f"class {k}" for k in range(7)])
    path = tmp_path / "model.pth"
    checkpoint.save_checkpoint(path, {"model": state, "atto_det": part})
    return path


def test_a_checkpoint_of_detectron2_gives_the_same(trained, photos):
    pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    import atto_det.detectron2

    theirs, ours = atto_det.detectron2.Predictor(trained), Predictor(trained)
    assert ours.class_names == theirs.class_names
    for file in sorted((photos / "VOC2012/JPEGImages").glob("*.jpg"))[:3]:
        wanted, found = theirs(file), ours(file)
        assert len(found.scores) == 5
        assert np.allclose(wanted.boxes, found.boxes, atol=1e-3)
        assert np.allclose(wanted.scores, found.scores, atol=1e-5)
        assert wanted.classes.tolist() == found.classes.tolist()


def test_detectron2_reads_what_this_engine_writes(written, photos):
    pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    import atto_det.detectron2

    file = sorted((photos / "VOC2012/JPEGImages").glob("*.jpg"))[4]
    wanted, found = atto_det.detectron2.Predictor(written)(file), Predictor(written)(file)
    assert len(found.scores) == 100
    assert np.allclose(wanted.scores, found.scores, atol=1e-5)


def test_a_path_and_its_pixels_are_the_same_picture(written, tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (90, 130, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    predictor = Predictor(written)
    one, other = predictor(tmp_path / "a.png"), predictor(pixels[:, :, ::-1])
    assert np.array_equal(one.boxes, other.boxes)
    assert one.rles[0]["size"] == [90, 130]
    assert one.boxes.min() >= 0
    assert (one.boxes.max(axis=0) <= [130, 90, 130, 90]).all()
    assert len(Predictor(written, score_threshold=0.9)(pixels).scores) < len(other.scores)


def test_mistakes_are_sentences(written, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        Predictor(tmp_path / "none.pth")
    with pytest.raises(UserError, match=r"score_threshold is 1\.5"):
        Predictor(written, score_threshold=1.5)
    with pytest.raises(UserError, match=r"uint8 array of shape \(H, W, 3\), BGR"):
        Predictor(written)(np.zeros((4, 4)))
    with pytest.raises(UserError, match="device is cuda:9"):
        Predictor(written, device="cuda:9")
    content = checkpoint.load_checkpoint(written)
    del content["model"]["roi_heads.box_head.fc1.weight"]
    checkpoint.save_checkpoint(tmp_path / "less.pth", content)
    with pytest.raises(UserError, match=r"1 tensors of checkpoint .*box_head\.fc1\.weight"):
        Predictor(tmp_path / "less.pth")
    content["model"]["roi_heads.box_predictor.cls_score.bias"] = "text"
    checkpoint.save_checkpoint(tmp_path / "text.pth", content)
    with pytest.raises(UserError, match="2 tensors"):
        Predictor(tmp_path / "text.pth")


@pytest.mark.parametrize(
    ("size", "limits", "wanted"),
    [
        ((480, 640), (800, 1333), (800, 1067)),  # 640 · 800 / 480 = 1066.67
        ((500, 375), (800, 1333), (1067, 800)),
        ((100, 1000), (800, 1333), (133, 1333)),  # 100 · 1.333 = 133.3
        ((333, 500), (160, 256), (160, 240)),  # 240.24
        ((1, 4000), (800, 1333), (1, 1333)),  # 0.33: no side is less than a pixel
    ],
)
def test_sizes_by_hand(size, limits, wanted):
    assert resized_shape(*size, *limits) == wanted


def test_labels_are_resized_without_mixing():
    labels = np.array([[0, 9], [200, 255]], np.uint8)
    big = resize(labels, 6, 4, smooth=False)
    assert np.array_equal(big, np.kron(labels, np.ones((3, 2), np.uint8)))
    assert np.shares_memory(resize(labels, 2, 2), labels)
