"""Pictures at any depth, and which of them are held out."""

import logging

import pytest

from atto_det.data.picture_tree import list_tree, read_tree_splits
from atto_det.errors import UserError


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names(paths, root):
    return [path.relative_to(root).as_posix() for path in paths]


def test_pictures_at_any_depth_and_what_is_left_out_is_said(tmp_path, caplog):
    write(tmp_path, "b.jpg", "a/x/1.PNG", "a/0.jpeg", "a/boxes.txt", ".hidden/2.jpg", ".3.jpg")
    with caplog.at_level(logging.INFO):
        assert names(list_tree(tmp_path), tmp_path) == ["a/0.jpeg", "a/x/1.PNG", "b.jpg"]
    assert "1 files are not pictures" in caplog.text
    assert "a/boxes.txt" in caplog.text


def test_train_and_val_where_both_are(tmp_path):
    write(tmp_path, "train/0.jpg", "train/cats/1.jpg", "val/2.jpg", "3.jpg")
    train, val = read_tree_splits(tmp_path)
    assert names(train, tmp_path) == ["train/0.jpg", "train/cats/1.jpg"]
    assert names(val, tmp_path) == ["val/2.jpg"]


def test_else_every_50th_is_held_out(tmp_path):
    write(tmp_path, *(f"{number:03d}.jpg" for number in range(101)))
    train, val = read_tree_splits(tmp_path)
    assert names(val, tmp_path) == ["000.jpg", "050.jpg", "100.jpg"]
    assert len(train) == 98
    assert not set(train) & set(val)


def test_linked_folders_count_and_circles_are_refused(tmp_path):
    write(tmp_path / "elsewhere", "1.jpg")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/link").symlink_to(tmp_path / "elsewhere")
    assert names(list_tree(tmp_path / "root"), tmp_path) == ["root/link/1.jpg"]
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"link/back is a link that leads to a folder around it"):
        list_tree(tmp_path / "root")


def test_what_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere cannot be read"):
        list_tree(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no picture"):
        list_tree(tmp_path)
    write(tmp_path, "0.jpg")
    with pytest.raises(UserError, match="holds one picture"):
        read_tree_splits(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "val").symlink_to(tmp_path / "train")
    with pytest.raises(UserError, match="train and val are the same folder"):
        read_tree_splits(tmp_path)
