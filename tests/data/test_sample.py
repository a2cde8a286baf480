"""The picture that benchmarks use."""

import pytest
from PIL import Image

from atto_det.data.sample import sample_picture


@pytest.mark.parametrize("size", [(50, 40), (31, 17)])
def test_a_photo_is_resized_to_exactly_the_size(size, tmp_path):
    Image.new("RGB", size, (200, 30, 90)).save(tmp_path / "a.png")
    pixels = sample_picture(64, 96, tmp_path / "a.png", seed=1)
    assert pixels.shape == (3, 64, 96)
    assert pixels[:, 10, 20].tolist() == [200, 30, 90]


def test_without_a_photo_a_scene_is_painted():
    pixels = sample_picture(64, 96, None, seed=1)
    assert pixels.shape == (3, 64, 96)
    assert pixels.std() > 10
    assert (pixels == sample_picture(64, 96, None, seed=1)).all()
