"""The graph's resizing is Pillow's, in PyTorch and in both runtimes."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atto_det.export.deployable import Resize
from atto_det.ops.resize import resize, resized_shape

SIDE = st.integers(2, 300)


def noise(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(height * 1000 + width)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def pillow(image: np.ndarray, short: int, longest: int) -> np.ndarray:
    """(3, h, w), as float."""
    return resize(image, *resized_shape(*image.shape[:2], short, longest)).transpose(2, 0, 1) * 1.0


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(16, 1000), st.integers(1, 1500))
@settings(max_examples=300)
def test_shapes(height, width, short, more):
    wanted = resized_shape(height, width, short, short + more)
    found = Resize(short, short + more).shape(torch.tensor([height, width]))
    assert tuple(found.tolist()) == wanted


@given(SIDE, SIDE, st.integers(16, 200), st.integers(0, 150))
@settings(max_examples=60)
def test_pixels_are_pillows(height, width, short, more):
    image = noise(height, width)
    wanted = pillow(image, short, short + more)
    found = Resize(short, short + more)(torch.as_tensor(image)).numpy()
    # Pillow takes the columns first in tall pictures that shrink.
    assert np.abs(found - wanted).max() <= (height > 2 * width)


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """`Resize(90, 120)` as an ONNX file."""
    pytest.importorskip("onnx")
    path = tmp_path_factory.mktemp("resize") / "resize.onnx"
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            Resize(90, 120),
            (torch.zeros(30, 40, 3, dtype=torch.uint8),),
            path,
            opset_version=18,
            dynamo=False,
            input_names=["image"],
            output_names=["pixels"],
            dynamic_axes={"image": {0: "height", 1: "width"}},
        )
    return path


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    "size", [(200, 301), (301, 200), (50, 41), (90, 90), (90, 120), (700, 99), (3, 4000)]
)
def test_runtimes_resize_alike(graph, runtime, size):
    pytest.importorskip(runtime)
    from atto_det.export.runtimes import open_runtime

    image = noise(*size)
    found = open_runtime(graph, runtime, 1)(image)["pixels"]
    assert np.abs(found - pillow(image, 90, 120)).max() <= (size[0] > 2 * size[1])
