"""Where ImageNet's pictures are found, in every layout, and what is said of a bad source."""

import gzip
import hashlib
import json
import os
import shutil
from pathlib import Path

import imagenet_tree as tree
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atto_det.data.image_folder import read_class_list, read_splits
from atto_det.data.imagenet import COPIES, make_selection
from atto_det.errors import UserError

tar_of, class_tars, meta = tree.tar_of, tree.class_tars, tree.meta


pytestmark = pytest.mark.usefixtures("no_sync")


# Layouts


@pytest.mark.parametrize("train", tree.TRAIN)
@pytest.mark.parametrize("val", tree.VALIDATION)
def test_every_layout_gives_the_same_selection(source, wanted, tmp_path, train, val):
    root = source(train, val)
    before = sorted(str(p) for p in root.rglob("*"))
    made = make_selection(root, wanted, tmp_path / "out", command=["tool", "--flag"])
    assert tree.content(tmp_path / "out") == tree.expected_files() | {"class_names.txt": tree.NAMES}
    assert made.written == len(tree.expected_files()) == 14
    assert not (tmp_path / "out.part").exists()
    assert sorted(str(p) for p in root.rglob("*")) == before
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest == made.manifest
    assert manifest["classes"] == list(tree.LISTED)
    assert manifest["pictures"] == {"train": 10, "val": 4}
    assert manifest["by_class"]["train"] == {"n02105855": 7, "n01443537": 3}
    assert manifest["list_sha256"] == hashlib.sha256(b"n02105855\nn01443537\n").hexdigest()
    assert manifest["command"] == ["tool", "--flag"]
    assert str(root) in manifest["layout"]["train"]
    assert str(root) in manifest["layout"]["val"]


def test_a_tar_beside_a_folder_counts(source, wanted, tmp_path):
    """An interrupted unpacking leaves half a folder beside its tar."""
    root = source()
    shutil.rmtree(root / "train" / "n02105855")
    tree.put(root / "train", {"n02105855/n02105855_0.JPEG": b"half"})
    tree.put(root / "train", {"n02105855.tar": class_tars()["n02105855.tar"]})
    made = make_selection(root, wanted, tmp_path / "out")
    assert tree.content(tmp_path / "out") == tree.expected_files() | {"class_names.txt": tree.NAMES}
    assert made.manifest["layout"]["train"].startswith("folders and tars of classes in ")


def test_a_hidden_file_in_a_tar_does_not_count(source, wanted, tmp_path):
    files = {"./._n01443537_0.JPEG": b"x", "../../n01443537_0.JPEG": b"climbs", "/n1.JPEG": b"y"}
    tree.put(source("tars"), {"train/n01443537.tar": tar_of(files)})
    make_selection(tmp_path / "imagenet", wanted, tmp_path / "a" / "b" / "out")
    names = {p.name for p in (tmp_path / "a" / "b" / "out" / "train" / "n01443537").iterdir()}
    assert names == {"n01443537_0.JPEG", "n1.JPEG"}  # in the class's folder, whatever the tar says
    assert [p.name for p in (tmp_path / "a").rglob("*.JPEG") if p.read_bytes() == b"climbs"] == [
        "n01443537_0.JPEG"
    ]


@settings(max_examples=12)
@given(order=st.permutations(tree.WNIDS), count=st.integers(1, 4), data=st.data())
def test_any_list_keeps_its_order(tmp_path_factory, order, count, data):
    """Labels are the lines', from whichever layout; the number of classes is the list's."""
    folder = tmp_path_factory.mktemp("any")
    layouts = [
        data.draw(st.sampled_from(list(each.values()))) for each in (tree.TRAIN, tree.VALIDATION)
    ]
    tree.put(folder / "in", layouts[0] | layouts[1])
    (folder / "list").write_text("\n".join(order[:count]))
    make_selection(folder / "in", folder / "list", folder / "out")
    assert list(read_class_list(folder / "out" / "class_names.txt")) == list(order[:count])
    for split in read_splits(folder / "out", folder / "list"):
        assert split.classes == tuple(order[:count])
        for path, label in zip(split.paths, split.labels, strict=True):
            named = (
                path.name[:9] if path.name.startswith("n") else tree.VAL[int(path.stem[-8:]) - 1]
            )
            assert named == order[label]
    shutil.rmtree(folder)


# Bad sources: files written over a good ImageNet (None removes), layouts, and the sentence


def cut(name, size):
    whole = next(each for each in (*tree.TRAIN.values(), *tree.VALIDATION.values()) if name in each)
    return {name: whole[name][:size]}


CSV, TRUTH = "LOC_val_solution.csv", "ILSVRC2012_validation_ground_truth.txt"
MEMBER = "train/n01443537.tar"
WHOLE = class_tars()["n01443537.tar"]
LAST = -(-len(WHOLE.rstrip(b"\0")) // 512) * 512  # where its last picture's blocks end
VAL_3 = "val/ILSVRC2012_val_00000003.JPEG"
BAD = {
    "no train": ("folders", "folders", {"train": None}, "no training pictures of the listed cla"),
    "no val": ("folders", "folders", {"val": None}, "no validation pictures of the listed classes"),
    "a class without train": (
        "folders", "folders", {"train/n01443537": None},
        r"train has neither a folder nor a tar for the class n01443537 \(1 of 2 classes",
    ),
    "a class without val": (
        "folders", "folders", {"val/n02105855": None}, "val has no folder for the class n02105855",
    ),
    "empty class": (
        "folders", "folders",
        {f"train/n01443537/n01443537_{n}.JPEG": None for n in range(3)},
        "n01443537 holds no picture",
    ),
    "text among pictures": (
        "folders", "folders", {"train/n01443537/boxes.txt": b""}, r"boxes\.txt is not a picture",
    ),
    "sorting not finished": (
        "folders", "folders", {VAL_3: b""}, "has class folders, but 1 pictures beside them: finish",
    ),
    "no labels": ("folders", "kaggle", {CSV: None}, "has no labels of the validation pictures"),
    "other csv": ("folders", "kaggle", {CSV: b"a,b\n1,2\n"}, "is not Kaggle's list: expected"),
    "empty cell": (
        "folders", "kaggle", {CSV: b"ImageId,PredictionString\nx,\n"}, "is not Kaggle's list",
    ),
    "short row": (
        "folders", "kaggle", {CSV: b"ImageId,PredictionString\nx\n"}, "is not Kaggle's list",
    ),
    "binary csv": ("folders", "kaggle", {CSV: b"\xff\0"}, "is not Kaggle's list"),
    "empty csv": (
        "folders", "kaggle", {CSV: b""}, r"LOC_val_solution\.csv says nothing of ILSVRC2012_val",
    ),
    "short ground truth": (
        "folders", "tar, devkit files", {TRUTH: b"2\n300\n"},
        r"says nothing of ILSVRC2012_val_00000003, which is in .*ILSVRC2012_img_val\.tar",
    ),
    "unknown id": (
        "folders", "tar, devkit files", {TRUTH: b"2\n\n1234567\n"},
        f"line 3 of {TRUTH} is not an id that meta.mat knows",
    ),
    "ground truth of words": (
        "folders", "tar, devkit files", {TRUTH: b"dog\n"}, f"line 1 of {TRUTH} is not an id",
    ),
    "no tree.meta.mat": (
        "folders", "tar, devkit files", {"meta.mat": None}, r"meta\.mat cannot be read: No such",
    ),
    "broken tree.meta.mat": (
        "folders", "tar, devkit files", {"meta.mat": meta()[:200]}, "has no readable synsets",
    ),
    "devkit of another kind": (
        "folders", "flat, devkit tar",
        {"ILSVRC2012_devkit_t12.tar.gz": gzip.compress(tar_of({"a": b""}))},
        "is not the devkit: it has no ILSVRC2012_validation_ground_truth.txt",
    ),
    "broken devkit": (
        "folders", "flat, devkit tar",
        {"ILSVRC2012_devkit_t12.tar.gz": tree.DEVKIT_TAR["ILSVRC2012_devkit_t12.tar.gz"][:300]},
        r"devkit_t12\.tar\.gz is not a whole tar archive",
    ),
    "a validation picture is missing": (
        "folders", "flat, devkit tar", {VAL_3: None},
        r"val lacks ILSVRC2012_val_00000003\.JPEG, of the class n02105855 by .*devkit",
    ),
    "tar cut in a picture": (
        "tars", "folders", cut(MEMBER, 700), r"n01443537\.tar is not a whole, uncompressed tar",
    ),
    "tar cut between pictures": (
        "tars", "folders", {MEMBER: WHOLE[:LAST]},
        r"n01443537\.tar is damaged or truncated after 3 files",
    ),
    "tar with a damaged header": (
        "tars", "folders",
        {MEMBER: WHOLE.replace(b"n01443537_1", b"n01443537_X")},
        r"n01443537\.tar is damaged or truncated after 1 files",
    ),
    "an HTML page for a tar": (
        "tars", "folders", {MEMBER: b"<html>" * 300}, "is not a whole, uncompressed tar archive",
    ),
    "an empty file for a tar": (
        "tars", "folders", {MEMBER: b""}, "is not a whole, uncompressed tar",
    ),
    "compressed tar": (
        "tars", "folders", {MEMBER: gzip.compress(WHOLE)}, "is not a whole, uncompressed tar",
    ),
    "tar without pictures": ("tars", "folders", {MEMBER: tar_of({})}, "tar holds no picture"),
    "tar with other files": (
        "tars", "folders", {MEMBER: tar_of({"a.txt": b""})},
        r"holds a\.txt, which is not a picture",
    ),
    "tar with a picture twice": (
        "tars", "folders", {MEMBER: tar_of({"a/1.JPEG": b"", "b/1.JPEG": b""})}, r"1\.JPEG twice",
    ),
    "one tar cut": (
        "one tar", "folders", cut("ILSVRC2012_img_train.tar", 9000),
        r"img_train\.tar(, n\d+\.tar)? is (not a whole|damaged)",
    ),
    "one tar without a class": (
        "one tar", "folders", {"ILSVRC2012_img_train.tar": tar_of({"n01443537.tar": b""})},
        "has no tar for the class n02105855",
    ),
    "one tar with a broken one": (
        "one tar", "folders",
        {"ILSVRC2012_img_train.tar": tar_of(class_tars() | {"n01443537.tar": b"x" * 1024})},
        r"img_train\.tar, n01443537\.tar is not a whole, uncompressed tar archive",
    ),
    "val tar cut": (
        "folders", "tar, kaggle", cut("ILSVRC2012_img_val.tar", 1024),
        "is not a whole, uncompressed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_source_is_one_sentence(source, wanted, tmp_path, case):
    train, val, changes, message = BAD[case]
    root = source(train, val)
    for name, new in changes.items():
        if new is not None:
            tree.put(root, {name: new})
        elif (root / name).is_dir():
            shutil.rmtree(root / name)
        else:
            (root / name).unlink()
    with pytest.raises(UserError, match=message) as caught:
        make_selection(root, wanted, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)
    assert not list(tmp_path.glob("out*"))


def test_no_source(wanted, tmp_path):
    with pytest.raises(UserError, match=r"gone cannot be read \(No such.*ImageNet's train and val"):
        make_selection(tmp_path / "gone", wanted, tmp_path / "out")
    with pytest.raises(UserError, match=r"list\.txt cannot be read \(Not a directory\)"):
        make_selection(wanted, wanted, tmp_path / "out")


def test_class_folders_at_the_top_are_never_validation(tmp_path, wanted):
    """Pointed at the training folder itself, it must not take the same pictures for val."""
    tree.put(tmp_path / "imagenet", tree.class_files())
    with pytest.raises(UserError, match="has no validation pictures of the listed classes"):
        make_selection(tmp_path / "imagenet", wanted, tmp_path / "out")


def test_a_source_that_changes_meanwhile(source, wanted, tmp_path):
    root = source("tars")

    def progress(items, what):
        if what == "writing":
            os.truncate(root / "train" / "n01443537.tar", 1000)
        return items

    with pytest.raises(UserError, match=r"gave \d+ bytes of n01443537_0\.JPEG instead of \d+"):
        make_selection(root, wanted, tmp_path / "out", COPIES, progress)
    with pytest.raises(UserError, match="is not a whole, uncompressed tar archive"):
        make_selection(root, wanted, tmp_path / "out")


def test_a_source_that_may_not_be_read(source, wanted, tmp_path, monkeypatch):
    root, opened = source("tars"), Path.open

    def refuse(self, *arguments, **options):
        if self.suffix == ".tar":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"imagenet cannot be read: .*n02105855\.tar"):
        make_selection(root, wanted, tmp_path / "out")
