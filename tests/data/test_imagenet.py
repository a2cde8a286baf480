"""Making a selection: links, going on after a kill, not mixing, what cannot be written."""

import os
import shutil
from pathlib import Path

import imagenet_tree as tree
import pytest

from atto_det.data.image_folder import read_class_list, read_splits
from atto_det.data.imagenet import COPIES, HARD, SYMBOLIC, check_pictures, make_selection
from atto_det.errors import UserError

pytestmark = pytest.mark.usefixtures("no_sync")


def test_the_reader_takes_it_and_every_oddity_decodes(source, wanted, tmp_path):
    make_selection(source(), wanted, tmp_path / "out")
    train, val = read_splits(tmp_path / "out", tmp_path / "out" / "class_names.txt")
    assert train.classes == val.classes == tree.LISTED
    assert (train.labels.count(0), train.labels.count(1), val.labels) == (7, 3, (0, 0, 1, 1))
    assert check_pictures(tmp_path / "out") == []


def test_check_names_every_unreadable_picture(source, wanted, tmp_path):
    root = source()
    broken = root / "train" / "n01443537" / "n01443537_1.JPEG"
    broken.write_bytes(broken.read_bytes()[:-200])
    (root / "val" / "n02105855" / "ILSVRC2012_val_00000003.JPEG").write_bytes(b"")
    make_selection(root, wanted, tmp_path / "out")
    faults = check_pictures(tmp_path / "out")
    assert len(faults) == 2
    assert f"{tmp_path}/out/train/n01443537/n01443537_1.JPEG cannot be read as a" in faults[0]
    assert "ILSVRC2012_val_00000003.JPEG cannot be read as a picture" in faults[1]


# Links


@pytest.mark.parametrize("files", [SYMBOLIC, HARD])
def test_links(source, wanted, tmp_path, monkeypatch, files):
    source("kaggle", "flat, devkit tar")
    monkeypatch.chdir(tmp_path)  # links must hold wherever the folders were named from
    made = make_selection("imagenet", "list.txt", "out", files)
    monkeypatch.chdir("/")
    assert tree.content(tmp_path / "out") == tree.expected_files() | {"class_names.txt": tree.NAMES}
    assert made.manifest["files"] == files
    picture = tmp_path / "out" / "train" / "n01443537" / "n01443537_0.JPEG"
    original = tmp_path / "imagenet/ILSVRC/Data/CLS-LOC/train/n01443537/n01443537_0.JPEG"
    assert picture.samefile(original)
    assert picture.is_symlink() == (files == SYMBOLIC)
    assert make_selection(tmp_path / "imagenet", wanted, tmp_path / "out", files).written == 0


@pytest.mark.parametrize("files", [SYMBOLIC, HARD])
@pytest.mark.parametrize("layout", [("tars", "folders"), ("folders", "tar, kaggle")])
def test_no_links_into_a_tar(source, wanted, tmp_path, files, layout):
    with pytest.raises(UserError, match=rf"{files} need pictures in files of their own.*\.tar: un"):
        make_selection(source(*layout), wanted, tmp_path / "out", files)
    assert not list(tmp_path.glob("out*"))


def test_hard_links_across_file_systems(source, wanted, tmp_path, monkeypatch):
    def link(self, target):
        raise OSError(18, "Invalid cross-device link", str(self))

    monkeypatch.setattr(Path, "hardlink_to", link)
    with pytest.raises(UserError, match="is on another file system; make symbolic links or copies"):
        make_selection(source(), wanted, tmp_path / "out", HARD)


# Going on


class Killed(BaseException):
    pass


@pytest.mark.parametrize("files", [COPIES, SYMBOLIC, HARD])
@pytest.mark.parametrize("steps", [0, 1, 9, 13])
def test_it_goes_on_after_any_picture(source, wanted, tmp_path, files, steps):
    def progress(items, what):
        for number, item in enumerate(items):
            if what == "writing" and number == steps:
                raise Killed
            yield item

    root = source()
    with pytest.raises(Killed):
        make_selection(root, wanted, tmp_path / "out", files, progress)
    assert not (tmp_path / "out").exists()
    # What a process killed while it wrote leaves, and what a desktop leaves.
    tree.put(tmp_path / "out.part", {
        "train/n01443537/.n01443537_2.abcd_123.JPEG": b"half",
        ".manifest.abcdefgh.json": b"{",
        "train/n01443537/.DS_Store": b"",
    })  # fmt: skip
    made = make_selection(root, wanted, tmp_path / "out", files)
    assert made.written == 14 - steps
    store = {"train/n01443537/.DS_Store": b""}
    assert (
        tree.content(tmp_path / "out")
        == tree.expected_files() | {"class_names.txt": tree.NAMES} | store
    )
    assert not (tmp_path / "out.part").exists()


def test_killed_before_the_manifest_was_there(source, wanted, tmp_path):
    tree.put(tmp_path / "out.part", {".manifest.abcdefgh.json": b""})
    make_selection(source(), wanted, tmp_path / "out")
    assert tree.content(tmp_path / "out") == tree.expected_files() | {"class_names.txt": tree.NAMES}


def test_a_finished_selection_is_only_completed(source, wanted, tmp_path):
    """A picture removed, cut, or replaced in the source is written again; no other one."""
    root, out = source("folders", "flat, devkit tar"), tmp_path / "out"
    make_selection(root, wanted, out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.JPEG")}
    assert make_selection(root, wanted, out).written == 0
    assert times == {path: path.stat().st_mtime_ns for path in out.rglob("*.JPEG")}
    removed, cut, replaced = sorted((out / "train" / "n02105855").iterdir())[:3]
    removed.unlink()
    cut.write_bytes(b"x")
    tree.put(root / "train" / "n02105855", {replaced.name: b"new"})
    assert make_selection(root, wanted, out).written == 3
    found = tree.content(out)
    assert found.pop(str(replaced.relative_to(out))) == b"new"
    expected = tree.expected_files() | {"class_names.txt": tree.NAMES}
    assert found == {name: expected[name] for name in found}
    assert len(found) == len(expected) - 1


def test_an_empty_folder_and_a_link_to_one_are_filled(source, wanted, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    made = make_selection(source(), wanted, tmp_path / "out")
    assert made.folder == tmp_path / "disk"
    assert tree.content(tmp_path / "disk") == tree.expected_files() | {
        "class_names.txt": tree.NAMES
    }


@pytest.mark.parametrize("name", ["out", "out.part"])
def test_it_does_not_mix(source, wanted, tmp_path, name):
    root, out = source(), tmp_path / "out"
    make_selection(root, wanted, out)
    out.rename(tmp_path / name)
    before = tree.content(tmp_path / name)
    other = tmp_path / "other.txt"
    for lines in ("n01443537\nn02105855\n", "n02105855\n", "n02105855\nn01443537\nn03000001"):
        other.write_text(lines)
        with pytest.raises(
            UserError, match=rf"{name} was made from another class list \(.*list\.t"
        ):
            make_selection(root, other, out)
    with pytest.raises(UserError, match="was made of copies, not of hard links: choose another"):
        make_selection(root, wanted, out, HARD)
    shutil.copytree(root, tmp_path / "second")
    with pytest.raises(UserError, match=r"was made of .*imagenet, not of .*second"):
        make_selection(tmp_path / "second", wanted, out)
    assert tree.content(tmp_path / name) == before
    other.write_bytes(b"\xef\xbb\xbfn02105855 dog\n\n#\nn01443537")  # the same classes
    assert make_selection(root, other, out).written == 0


@pytest.mark.parametrize(
    "files",
    [
        {"train/n1/mine.jpg": b"x"},
        {"manifest.json": b"{"},
        {"manifest.json": b"[]"},
        {"manifest.json": b'{"classes": []}'},
        {"manifest.json": b"\xff"},
    ],
)
def test_somebody_elses_folder_is_left_alone(source, wanted, tmp_path, files):
    tree.put(tmp_path / "out", files)
    with pytest.raises(
        UserError, match=r"out exists and was not made by this tool \(no readable m"
    ):
        make_selection(source(), wanted, tmp_path / "out")
    assert len([p for p in (tmp_path / "out").rglob("*") if p.is_file()]) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("train/n01443537/mine.JPEG", "mine.JPEG is not in the source: move it away"),
        ("val/n99999999/mine.JPEG", "n99999999 does not belong to this selection: move it away"),
        ("train/stray.JPEG", "stray.JPEG does not belong to this selection: move it away"),
    ],
)
def test_a_stranger_in_a_selection(source, wanted, tmp_path, name, message):
    make_selection(source(), wanted, tmp_path / "out")
    tree.put(tmp_path / "out", {name: b"x"})
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        make_selection(source(), wanted, tmp_path / "out")
    assert (tmp_path / "out" / name).exists()


# What cannot be written


def test_a_file_in_the_way(source, wanted, tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(UserError, match="was not written: "):
            make_selection(source(), wanted, out)
    with pytest.raises(UserError, match="exists and was not made by this tool"):
        make_selection(source(), wanted, tmp_path / "imagenet")
    with pytest.raises(UserError, match="exists and was not made by this tool"):
        make_selection(source(), wanted, "/")


@pytest.mark.parametrize(
    ("number", "message"),
    [(28, "the disk is full; free some space and run again"), (30, "Read-only file system")],
)
@pytest.mark.parametrize("files", [COPIES, SYMBOLIC])
def test_a_disk_that_takes_no_more(source, wanted, tmp_path, monkeypatch, number, message, files):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    root = source()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail)
        patch.setattr(Path, "symlink_to", fail)
        with pytest.raises(UserError, match=rf"n02105855_0\.JPEG was not written: {message}"):
            make_selection(root, wanted, tmp_path / "out", files)
    assert not list(tmp_path.rglob(".*JPEG"))
    assert make_selection(root, wanted, tmp_path / "out", files).written == 14


def test_the_shipped_list(repository):
    classes = read_class_list(repository / "configs" / "pretrain" / "tiny_imagenet_50.txt")
    assert len(classes) == 50
    assert all(len(wnid) == 9 and wnid[0] == "n" and wnid[1:].isdigit() for wnid in classes)
    assert classes["n01443537"] == "goldfish, Carassius auratus"
