"""Senseless metadata of ONNX files: what is read is sound, or there is one short sentence."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import strategies as st

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx

from atto_det.errors import UserError
from atto_det.export.metadata import KEY, Metadata, read_metadata

tool = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "tools/infer_onnx.py")))
DESCRIBED = Metadata(
    kind="detector",
    network="attonet_d",
    class_names=["cup", "pot"],
    channel_order="RGB",
    mean=[1.0, 2.0, 3.0],
    std=[1.0, 1.0, 1.0],
    min_size=96,
    max_size=128,
    score_threshold=0.5,
    detections_per_image=9,
    precision="fp32",
    opset=17,
    versions={"torch": "2"},
    checkpoint_sha256="0" * 64,
)
ODD = st.sampled_from(
    ["", "null", "true", "-1", "1", "2", "1.0", "NaN", "Infinity", "1e999", "9" * 4000, "9" * 5000,
     "[" * 10**5, "{}", "[]", "[[]]", '[""]', '["a", "a"]', '["a", 1]', '{"a": []}', '"\\u0000"',
     '"' + "x" * 60_000 + '"', "[1, 2, NaN]", '"BGR"', '"backbone"', '"x\\ny"', "no JSON", "\\"]
)  # fmt: skip
TEXTS = ODD | st.text(max_size=6) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
).map(json.dumps)  # fmt: skip
NAMES = sorted(DESCRIBED.as_properties())
EDITS = st.lists(st.tuples(st.sampled_from(NAMES), st.none() | TEXTS), max_size=3)


def small_model():
    """A graph that is read in no time."""
    kinds = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, [None])
        for name in ("image", "boxes")
    ]
    node = onnx.helper.make_node("Identity", ["image"], ["boxes"])
    graph = onnx.helper.make_graph([node], "small", kinds[:1], kinds[1:])
    opset = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)


def one_sentence(read, kind):
    """What is read; None if there is a short sentence instead."""
    says = ""
    try:
        return read()
    except kind as error:
        says = str(error)
    assert 0 < len(says) < 1000
    assert "\n" not in says
    assert "\0" not in says
    return None


def metadata(path):
    """Reads a file with edited metadata."""
    model = small_model()

    def target(edits):
        texts = DESCRIBED.as_properties()
        for name, text in edits:
            texts.pop(name, None)
            if text is not None:
                texts[name] = text
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, texts)
        onnx.save(model, path)
        found = one_sentence(lambda: read_metadata(path), UserError)
        if found:
            assert len(set(found.class_names)) == len(found.class_names)
            assert all(isinstance(name, str) for name in found.class_names)
            assert all(abs(value) < 1e9 for value in [*found.mean, *found.std])
            assert found.summary()
        loaded = one_sentence(lambda: tool.load_model(path), tool.Mistake)
        if loaded:
            assert loaded[1]["channel_order"] in ("RGB", "BGR")
            assert all(isinstance(name, str) for name in loaded[1]["class_names"])

    target([])
    assert KEY in NAMES
    return target, EDITS


def test_nothing_breaks(fuzz, tmp_path):
    fuzz(*metadata(tmp_path / "a.onnx"), seconds=0, examples=60)


@pytest.mark.slow
def test_nothing_breaks_for_long(fuzz, tmp_path):
    fuzz(*metadata(tmp_path / "a.onnx"), seconds=120, examples=500)
