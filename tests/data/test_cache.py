"""The cache: the same result, never a stale one, never in the way."""

import logging

import pytest

from atto_det.data import VOC_CLASSES, load_voc
from atto_det.data import voc as voc_module


@pytest.fixture
def reads(monkeypatch):
    """Ids of the pictures that were read in earnest."""
    ids = []
    real = voc_module.read_voc_image

    def spy(root, image_id, names):
        ids.append(image_id)
        return real(root, image_id, names)

    monkeypatch.setattr(voc_module, "read_voc_image", spy)
    return ids


@pytest.fixture
def cache_files(tmp_path):
    return lambda: list((tmp_path / "cache").glob("*"))


def test_second_load_is_equal_and_reads_nothing(tiny_voc, reads, cache_files):
    tiny_voc.add("a")
    tiny_voc.add("b", objects=[("dog", (2, 2, 6, 5), 1), ("cat", (1, 1, 2, 2), 0)])
    first = load_voc(tiny_voc.root, "train")
    assert reads == ["a", "b"]
    assert first.left_out == 1
    assert load_voc(tiny_voc.root, "train") == first
    assert reads == ["a", "b"]
    assert len(cache_files()) == 1
    assert load_voc(tiny_voc.root, "train", cache=False) == first
    assert reads == ["a", "b"] * 2


def test_every_change_of_content_counts(tiny_voc, reads, cache_files):
    tiny_voc.add("a")
    load_voc(tiny_voc.root, "train")

    def read_again():
        reads.clear()
        dataset = load_voc(tiny_voc.root, "train")
        return bool(reads), dataset

    tiny_voc.write_xml("a", [("dog", (2, 2, 6, 5), 1), ("cat", (8, 4, 11, 7), 1)])
    again, dataset = read_again()
    assert again
    assert dataset.records[0].instances[0].difficult
    for folder in ("SegmentationClass", "SegmentationObject"):
        path = tiny_voc.png(folder, "a")
        path.write_bytes(path.read_bytes() + b"\0")
        assert read_again()[0]
    tiny_voc.jpeg("a").touch()
    assert read_again()[0]
    tiny_voc.add("b")
    assert read_again()[0]
    (tiny_voc.root / "class_names.txt").write_text("\n".join(VOC_CLASSES) + "\nextra\n")
    assert read_again()[0]
    assert not read_again()[0]
    assert len(cache_files()) == 1  # replaced, not piled up


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}", b'{"key": 1}', b"null"])
def test_unreadable_cache_is_ignored(tiny_voc, reads, cache_files, caplog, content):
    tiny_voc.add("a")
    first = load_voc(tiny_voc.root, "train")
    (path,) = cache_files()
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert load_voc(tiny_voc.root, "train") == first
    assert reads == ["a", "a"]
    assert len(caplog.messages) == (content != b'{"key": 1}')


def test_unwritable_cache_is_one_warning(tiny_voc, tmp_path, monkeypatch, caplog):
    tiny_voc.add("a")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ATTO_DET_CACHE", str(tmp_path / "file" / "cache"))
    with caplog.at_level(logging.WARNING):
        assert len(load_voc(tiny_voc.root, "train").records) == 1
    assert len(caplog.messages) == 1
    assert "continuing without a cache" in caplog.text


def test_place_of_the_cache(tiny_voc, tmp_path, monkeypatch):
    tiny_voc.add("a")
    monkeypatch.delenv("ATTO_DET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    load_voc(tiny_voc.root, "train")
    assert len(list((tmp_path / "xdg" / "atto_det").iterdir())) == 1
