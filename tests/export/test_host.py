"""What lies between the parts of a detector, in numpy, against torchvision's operations."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import detector_file as file
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import ops

from atto_det.errors import UserError
from atto_det.export import host
from atto_det.export.host import Host, Mistake, open_folder
from atto_det.export.parts import split
from atto_det.export.parts_detector import PartsDetector, open_parts
from atto_det.export.runtimes import agreement
from atto_det.export.samples import pictures_to_check
from atto_det.ops.paste_masks import paste_masks
from atto_det.ops.resize import resized_shape
from atto_det.torchvision.modules import Anchors
from atto_det.torchvision.pooling import AlignedPooler
from atto_det.torchvision.predictor import Predictor

STRIDES = [4, 8, 16, 32]


def boxes_in(rng: np.random.Generator, count: int, side: float) -> np.ndarray:
    """Boxes of all sizes in a square, some of them without area, and some that leave it."""
    corners = rng.uniform(-10, side + 10, (count, 2, 2)).astype(np.float32)
    corners[::9, 1] = corners[::9, 0]
    corners.sort(axis=1)
    return corners.reshape(count, 4)


@pytest.mark.parametrize("samples", [0, 1, 2])
def test_pooling_is_roi_align(samples):
    rng = np.random.default_rng(samples)
    maps = [rng.normal(size=(512 // s, 448 // s, 5)).astype(np.float32) for s in STRIDES]
    boxes = boxes_in(rng, 60, 480)
    found = host.pool(maps, boxes, STRIDES, 7, samples)
    pooler = AlignedPooler(["p2", "p3", "p4", "p5"], STRIDES, 7, samples)
    tensors = {f"p{k + 2}": torch.from_numpy(m).permute(2, 0, 1)[None] for k, m in enumerate(maps)}
    with torch.enable_grad():  # torchvision's own kernel
        wanted = pooler(tensors, [torch.from_numpy(boxes)], [(512, 448)])
    np.testing.assert_allclose(found, wanted.permute(0, 2, 3, 1), atol=1e-4)


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_nms(threshold):
    rng = np.random.default_rng(0)
    boxes = boxes_in(rng, 400, 60)
    scores, groups = rng.permutation(400).astype(np.float32), rng.integers(0, 3, 400)
    wanted = ops.batched_nms(*map(torch.from_numpy, (boxes, scores, groups)), threshold)
    assert host.nms(boxes, scores, groups, threshold, 1000).tolist() == wanted.tolist()
    assert host.nms(boxes, scores, groups, threshold, 7).tolist() == wanted[:7].tolist()
    assert host.nms(boxes[:0], scores[:0], groups[:0], threshold, 7).shape == (0,)


def test_boxes_are_decoded_as_torchvision_s():
    from torchvision.models.detection._utils import BoxCoder

    rng = np.random.default_rng(0)
    boxes, weights = boxes_in(rng, 50, 300), (10.0, 10.0, 5.0, 5.0)
    deltas = rng.normal(scale=20, size=(50, 4)).astype(np.float32)  # sides grow beyond the limit
    wanted = BoxCoder(weights).decode_single(torch.from_numpy(deltas), torch.from_numpy(boxes))
    np.testing.assert_allclose(host.decode(deltas, boxes, weights), wanted, rtol=1e-5, atol=1e-3)


def test_anchors_are_the_model_s():
    anchors = Anchors([[16, 20], [32, 40]], [[0.5, 1.0], [0.5, 1.0]], [4, 8])
    images = SimpleNamespace(image_sizes=[(12, 20)])
    [wanted] = anchors(images, [torch.zeros(1, 1, 3, 5), torch.zeros(1, 1, 2, 3)])
    levels = zip((4, 8), ((3, 5), (2, 3)), anchors.cell_anchors, strict=True)
    found = [host.grid("p", stride, shape, cells.tolist()) for stride, shape, cells in levels]
    np.testing.assert_array_equal(np.concatenate(found), wanted)


def test_masks_are_pasted_as_elsewhere():
    rng = np.random.default_rng(0)
    masks = rng.uniform(size=(20, 28, 28)).astype(np.float32)
    boxes = np.sort(rng.uniform(0, 90, (20, 2, 2)), axis=1).reshape(20, 4).clip(0, [80, 60] * 2)
    wanted = paste_masks(torch.from_numpy(masks), torch.from_numpy(boxes).float(), 60, 80, 0.5)
    found = [host.paste(mask, box, 60, 80) for mask, box in zip(masks, boxes, strict=True)]
    assert (np.array(found) != wanted.numpy()).mean() < 1e-4


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(32, 900), st.integers(32, 1400))
def test_the_resized_size(height, width, short, longest):
    level = {"name": "p2", "stride": 4, "shape": [1, 1], "anchors": [[0, 0, 1, 1]]}
    about = {"class_names": [], "mean": [0], "std": [1], "levels": [level]}
    about |= {"min_size": short, "max_size": longest, "size": [longest, longest]}
    assert Host(about, {}).shape(height, width) == resized_shape(height, width, short, longest)
    low = Host(about | {"size": [32, 64]}, {}).shape(height, width)
    assert 1 <= low[0] <= 32
    assert 1 <= low[1] <= 64


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    """A tiny detector whose channels are in the order of Detectron2's."""
    folder = tmp_path_factory.mktemp("parts")
    changes = ("INPUT.FORMAT", "BGR", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.2)
    changes += ("TEST.DETECTIONS_PER_IMAGE", 40)
    return Predictor(file.write(folder / "model.pth", *changes), device="cpu")


def test_the_parts_find_what_the_whole_model_finds(predictor, monkeypatch):
    monkeypatch.setattr("atto_det.export.parts.REGIONS", {"boxes": 30, "masks": 7})
    [whole] = pictures_to_check([])
    counts = []
    for picture in (whole[:150, :211], whole[100:370, 50:200], whole):
        rows, columns = resized_shape(*picture.shape[:2], 96, 128)
        parts = split(predictor, (-(-rows // 32) * 32, -(-columns // 32) * 32))
        detector = PartsDetector(Host(parts.about, parts.runs()))
        wanted, found = predictor(picture), detector(picture)
        assert agreement([wanted], [found]).share == 1
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)
        np.testing.assert_allclose(found.boxes, wanted.boxes, atol=0.02)
        counts.append(len(found.scores))
    assert min(counts) > 7  # more than the masks' part takes at a time


def test_a_size_for_every_picture(predictor):
    parts = split(predictor)
    assert parts.about["size"] == [128, 128]
    assert json.loads(json.dumps(parts.about)) == parts.about
    detector = PartsDetector(Host(parts.about, parts.runs()))
    [whole] = pictures_to_check([])
    for picture in (whole, whole[:, :90], whole[:3, :400]):
        found = detector(picture)
        height, width = picture.shape[:2]
        assert (found.boxes >= 0).all()
        assert (found.boxes[:, 2:] <= [width, height]).all()
        assert all(rle["size"] == [height, width] for rle in found.rles)
    with pytest.raises(UserError, match="the size is 100 128: give multiples of 32"):
        split(predictor, (100, 128))


@pytest.mark.parametrize(("part", "key"), [("boxes", "score_threshold"), ("proposals", "min_side")])
def test_where_nothing_is_found(predictor, part, key):
    """Neither objects in regions, nor regions."""
    parts = split(predictor)
    parts.about[part][key] = 1e4
    found = PartsDetector(Host(parts.about, parts.runs()))(pictures_to_check([])[0])
    assert found.boxes.shape == (0, 4)
    assert list(found.rles) == []


def test_values_that_are_not_finite_are_a_sentence(predictor):
    parts = split(predictor)
    runs = parts.runs()
    broken = {name: lambda value, run=run: _with_nan(run(value)) for name, run in runs.items()}
    for name in runs:
        detector = PartsDetector(Host(parts.about, runs | {name: broken[name]}))
        with pytest.raises(UserError, match=f"the part {name} gives .* are NaN or infinite: "):
            detector(pictures_to_check([])[0])


def _with_nan(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    name = next(iter(outputs))
    return outputs | {name: np.full_like(outputs[name], np.nan)}


def test_damaged_folders(predictor, tmp_path):
    with pytest.raises(Mistake, match=r"detector\.json cannot be read: No such file"):
        open_folder(tmp_path)
    path = tmp_path / "detector.json"
    about = split(predictor).about | {"format": "litert"}
    changes = [{"format": "x"}, {"size": ["x", 1]}, {"mean": ["x"]}, {"levels": [{}]}]
    lacking = [{k: v for k, v in about.items() if k != key} for key in ("boxes", "inputs")]
    contents = [about | change for change in changes] + lacking + [{"size": 3}, {}, []]
    for text in (b"", b"\xff", *(json.dumps(content).encode() for content in contents)):
        path.write_bytes(text)
        with pytest.raises(Mistake, match="is damaged, or was not written by atto_det"):
            open_folder(tmp_path)
    about["precision"] = "float32"
    path.write_text(json.dumps(about | {"atto_det_parts": 2}))
    with pytest.raises(Mistake, match="has format 2, this program reads 1"):
        open_folder(tmp_path)
    path.write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"lacks picture\.tflite, boxes\.tflite, masks\.tflite"):
        open_parts(tmp_path)
    with pytest.raises(UserError, match="threads is -1: give 1 or more"):
        open_parts(tmp_path, -1)


def test_the_file_needs_numpy_alone(tmp_path):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['atto_det', 'torch', 'PIL'])); import host"
    )
    (tmp_path / "host.py").write_text(Path(host.__file__).read_text())
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
