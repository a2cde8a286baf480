"""Which detections count as the same, and what is not a file of this project."""

import json
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rectangles import rectangle

pytest.importorskip("onnx")

import onnx
import torch
from onnx import TensorProto, helper

from atto_det.errors import UserError
from atto_det.evaluation import Detections
from atto_det.export import runtimes
from atto_det.export.metadata import Metadata, read_metadata
from atto_det.export.runtimes import Agreement, OnnxDetector, agreement, open_runtime

DESCRIBED = Metadata(
    kind="detector",
    network="attonet_a",
    class_names=["cat", "dög"],
    channel_order="BGR",
    mean=[1.0, 2.0, 3.0],
    std=[4.0, 5.0, 6.0],
    min_size=10,
    max_size=20,
    score_threshold=0.05,
    detections_per_image=7,
    precision="float32",
    opset=18,
    versions={"torch": "2"},
    checkpoint_sha256="0" * 64,
)


def found(*items: tuple[int, int, int, int, int]) -> Detections:
    """Detections in a picture of 100 x 100: class and a box that its mask fills."""
    boxes = np.array([item[1:] for item in items], float).reshape(-1, 4)
    rles = [rectangle(100, 100, box) for box in boxes]
    classes = np.array([item[0] for item in items], int)
    return Detections(boxes, rles, classes, np.ones(len(items)))


def test_agreement_by_hand():
    one = found((0, 0, 0, 50, 50), (1, 0, 0, 50, 50), (0, 60, 60, 90, 90))
    assert agreement([one], [one]) == (3, 3)
    # Another class, a box one pixel wider (IoU 50 / 51), a missing one.
    assert agreement([one], [found((1, 0, 0, 50, 50), (1, 60, 60, 90, 90))]) == (1, 3)
    assert agreement([one], [found((0, 0, 0, 51, 50))]) == (0, 3)
    assert agreement([one], [found((0, 0, 0, 51, 50))], box_iou=0.97, mask_iou=0.97) == (1, 3)
    # Nothing is paired twice, and too many count as much as too few.
    assert agreement([found((0, 0, 0, 50, 50))], [found(*[(0, 0, 0, 50, 50)] * 4)]) == (1, 4)
    assert agreement([one, found()], [one, found((0, 1, 1, 5, 5))]) == (3, 4)
    assert agreement([one, one], [one, found()]) == (3, 6)


def test_masks_must_agree_too():
    one, other = found((0, 0, 0, 50, 50)), found((0, 0, 0, 50, 49))
    mixed = Detections(one.boxes, other.rles, one.classes, one.scores)  # mask IoU 0.98 exactly
    assert agreement([one], [mixed]) == (0, 1)
    assert agreement([one], [mixed], mask_iou=0.97) == (1, 1)


def test_masks_without_a_pixel():
    one, nothing = found((0, 0, 0, 50, 50)), found((0, 9, 9, 9, 9))
    empty = Detections(one.boxes, nothing.rles, one.classes, one.scores)
    assert agreement([empty], [empty]) == (1, 1)
    assert agreement([one], [empty]) == (0, 1)


def test_the_share():
    assert Agreement(99, 100).share == 0.99
    assert Agreement(0, 0).share == 1.0


@pytest.fixture
def file(tmp_path):
    """A function that writes an ONNX file with the given properties: its input plus one."""

    def write(properties: dict[str, str]):
        node = helper.make_node("Add", ["image", "one"], ["result"])
        one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
        values = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"])
            for name in ("image", "result")
        ]
        graph = helper.make_graph([node], "g", values[:1], values[1:], [one])
        imports = [helper.make_opsetid("", 18)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=10)
        helper.set_model_props(model, properties)
        onnx.save(model, tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    return write


def test_metadata_survives(file):
    assert read_metadata(file(DESCRIBED.as_properties() | {"other": "no JSON {"})) == DESCRIBED


def test_openvino_alone_can_read_the_precision(file):
    """As docs/export.md shows it."""
    openvino = pytest.importorskip("openvino")
    core = runtimes._only(openvino.Core)
    model = core.read_model(file(DESCRIBED.as_properties()))
    assert model.get_rt_info(["framework", "openvino_inference_precision"]).astype(str) == "f32"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"atto_det_format": "2"}, "has format 2, newer than this version of atto_det reads"),
        ({"atto_det_format": "yes"}, "was not written by atto_det"),
        ({"std": "]"}, "lacks std in its metadata: export it again"),
        ({"std": "[" * 10**5}, "lacks std in its metadata: export it again"),
        ({"std": "[1, 2]"}, "has impossible metadata in std: it was damaged or modified"),
        ({"mean": "[1, 2, NaN]"}, "has impossible metadata in mean"),
        ({"class_names": '["a", "a"]'}, "has impossible metadata in class_names"),
        ({"class_names": "5", "opset": "-1"}, "has impossible metadata in class_names, opset"),
        ({"kind": "[]", "channel_order": "{}"}, "metadata in channel_order, kind"),
        ({"min_size": "1e30"}, "metadata in min_size"),
    ],
)
def test_other_metadata(file, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        read_metadata(file(DESCRIBED.as_properties() | changes))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(DESCRIBED.as_properties())), JSON, max_size=3))
@settings(max_examples=100)
def test_metadata_of_no_sense_is_a_sentence(tmp_path_factory, changes):
    texts = {name: json.dumps(value) for name, value in changes.items()}
    model = onnx.helper.make_model(onnx.helper.make_graph([], "nothing", [], []))
    onnx.helper.set_model_props(model, DESCRIBED.as_properties() | texts)
    path = tmp_path_factory.mktemp("odd") / "model.onnx"
    onnx.save(model, path)
    try:
        metadata = read_metadata(path)
    except UserError:
        return
    assert "\n".join(metadata.summary())
    assert all(isinstance(name, str) for name in metadata.class_names)


@pytest.mark.parametrize(
    ("classes", "score", "sentence"),
    [(0, np.nan, "gives scores that are NaN or infinite"), (2, 0.5, "finds class 2, but its file")],
)
def test_outputs_of_no_sense(file, monkeypatch, classes, score, sentence):
    outputs = {
        "boxes": np.float32([[0, 0, 5, 5]]),
        "classes": np.array([classes]),
        "scores": np.float32([score]),
        "masks": np.ones((1, 28, 28), np.float32),
    }
    monkeypatch.setattr(runtimes, "open_runtime", lambda *_: lambda picture: outputs)
    detector = OnnxDetector(file(DESCRIBED.as_properties()))
    with pytest.raises(UserError, match=sentence):
        detector(np.zeros((8, 8, 3), np.uint8))


def test_foreign_and_damaged_files(file, tmp_path):
    with pytest.raises(UserError, match=r"model.onnx was not written by atto_det"):
        read_metadata(file({}))
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(UserError, match=r"text.onnx is not an ONNX file, or a damaged one"):
        read_metadata(tmp_path / "text.onnx")
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(UserError, match=r"empty.onnx was not written by atto_det"):
        read_metadata(tmp_path / "empty.onnx")
    with pytest.raises(UserError, match=r"none.onnx does not exist"):
        read_metadata(tmp_path / "none.onnx")


def test_a_backbone_detects_nothing(file):
    path = file(DESCRIBED.as_properties() | {"kind": json.dumps("backbone")})
    with pytest.raises(UserError, match="holds a backbone, which detects nothing by itself"):
        OnnxDetector(path)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_graph_as_a_function(file, runtime):
    pytest.importorskip(runtime)
    run = open_runtime(file({}), runtime, 1)
    assert run(np.float32([1, 2]))["result"].tolist() == [2, 3]
    assert run(np.float32([5]))["result"].tolist() == [6]


@pytest.mark.parametrize("runtime", runtimes.RUNTIMES)
def test_signals_still_arrive_after_graphs_are_gone(runtime, file):
    """Whatever the order in which they go; a process that ends is a signal to its parent."""
    pytest.importorskip(runtime)
    program = f"""
import signal, subprocess
from atto_det.export.runtimes import open_runtime
graphs = [open_runtime({str(file({}))!r}, {runtime!r}) for _ in "ab"]
del graphs[0]
del graphs[0]
signal.signal(signal.SIGCHLD, lambda *_: print("arrived"))
subprocess.run(["true"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode != -signal.SIGSEGV
    assert set(done.stdout.split()) == {"arrived"}, done.stderr


def test_bfloat16_is_asked_for_and_only_where_the_cpu_has_it(tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    layer = torch.nn.Linear(64, 64)
    value = np.random.default_rng(0).random((8, 64), np.float32)
    path = tmp_path / "m.onnx"
    torch.onnx.export(layer, (torch.as_tensor(value),), path, dynamo=False)
    [single] = open_runtime(path, "openvino", 1)(value).values()
    wanted = layer(torch.as_tensor(value)).detach().numpy()
    np.testing.assert_allclose(single, wanted, atol=1e-5)
    if runtimes.has_bf16():
        [half] = open_runtime(path, "openvino-bf16", 1)(value).values()
        assert 1e-4 < np.abs(half - wanted).max() < 0.05
    core = SimpleNamespace(get_property=lambda *_: ["FP32", "INT8"])
    monkeypatch.setattr(runtimes, "_only", lambda _: core)
    with pytest.raises(UserError, match=r"this CPU has no bfloat16: choose the runtime openvino$"):
        open_runtime(path, "openvino-bf16")


def test_openvino_says_what_is_wrong_rather_than_where(tmp_path):
    pytest.importorskip("openvino")
    node = helper.make_node("Nonsense", ["image"], ["result"], domain="nowhere")
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("image", "result")
    ]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("nowhere", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), tmp_path / "m.onnx")
    with pytest.raises(UserError, match=r"openvino cannot run .*m\.onnx: Model wasn't fully conv"):
        open_runtime(tmp_path / "m.onnx", "openvino")


@pytest.mark.parametrize("runtime", runtimes.GPU)
def test_a_gpu_that_cannot_be_used_is_no_slow_success(runtime, file, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    provider = runtimes.GPU[runtime][0]
    if provider in onnxruntime.get_available_providers():
        pytest.skip(f"onnxruntime has {provider}")
    with pytest.raises(UserError, match=f"the installed onnxruntime has no {provider}, which"):
        open_runtime(file({}), runtime)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [provider])
    with (
        pytest.warns(UserWarning, match="Specified provider"),
        pytest.raises(UserError, match=f"onnxruntime cannot load {provider}.*: a GPU, its driver"),
    ):
        open_runtime(file({}), runtime)


def test_runtimes_that_cannot(file, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="the runtime is 'tensorrt': choose one of onnxruntime, op"):
        open_runtime(file({}), "tensorrt")
    with pytest.raises(UserError, match="threads is -1: give 1 or more, or 0 for the runtime's"):
        open_runtime(file({}), "onnxruntime", -1)
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(UserError, match=r"onnxruntime cannot run .*text.onnx: "):
        open_runtime(tmp_path / "text.onnx", "onnxruntime")
    run = open_runtime(file({}), "onnxruntime", 1)
    with pytest.raises(UserError, match=r"onnxruntime cannot run .*model.onnx: "):
        run(np.zeros((2, 2), np.float32))
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"openvino is not installed: pip install 'atto_det\[onnx"):
        open_runtime(file({}), "openvino")
