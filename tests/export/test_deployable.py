"""The graph's resizing is Pillow's, in PyTorch and in both runtimes."""

import warnings
from pathlib import Path

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


def write(module: Resize, path: Path) -> None:
    """As an ONNX file."""
    pytest.importorskip("onnx")
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            module,
            (torch.zeros(30, 40, 3, dtype=torch.uint8),),
            path,
            opset_version=18,
            dynamo=False,
            input_names=["image"],
            output_names=["pixels"],
            dynamic_axes={"image": {0: "height", 1: "width"}},
        )


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """`Resize(90, 120)` as an ONNX file."""
    path = tmp_path_factory.mktemp("resize") / "resize.onnx"
    write(Resize(90, 120), path)
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


def test_in_bfloat16_a_side_may_be_off_by_a_pixel_and_no_more(tmp_path):
    """OpenVINO computes the sides in bfloat16 in one place, and exactly in another."""
    pytest.importorskip("openvino")
    from atto_det.export.runtimes import has_bf16, open_runtime

    if not has_bf16():
        pytest.skip("this CPU has no bfloat16")
    path = tmp_path / "resize.onnx"
    write(Resize(224, 448), path)
    run = open_runtime(path, "openvino-bf16", 1)
    for width in range(300, 460, 16):
        found, wanted = run(noise(301, width))["pixels"], resized_shape(301, width, 224, 448)
        assert np.abs(np.subtract(found.shape[1:], wanted)).max() <= 1
