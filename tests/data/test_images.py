"""Pictures and label images: right pixels, or a sentence."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps
from pycocotools import mask as mask_utils

from atto_det.data import image_size, read_image, read_palette_png, voc_palette
from atto_det.data.images import check_whole
from atto_det.data.masks import mask_box
from atto_det.data.orientation import turn, turn_box, turn_rle
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


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_pictures_are_upright_as_pillow_and_opencv_show_them(tmp_path, suffix, orientation):
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.repeat(np.arange(0, 240, 10, np.uint8).reshape(4, 6, 1), 3, axis=2)
    Image.fromarray(stored).save(path, exif=exif, lossless=True, quality=100)
    pixels = read_image(path)
    with Image.open(path) as image:
        assert np.array_equal(pixels, np.array(ImageOps.exif_transpose(image).convert("RGB")))
    assert np.array_equal(pixels[:, :, ::-1], cv2.imdecode(np.fromfile(path, np.uint8), 1))
    assert image_size(path) == pixels.shape[:2] == ((4, 6) if orientation < 5 else (6, 4))
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_and_masks_turn_with_the_picture(orientation):
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3, 0:5] = 1
    rle = mask_utils.encode(np.asfortranarray(mask))
    turned = turn_rle(rle, orientation)
    upright = turn(mask, orientation)
    assert np.array_equal(mask_utils.decode(turned), upright)
    box = turn_box((0.0, 1.0, 5.0, 3.0), orientation, *upright.shape)
    assert box == mask_box(turned)


def test_a_broken_exif_part_is_no_reason_to_refuse(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(RED).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff\xff")
    assert read_image(path).shape == (4, 6, 3)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bit_grey_is_scaled_as_opencv_does(tmp_path, suffix, caplog):
    path = tmp_path / f"a.{suffix}"
    values = np.arange(24, dtype=np.uint16).reshape(4, 6) * 2849
    assert values.max() == 65527
    Image.fromarray(values).save(path)
    pixels = read_image(path)
    assert np.array_equal(pixels, np.repeat((values >> 8).astype(np.uint8)[:, :, None], 3, 2))
    assert np.array_equal(pixels, cv2.imread(str(path)))
    assert not caplog.records


def test_twelve_bits_in_sixteen_are_named_once(tmp_path, caplog):
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((4, 6), 4095, np.uint16)).save(tmp_path / name)
        assert read_image(tmp_path / name).max() == 15
    [record] = caplog.records
    assert "a.png has 16 bits, but no value above 4095" in record.getMessage()


def test_thirty_two_bits_are_refused(tmp_path):
    Image.fromarray(np.ones((4, 6), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif has 32 bits a channel"):
        read_image(tmp_path / "a.tif")


def test_the_limit_of_pixels_and_what_raises_it(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("L", (60, 50)).save(path)
    monkeypatch.setenv("ATTO_DET_MAX_PIXELS", "2999")
    before = Image.MAX_IMAGE_PIXELS
    for read in (read_image, image_size):
        with pytest.raises(UserError, match=r"3,000 pixels, more than the 2,999 allowed.*ATTO_DET"):
            read(path)
    monkeypatch.setenv("ATTO_DET_MAX_PIXELS", "3000")
    assert read_image(path).shape == (50, 60, 3)
    assert before == Image.MAX_IMAGE_PIXELS
    monkeypatch.delenv("ATTO_DET_MAX_PIXELS")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1499)
    with pytest.raises(UserError, match=r"3,000 pixels, more than the 2,998 allowed"):
        read_image(path)
    monkeypatch.setenv("ATTO_DET_MAX_PIXELS", "many")
    with pytest.raises(UserError, match="ATTO_DET_MAX_PIXELS is 'many'"):
        read_image(path)


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


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp"])
@pytest.mark.parametrize("behind", [0, 100_000])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_quick_look_finds_the_end_of_a_picture(tmp_path, suffix, behind, progressive):
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    thumbnail = b"Exif\0\0\xff\xd8 \xff\xd9"
    options = {"exif": thumbnail, "progressive": progressive} if suffix == "jpg" else {}
    Image.fromarray(noise).save(path, **options)
    check_whole(path)
    if suffix == "bmp":
        return
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * behind)
    check_whole(path)
    for part in (0.3, 0.6, 0.95):
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(UserError, match=rf"a\.{suffix} is cut short"):
            check_whole(path)


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
    Image.new(mode, (6, 4), "white" if mode == "RGB" else 0).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png is a .* picture: a label image needs a palette"):
        read_palette_png(tmp_path / "a.png")


def test_colours_of_pascals_palette_are_their_indices(tmp_path):
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(voc_palette()[values]).save(tmp_path / "a.png")
    assert np.array_equal(read_palette_png(tmp_path / "a.png"), values)
    pixels = voc_palette()[values]
    pixels[3, 5] += 1
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png is a 8-bit RGB picture: .*--from-colours"):
        read_palette_png(tmp_path / "a.png")


def test_labels_must_be_png(tmp_path):
    Image.new("L", (6, 4)).save(tmp_path / "a.jpg")
    with pytest.raises(UserError, match="is not a PNG"):
        read_palette_png(tmp_path / "a.jpg")
