"""Pictures and label images: right pixels, or a sentence."""

import numpy as np
import pytest
from PIL import Image, ImageFile

from atto_det.data import image_size, read_image, read_palette_png, voc_palette
from atto_det.errors import UserError

RED = np.full((4, 6, 3), (200, 10, 30), np.uint8)


def test_voc_palette_starts_with_the_published_colours():
    palette = voc_palette()
    assert palette[:6].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128]
    ]  # fmt: skip
    assert palette[15].tolist() == [192, 128, 128]  # person
    assert palette[255].tolist() == [224, 224, 192]  # void


def test_rgb_is_read_as_it_is(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(RED).save(path)
    assert np.array_equal(read_image(path), RED)
    assert image_size(path) == (4, 6)


@pytest.mark.parametrize("mode", ["L", "CMYK", "P"])
def test_other_modes_become_rgb(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.fromarray(RED).convert(mode, palette=Image.Palette.ADAPTIVE).save(path)
    pixels = read_image(path)
    assert pixels.shape == (4, 6, 3)
    assert pixels.dtype == np.uint8
    expected = RED if mode != "L" else np.full_like(RED, 69)  # 0.299 R + 0.587 G + 0.114 B
    assert np.abs(pixels.astype(int) - expected).max() <= 4


def test_exif_orientation_is_not_applied(tmp_path):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.fromarray(RED).save(path, exif=exif)
    assert read_image(path).shape == (4, 6, 3)


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_files_are_errors_whatever_pillow_was_told(
    tmp_path, cut, monkeypatch, suffix, lenient
):
    path = tmp_path / f"photo.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    cut(path)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    with pytest.raises(UserError, match=rf"photo\.{suffix} cannot be read as a picture"):
        read_image(path)
    assert lenient == ImageFile.LOAD_TRUNCATED_IMAGES


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(UserError, match=r"none\.jpg does not exist"):
        read_image(tmp_path / "none.jpg")
    path = tmp_path / "text.jpg"
    path.write_text("no picture")
    for read in (read_image, image_size, read_palette_png):
        with pytest.raises(UserError, match=r"text\.jpg cannot be read as a picture"):
            read(path)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_indices_of_any_depth(tmp_path, bits):
    values = (np.arange(24).reshape(4, 6) % (1 << bits)).astype(np.uint8)
    image = Image.fromarray(values)
    # Colours far from the indices, so that a conversion to grey could not pass.
    image.putpalette([200] * 3 * 256)
    image.save(tmp_path / "a.png", bits=bits)
    assert np.array_equal(read_palette_png(tmp_path / "a.png"), values)


def test_eight_bit_grey_is_its_own_index(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(4, 6)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.array_equal(read_palette_png(tmp_path / "a.png"), values)


@pytest.mark.parametrize("mode", ["1", "RGB", "RGBA", "LA", "I;16"])
def test_other_label_images_are_refused(tmp_path, mode):
    Image.new(mode, (6, 4)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png is a .* picture: a label image needs a palette"):
        read_palette_png(tmp_path / "a.png")


def test_labels_must_be_png(tmp_path):
    Image.new("L", (6, 4)).save(tmp_path / "a.jpg")
    with pytest.raises(UserError, match="is no PNG"):
        read_palette_png(tmp_path / "a.jpg")
