"""Files in 8 bits."""

import itertools
from collections import Counter

import detector_file as file
import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx

from atto_det.errors import UserError
from atto_det.export.metadata import read_metadata
from atto_det.export.onnx_export import export
from atto_det.export.runtimes import OnnxDetector, agreement, open_runtime
from atto_det.export.samples import calibration_pictures, pictures_to_check
from atto_det.torchvision.predictor import Predictor

LAST = ("/rpn/head/last", "/box_predictor/")  # layers whose outputs are boxes and scores


def pictures() -> list[np.ndarray]:
    [whole] = pictures_to_check([])
    return [whole[:200, :300], whole[200:, 100:420], whole[90:330, 330:]]


@pytest.mark.slow
def test_a_detector(tmp_path):
    path = file.write(tmp_path / "m.pth")
    done = export(path, tmp_path / "m8.onnx", pictures()[:1], pictures())
    assert done.checks[0] == "in 8 bits, measured on 3 pictures"
    assert read_metadata(tmp_path / "m8.onnx").precision == "int8"
    model = onnx.load(tmp_path / "m8.onnx")
    kinds = {item.name: item.data_type for item in model.graph.initializer}
    values = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    eight, single = Counter(), Counter()
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            weight = makers.get(node.input[1])
            in_eight = weight is not None and weight.op_type == "DequantizeLinear"
            assert in_eight != any(part in node.name for part in LAST), node.name
            if in_eight:
                assert kinds[weight.input[0]] == onnx.TensorProto.INT8
                # Two products with uint8 activations fit into 16 bits.
                assert 2 * 255 * np.abs(values[weight.input[0]].astype(int)).max() < 2**15
                activation = makers[node.input[0]]
                assert kinds[activation.input[2]] == onnx.TensorProto.UINT8
                groups = [item.i for item in node.attribute if item.name == "group"] or [1]
                shape = next(t.dims for t in model.graph.initializer if t.name == weight.input[0])
                assert groups[0] in (1, shape[0])  # no depthwise multiplier is left
                eight[node.op_type] += 1
            else:
                single[node.op_type] += 1
        if node.op_type in ("NonMaxSuppression", "RoiAlign"):
            before = [makers[name].op_type for name in node.input if name in makers]
            assert "DequantizeLinear" not in before or node.op_type == "RoiAlign"
    assert eight["Conv"] > 69
    assert eight["Gemm"] == 2
    assert single == {"Conv": 5, "Gemm": 2}  # the RPN's at five levels; classes and boxes
    assert all(node.op_type != "Resize" for node in model.graph.node)
    detectors = Predictor(path), OnnxDetector(tmp_path / "m8.onnx")
    wanted, found = ([detector(p[:, :, ::-1]) for p in pictures()] for detector in detectors)
    assert sum(len(item.scores) for item in wanted) > 5
    assert agreement(wanted, found, box_iou=0.5, mask_iou=0.3).share > 0.4


@pytest.mark.slow
def test_pictures_without_a_finding_are_passed_over(tmp_path):
    path = file.write(tmp_path / "m.pth", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.9999999")
    with pytest.raises(UserError, match="pictures in which the model finds something"):
        export(path, tmp_path / "m.onnx", pictures()[:1], pictures()[:1])
    assert [item.name for item in tmp_path.iterdir()] == ["m.pth"]


@pytest.mark.slow
@pytest.mark.parametrize(("network", "channels"), [("attonet_a", 952), ("attendnet_a", None)])
def test_a_backbone_gets_over_three_times_smaller(classifier, tmp_path, network, channels):
    path, net = classifier(network)
    channels = channels or net.num_features
    whole, small = tmp_path / "a.onnx", tmp_path / "a8.onnx"
    export(path, whole, pictures()[:1])
    export(path, small, pictures()[:1], pictures())
    assert whole.stat().st_size > 3.3 * small.stat().st_size
    assert read_metadata(small).precision == "int8"
    pixels = np.zeros((2, 3, 70, 64), np.float32)
    assert open_runtime(small, "onnxruntime", 1)(pixels)["res5"].shape == (2, channels, 3, 2)


def test_calibration_pictures(data_root, tmp_path):
    path = file.write(tmp_path / "m.pth")
    assert len(calibration_pictures("mini_voc_train", path)) == 8
    folder = data_root / "mini_voc/JPEGImages"
    assert len(calibration_pictures(str(folder), path)) == 12
    with pytest.raises(UserError, match=r"--calibration nowhere is neither a folder nor a data"):
        calibration_pictures("nowhere", path)


def test_many_pictures_are_thinned_out(tmp_path):
    from PIL import Image

    path = file.write(tmp_path / "m.pth")
    (tmp_path / "many").mkdir()
    for index in range(70):
        Image.new("RGB", (4, 4), (index, 0, 0)).save(tmp_path / f"many/{index:02d}.png")
    found = [int(p[0, 0, 0]) for p in calibration_pictures(str(tmp_path / "many"), path)]
    assert len(found) == 32
    assert (found[0], found[-1]) == (0, 69)
    assert all(2 <= b - a <= 3 for a, b in itertools.pairwise(found))
