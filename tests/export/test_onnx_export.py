"""A detector and a backbone as ONNX files that find what PyTorch finds."""

import copy
import hashlib
import importlib.util
import re
from types import SimpleNamespace

import detector_file as file
import numpy as np
import pytest
import torch

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx

from atto_det.errors import UserError
from atto_det.export import onnx_export
from atto_det.export.metadata import read_metadata
from atto_det.export.onnx_export import export
from atto_det.export.runtimes import RUNTIMES, OnnxDetector, agreement, open_runtime
from atto_det.export.samples import pictures_to_check
from atto_det.nets import create_backbone
from atto_det.torchvision.predictor import Predictor
from atto_det.weights import backbone_file, checkpoint

# As many detections as there are: another number in each picture.
COUNTS = ("TEST.DETECTIONS_PER_IMAGE", 40, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.2)


def pictures() -> list[np.ndarray]:
    """Parts of the painted one, of other sizes."""
    [whole] = pictures_to_check([])
    return [whole[:150, :211], whole[100:370, 50:200], whole[200:231, 300:329], whole]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A checkpoint and its file."""
    folder = tmp_path_factory.mktemp("exported")
    path = file.write(folder / "model.pth", "INPUT.FORMAT", "BGR", *COUNTS)
    done = export(path, folder / "model.onnx", pictures()[:1])
    return SimpleNamespace(checkpoint=path, path=folder / "model.onnx", done=done)


def test_the_file_describes_itself(exported):
    metadata = read_metadata(exported.path)
    assert metadata == exported.done.metadata
    assert metadata.kind == "detector"
    assert metadata.class_names == file.CLASSES
    assert (metadata.channel_order, metadata.precision, metadata.opset) == ("BGR", "float32", 18)
    assert (metadata.min_size, metadata.max_size) == (96, 128)
    assert (metadata.score_threshold, metadata.detections_per_image) == (0.2, 40)
    assert metadata.mean == [123.675, 116.28, 103.53]
    sha256 = hashlib.sha256(exported.checkpoint.read_bytes()).hexdigest()
    assert metadata.checkpoint_sha256 == sha256
    assert metadata.versions["onnx"] == onnx.__version__
    assert "BGR, resized in the file to 96 pixels, at most 128" in "\n".join(metadata.summary())
    model = onnx.load(exported.path)
    onnx.checker.check_model(model, full_check=True)
    assert [item.version for item in model.opset_import if not item.domain] == [18]
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_pictures_of_other_sizes(exported, runtime):
    pytest.importorskip(runtime)
    predictor = Predictor(exported.checkpoint)
    detector = OnnxDetector(exported.path, runtime=runtime, threads=1)
    assert detector.class_names == predictor.class_names
    counts = set()
    for picture in pictures():
        wanted, found = predictor(picture), detector(picture)
        counts.add(len(wanted.scores))
        assert agreement([wanted], [found]).share == 1
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)
        np.testing.assert_allclose(found.boxes, wanted.boxes, atol=0.02)
    assert len(counts) > 2


def test_what_is_no_picture(exported, tmp_path):
    detector = OnnxDetector(exported.path)
    with pytest.raises(UserError, match="must be a path or a uint8 array"):
        detector(np.zeros((5, 5), np.uint8))
    with pytest.raises(UserError, match=r"none.jpg"):
        detector(tmp_path / "none.jpg")


def test_a_resnet(tmp_path):
    keys = ["MODEL.SEPARABLE.BACKBONE", "build_resnet_fpn_backbone", "MODEL.RESNETS.NORM", "BN"]
    keys += ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
    path = tmp_path / "m.onnx"
    done = export(file.write(tmp_path / "m.pth", *keys), path, pictures()[3:])
    assert done.metadata.network == "resnet18"
    assert not any(node.op_type == "BatchNormalization" for node in onnx.load(path).graph.node)
    same = re.search(r"onnxruntime .*: (\d+) of (\d+) detections the same", done.checks[0])
    assert same[1] == same[2] != "0"


@pytest.mark.slow
def test_a_detector_of_the_zoo(tmp_path):
    done = export("zoo:carparts_tiny", tmp_path / "tiny.onnx", pictures()[:1], score_threshold=0.01)
    assert len(done.metadata.class_names) == 18
    assert (done.metadata.min_size, done.metadata.score_threshold) == (224, 0.01)


def test_changes_to_the_checkpoint_s_config(exported, classifier, tmp_path):
    changes = ["TEST.DETECTIONS_PER_IMAGE", "3", "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO", "3"]
    changes += ["INPUT.MAX_SIZE_TEST", "400"]
    path = tmp_path / "m.onnx"
    done = export(exported.checkpoint, path, pictures()[:1], score_threshold=0.9, options=changes)
    assert (done.metadata.detections_per_image, done.metadata.score_threshold) == (3, 0.9)
    assert done.metadata.max_size == 400
    found, wanted = (OnnxDetector(file)(pictures()[3]) for file in (path, exported.path))
    count = min(3, int((wanted.scores > 0.9).sum()))
    assert 0 < len(found.scores) == count < len(wanted.scores)
    np.testing.assert_allclose(found.boxes, wanted.boxes[:count], atol=1e-3)
    assert found.rles != list(wanted.rles)[:count]  # pooled otherwise
    for wrong, says in (
        (["MODEL.ROI_MASK_HEAD.NO", "1"], r"there is no key MODEL\.ROI_MASK_HEAD\.NO; the nearest"),
        (["INPUT.MIN_SIZE_TEST"], r"'INPUT\.MIN_SIZE_TEST' has no partner"),
        (["INPUT.MIN_SIZE_TEST", "-3"], r"INPUT\.MIN_SIZE_TEST is -3: it must be between 0 and"),
    ):
        with pytest.raises(UserError, match=says):
            export(exported.checkpoint, tmp_path / "n.onnx", [], options=wrong)
    trained, _ = classifier("attonet_d")
    with pytest.raises(UserError, match="only detectors have a config to change"):
        export(trained, tmp_path / "n.onnx", [], options=changes)
    with pytest.raises(UserError, match="only detectors have a score threshold"):
        export(trained, tmp_path / "n.onnx", [], score_threshold=0.5)


def test_where_nothing_is_found(tmp_path):
    path = file.write(tmp_path / "m.pth", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.9999999")
    done = export(path, tmp_path / "m.onnx", pictures()[:1])
    assert all("0 of 0 detections" in check for check in done.checks)
    found = OnnxDetector(tmp_path / "m.onnx")(pictures()[1])
    assert found.boxes.shape == (0, 4)
    assert list(found.rles) == []


@pytest.mark.slow
def test_a_file_that_finds_something_else_is_not_written(tmp_path, monkeypatch):
    path = file.write(tmp_path / "m.pth")
    rewrite = onnx_export.for_onnx

    def shifted(model, **options):
        model = rewrite(copy.deepcopy(model), **options)
        model.roi_heads.box_predictor.cls_score.bias.data[1] += 3
        return model

    monkeypatch.setattr(onnx_export, "for_onnx", shifted)
    with pytest.raises(UserError, match="does not find what the checkpoint's model finds"):
        export(path, tmp_path / "m.onnx", pictures()[:1])
    assert [item.name for item in tmp_path.iterdir()] == ["m.pth"]


@pytest.mark.slow
@pytest.mark.parametrize("network", ["attonet_c", "attendnet_b"])
def test_a_backbone(classifier, tmp_path, network):
    """What rounding differs by grows with depth: as little with condensers as without."""
    path, net = classifier(network)
    done = export(path, tmp_path / "c.onnx", pictures()[:1])
    assert "features within" in done.checks[0]
    metadata = read_metadata(tmp_path / "c.onnx")
    assert (metadata.kind, metadata.network, metadata.min_size) == ("backbone", network, 64)
    np.testing.assert_allclose(metadata.mean, [123.675, 116.28, 103.53])
    runtimes = [name for name in RUNTIMES if importlib.util.find_spec(name)]
    for name in runtimes:
        run = open_runtime(tmp_path / "c.onnx", name, 1)
        for shape in ((1, 3, 64, 64), (3, 3, 75, 130)):
            x = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
            with torch.no_grad():
                wanted = create_backbone(network).eval()
                wanted.load_state_dict(backbone_file.without_head(net.state_dict()))
                wanted = wanted(x)
            found = run(x.numpy())
            assert list(found) == ["res2", "res3", "res4", "res5"]
            sides = (-(-shape[2] // 32), -(-shape[3] // 32))
            assert found["res5"].shape == (shape[0], net.num_features, *sides)
            for feature, tolerance in (("res2", 1e-4), ("res3", 1e-4), ("res5", 1e-3)):
                scale = wanted[feature].abs().max()
                difference = np.abs(found[feature] - wanted[feature].numpy()).max()
                assert difference < tolerance * scale


def test_mistakes(tmp_path, classifier, monkeypatch):
    target = tmp_path / "m.onnx"
    with pytest.raises(UserError, match=r"no.pth does not exist"):
        export(tmp_path / "no.pth", target, pictures()[:1])
    checkpoint.save_checkpoint(tmp_path / "foreign.pth", {"model": {"w": torch.zeros(2)}})
    with pytest.raises(UserError, match=r"foreign.pth is not one of atto_det's"):
        export(tmp_path / "foreign.pth", target, pictures()[:1])
    torch.save({"model": np.random.default_rng}, tmp_path / "pickle.pth")
    with pytest.raises(UserError, match=r"pickle.pth .*could run code"):
        export(tmp_path / "pickle.pth", target, pictures()[:1])
    path = file.write(tmp_path / "m.pth")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"m.pth"):
        export(path, target, pictures()[:1])
    path.write_bytes(content)
    with pytest.raises(UserError, match="was not written"):
        export(path, tmp_path / "m.pth" / "m.onnx", pictures()[:1])
    part = checkpoint.load_checkpoint(path)
    part["atto_det"]["format"] = 99
    checkpoint.save_checkpoint(tmp_path / "new.pth", part)
    with pytest.raises(UserError, match=r"new.pth has format 99.*update atto_det"):
        export(tmp_path / "new.pth", target, pictures()[:1])
    r50, _ = classifier()
    part = checkpoint.load_checkpoint(r50)
    part["atto_det_pretraining"]["network"] = "resnet50"
    checkpoint.save_checkpoint(r50, part)
    with pytest.raises(UserError, match="holds resnet50; the backbones exported for detectors are"):
        export(r50, target, pictures()[:1])
    monkeypatch.setattr(onnx_export, "PACKAGES", ("not_there",))
    with pytest.raises(UserError, match=r"not_there is not installed: pip install 'atto_det\[onnx"):
        export(path, target, pictures()[:1])
    assert not list(tmp_path.glob("*.onnx"))
    assert not list(tmp_path.glob(".*"))
