"""The ImageFolder layout and class lists, against torchvision's reader and against bad trees."""

import os
import shutil
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atto_det.data.image_folder import SUFFIXES, read_class_list, read_image_folder, read_splits
from atto_det.errors import UserError

TREE = {"train": {"dog": 3, "cat": 2}, "val": {"dog": 1, "cat": 1}}


@pytest.fixture
def root(tmp_path):
    """Two classes, in which pictures are empty files: they are listed, not opened."""
    return make(tmp_path / "root", TREE)


def make(root, tree):
    for split, classes in tree.items():
        for name, count in classes.items():
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                (root / split / name / f"{number}.JPEG").touch()
    return root


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# Listing


def test_labels_by_sorted_folder_or_by_list(root, tmp_path):
    train = read_image_folder(root, "train")
    assert train.classes == ("cat", "dog")
    assert train.labels == (0, 0, 1, 1, 1)
    assert [f"{p.parent.name}/{p.name}" for p in train.paths] == [
        "cat/0.JPEG", "cat/1.JPEG", "dog/0.JPEG", "dog/1.JPEG", "dog/2.JPEG",
    ]  # fmt: skip
    train, val = read_splits(root, write(tmp_path / "list", "dog\ncat\n"))
    assert train.classes == val.classes == ("dog", "cat")
    assert train.labels == (0, 0, 0, 1, 1)
    assert val.labels == (0, 1)
    train, val = read_splits(root, write(tmp_path / "list", "dog\n"))
    assert (train.labels, val.labels) == ((0, 0, 0), (0,))


def test_agrees_with_torchvision(tmp_path):
    datasets = pytest.importorskip("torchvision.datasets")
    for name in ("n02", "N01", "Z", "a b", "ä"):
        folder = tmp_path / "train" / name
        folder.mkdir(parents=True)
        for number, suffix in enumerate(SUFFIXES):
            (folder / f"{number * 7 % 10}{suffix}").touch()
            (folder / f"X{number}{suffix.upper()}").touch()
    theirs = datasets.ImageFolder(tmp_path / "train")
    ours = read_image_folder(tmp_path, "train")
    assert ours.classes == tuple(theirs.classes)
    assert [(str(p), label) for p, label in zip(ours.paths, ours.labels, strict=True)] == (
        theirs.samples
    )


def test_hidden_and_system_files_do_not_count(root):
    (root / "train" / ".ipynb_checkpoints").mkdir()
    for name in (".DS_Store", "._0.JPEG", ".0.ab_c1234.JPEG", "Thumbs.db", "desktop.ini"):
        (root / "train" / "cat" / name).touch()
        (root / "train" / name).touch()
    (root / "val" / "val_annotations.txt").touch()
    train, _ = read_splits(root)
    assert train.classes == ("cat", "dog")
    assert len(train.paths) == 5


def test_links_count_as_what_they_point_to(root, tmp_path):
    shutil.move(root / "train" / "cat", tmp_path / "elsewhere")
    (root / "train" / "cat").symlink_to(tmp_path / "elsewhere")
    (root / "train" / "dog" / "9.png").symlink_to(tmp_path / "elsewhere" / "0.JPEG")
    assert read_image_folder(root, "train").labels == (0, 0, 1, 1, 1, 1)


def test_a_cycle_of_links_ends(root):
    (root / "train" / "cat" / "up.jpg").symlink_to(root / "train")
    with pytest.raises(UserError, match=r"up\.jpg is a folder: move it away"):
        read_image_folder(root, "train")


# Bad trees: what is done to the good one, and the sentence

BAD = {
    "no split": (lambda r: shutil.rmtree(r / "val"), r"val cannot be read \(No such file.*<root>"),
    "a file for a split": (
        lambda r: (shutil.rmtree(r / "val"), (r / "val").touch()),
        r"val cannot be read \(Not a directory\)",
    ),
    "empty split": (
        lambda r: (shutil.rmtree(r / "val"), (r / "val").mkdir()),
        "val holds no class folders",
    ),
    "empty class": (lambda r: (r / "val/cat/0.JPEG").unlink(), "cat holds no picture: add some"),
    "other classes": (
        lambda r: (r / "val/cat").rename(r / "val/cow"),
        r"train and val have different classes \(2 differ\); cat is in train alone",
    ),
    "one more class": (
        lambda r: shutil.copytree(r / "val/cat", r / "val/ant"),
        r"\(1 differ\); ant is in val alone",
    ),
    "same folder": (
        lambda r: (shutil.rmtree(r / "val"), (r / "val").symlink_to(r / "train")),
        "train and val are the same folder",
    ),
    "unsorted": (lambda r: (r / "val/a.JPG").touch(), r"a\.JPG lies outside the class folders"),
    "nested": (lambda r: (r / "train/cat/images").mkdir(), "cat/images is a folder: move it"),
    "folder like a picture": (lambda r: (r / "train/cat/a.jpg").mkdir(), r"a\.jpg is a folder"),
    "text": (lambda r: (r / "train/cat/boxes.txt").touch(), r"boxes\.txt is not a picture by its"),
    "gif": (
        lambda r: (r / "train/cat/a.gif").touch(),
        r"a\.gif is not a picture by its name.*\.png",
    ),
    "no suffix": (lambda r: (r / "train/cat/jpg").touch(), "cat/jpg is not a picture by its name"),
    "pipe": (lambda r: os.mkfifo(r / "train/cat/p.jpg"), r"p\.jpg is a broken link, or not a"),
    "broken picture link": (
        lambda r: (r / "train/cat/b.jpg").symlink_to("gone.jpg"),
        r"b\.jpg is a broken link",
    ),
    "broken class link": (
        lambda r: (r / "train/ox").symlink_to(r / "gone"),
        "train/ox is a broken link, .* restore it",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_tree_is_one_sentence(root, case):
    damage, message = BAD[case]
    damage(root)
    with pytest.raises(UserError, match=message) as caught:
        read_splits(root)
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)


def test_a_folder_that_may_not_be_read_is_one_sentence(root, monkeypatch):
    def scandir(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=r"train cannot be read \(Permission denied\)"):
        read_splits(root)


def test_a_listed_class_that_is_missing(root, tmp_path):
    with pytest.raises(
        UserError, match=r"train has no folder for the class cow \(2 of 3 classes are missing\)$"
    ):
        read_splits(root, write(tmp_path / "list", "cow\ndog\nox\n"))
    with pytest.raises(UserError, match=r"class DOG .* there is dog, and upper and lower case"):
        read_splits(root, write(tmp_path / "list", "DOG\n"))
    with pytest.raises(UserError, match=r"has no folder for the class x{255}"):
        read_splits(root, write(tmp_path / "list", "x" * 255))
    for classes in (["../val/cat"], [".."], [str(root / "train" / "cat")]):
        with pytest.raises(UserError, match="has no folder for the class"):
            read_image_folder(root, "train", classes)
    with pytest.raises(UserError, match="holds no class folders"):
        read_image_folder(root, "train", [])


# Class lists


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("n1\tgoldfish, Carassius\nn2\n", {"n1": "goldfish, Carassius", "n2": "n2"}),
        ("n1 tench, Tinca tinca\r\nn2   great  white \r\n", {"n1": "tench, Tinca tinca",
                                                             "n2": "great  white"}),
        ("\ufeffn1\tone\nn2\ttwo", {"n1": "one", "n2": "two"}),
        ("# of 2\n\n  # indented\n n1\n\t n2\t\n   \n", {"n1": "n1", "n2": "n2"}),
        ("n1\rn2\r", {"n1": "n1", "n2": "n2"}),
        ("polar bear\tPolar bear\nn1\tC#\n", {"polar bear": "Polar bear", "n1": "C#"}),
        ("n1\ta\tb\u2028c\x85d\n", {"n1": "a\tb\u2028c\x85d"}),
        ("n2\tcrane\nn1\tcrane\n", {"n2": "crane", "n1": "crane"}),
    ],
)  # fmt: skip
def test_class_lists(tmp_path, content, expected):
    found = read_class_list(write(tmp_path / "list.txt", content))
    assert list(found.items()) == list(expected.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "names no class"),
        ("# nothing\n\n", "names no class"),
        ("n1\nn2\n\nn1 again\n", "line 4: n1 is listed twice"),
        ("../n1\n", r"line 1: '\.\./n1' is not the name of a class folder"),
        ("n1\n/etc\n", r"line 2: '/etc' is not the name"),
        ("..\n", r"'\.\.' is not the name"),
        (".hidden\n", r"'\.hidden' is not the name"),
        ("a\\b\n", "is not the name"),
        ("a\0b\n", r"'a\\x00b' is not the name"),
        ("x" * 256, "is not the name"),
        ("n1\n".encode("utf-16"), "is not UTF-8 text: save it as one"),
        (b"\xff\xd8\xff\xe0", "is not UTF-8 text"),
    ],
)
def test_a_bad_list_is_one_sentence(tmp_path, content, message):
    path = write(tmp_path / "list.txt", content)
    with pytest.raises(UserError, match=message) as caught:
        read_class_list(path)
    assert str(caught.value).startswith(f"class list {path}")


def test_no_list(tmp_path):
    with pytest.raises(UserError, match=r"list\.txt cannot be read: No such file"):
        read_class_list(tmp_path / "list.txt")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_class_list(tmp_path)


LETTERS = string.ascii_letters + string.digits + "äß漢_-.,"
FOLDERS = st.text(LETTERS, min_size=1, max_size=20).filter(lambda name: name[0] != ".")


@settings(max_examples=25)
@given(
    folders=st.lists(FOLDERS, min_size=1, max_size=8, unique=True),
    end=st.sampled_from(["\n", "\r\n"]),
    gap=st.sampled_from(["\t", " ", " \t", "  "]),
    mark=st.sampled_from(["", "\ufeff"]),
    names=st.lists(st.text(LETTERS + " '", max_size=20), min_size=8, max_size=8),
)
def test_any_list_gives_its_labels_in_order(tmp_path_factory, folders, end, gap, mark, names):
    """Whatever the order, the labels are the lines', in both splits."""
    folder = tmp_path_factory.mktemp("any")
    lines = [f + gap + n for f, n in zip(folders, names, strict=False)]
    path = write(folder / "list.txt", mark + end.join(lines))
    expected = {f: n.strip() or f for f, n in zip(folders, names, strict=False)}
    assert list(read_class_list(path).items()) == list(expected.items())
    counts = {name: 1 + number % 2 for number, name in enumerate(sorted(folders))}
    root = make(folder, {"train": counts, "val": dict.fromkeys(folders, 1)})
    train, val = read_splits(root, path)
    assert train.classes == val.classes == tuple(folders)
    assert [train.classes[label] for label in train.labels] == [p.parent.name for p in train.paths]
    assert val.labels == tuple(range(len(folders)))
    shutil.rmtree(folder)


@given(content=st.binary(max_size=60))
def test_any_bytes_are_a_list_or_a_sentence(tmp_path_factory, content):
    path = write(tmp_path_factory.getbasetemp() / "bytes.txt", content)
    try:
        classes = read_class_list(path)
    except UserError:
        return
    assert classes
    assert not any(set(name) & set("/\\\0\n\r") or name in (".", "..", "") for name in classes)
