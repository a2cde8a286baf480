"""A name from a downloaded file may be that of a device or a pipe, which never ends."""

import json
import os

import pytest

from atto_det.data import load_coco, load_voc, read_image
from atto_det.data.files import check_file, read_bytes, read_utf8
from atto_det.errors import UserError


@pytest.fixture
def pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_devices_and_pipes_are_no_files(pipe, tmp_path):
    for path in (pipe, "/dev/zero"):
        for read in (read_bytes, read_utf8, check_file):
            with pytest.raises(OSError, match="it is a device or a pipe, not a file"):
                read(path)
        for read in (read_image, lambda path: load_coco(path, tmp_path)):
            with pytest.raises(UserError, match="it is a device or a pipe, not a file"):
                read(path)


def test_each_list_and_annotation_is_read_so(pipe, tmp_path):
    (tmp_path / "a.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "pipe", "height": 6, "width": 8}],
                "categories": [{"id": 1, "name": "cup"}],
                "annotations": [],
            }
        )
    )
    with pytest.raises(UserError, match="a device or a pipe"):
        load_coco(tmp_path / "a.json", tmp_path)
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (tmp_path / "class_names.txt").write_text("cup\n")
    pipe.rename(lists / "train.txt")
    with pytest.raises(UserError, match="a device or a pipe"):
        load_voc(tmp_path, "train", cache=False)


def test_text_is_as_it_was(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffä\r\nb\rc\n".encode())
    assert read_utf8(tmp_path / "a.txt") == "ä\nb\nc\n"
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "none")
