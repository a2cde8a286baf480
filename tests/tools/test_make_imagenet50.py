"""tools/make_imagenet50.py as a user runs it."""

import json
from pathlib import Path

import imagenet_tree as tree
import pytest

# Kills the process without a word while it writes its n-th file: manifest, names, then pictures.
KILL = """
import os, signal
written = []
def fsync(handle):
    written.append(handle)
    if len(written) == {}:
        os.kill(os.getpid(), signal.SIGKILL)
os.fsync = fsync
"""


@pytest.fixture
def imagenet(tmp_path):
    """Kaggle's layout, and a list of two of its four classes."""
    tree.put(tmp_path / "imagenet", tree.TRAIN["kaggle"] | tree.VALIDATION["kaggle"])
    (tmp_path / "list.txt").write_bytes(tree.NAMES)
    return tmp_path / "imagenet"


@pytest.fixture
def make(run_tool, imagenet):
    """A function that runs the tool on that ImageNet."""
    common = ["--imagenet", imagenet, "--classes", "list.txt"]
    return lambda *arguments, before="": run_tool(
        "make_imagenet50.py", *common, *arguments, before=before
    )


def pictures(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.JPEG")}


def test_select_check_and_again(make, tmp_path):
    done = make("--output", "out", "--check")
    assert done.returncode == 0, done
    source = tmp_path / "imagenet/ILSVRC/Data/CLS-LOC"
    assert done.stdout.splitlines() == [
        f"{tmp_path}/out: 2 classes, 10 + 4 pictures, 14 of them new",
        f"train is from folders of classes in {source}/train",
        f"val is from unsorted pictures in {source}/val, labels of "
        f"{tmp_path}/imagenet/LOC_val_solution.csv",
        "every picture can be decoded",
    ]
    assert done.stderr == ""
    assert pictures(tmp_path / "out") == tree.expected_files()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert Path(manifest["command"][0]).name == "make_imagenet50.py"
    assert manifest["command"][-1] == "--check"
    again = make("--output", "out/")
    assert "2 classes, 10 + 4 pictures, 0 of them new" in again.stdout


def test_the_default_folder(make, tmp_path, environment):
    environment["DETECTRON2_DATASETS"] = str(tmp_path / "sets")
    assert make("--link", "symbolic").returncode == 0
    linked = tmp_path / "sets/ImageNet50/train/n01443537/n01443537_0.JPEG"
    assert linked.is_symlink()
    assert pictures(tmp_path / "sets" / "ImageNet50") == tree.expected_files()


@pytest.mark.parametrize("number", [1, 2, 10])
def test_killed_while_writing_then_resumed(make, sentence, tmp_path, number):
    killed = make("--output", "out", before=KILL.format(number))
    assert killed.returncode == -9
    assert not (tmp_path / "out").exists()
    halves = [p for p in (tmp_path / "out.part").rglob(".*") if p.is_file()]
    assert len(halves) == 1  # so the kill came in the middle of a file
    (tmp_path / "other.txt").write_text("n01443537\n")
    if number > 1:  # the manifest was there: another list is refused
        other = make("--output", "out", "--classes", "other.txt")
        assert "out.part was made from another class list (list.txt)" in sentence(other)
    done = make("--output", "out")
    written = 14 - max(0, number - 3)
    assert f"10 + 4 pictures, {written} of them new" in done.stdout
    assert pictures(tmp_path / "out") == tree.expected_files()
    assert not list(tmp_path.glob("out/**/.*"))
    assert not (tmp_path / "out.part").exists()


def test_unreadable_pictures_are_listed(make, imagenet, tmp_path):
    folder = imagenet / "ILSVRC/Data/CLS-LOC/train/n01443537"
    for number in (0, 2):
        (folder / f"n01443537_{number}.JPEG").write_bytes(b"no picture")
    assert make("--output", "out").returncode == 0
    done = make("--output", "out", "--check")
    assert done.returncode == 1
    assert done.stdout.splitlines()[3].startswith(
        f"{tmp_path}/out/train/n01443537/n01443537_0.JPEG cannot be read as a picture"
    )
    assert "n01443537_2.JPEG cannot be read as a picture" in done.stdout.splitlines()[4]
    assert done.stderr == ""


def test_mistakes_are_one_sentence(make, sentence, tmp_path, imagenet):
    assert "class list gone.txt cannot be read" in sentence(make("--classes", "gone.txt"))
    assert "x cannot be read (File name too long)" in sentence(make("--imagenet", "x" * 300))
    (tmp_path / "bad.txt").write_text("../n01443537\n")
    assert "'../n01443537' is not the name of a class" in sentence(make("--classes", "bad.txt"))
    (tmp_path / "file").touch()
    for output in ("file/out", "/proc/out"):
        assert "was not written: " in sentence(make("--output", output))
    assert "exists and was not made by this tool" in sentence(make("--output", imagenet))
    (imagenet / "LOC_val_solution.csv").unlink()
    assert "no labels of the validation pictures" in sentence(make("--output", "out"))
    wrong = make("--link", "soft")
    assert wrong.returncode == 2
    assert "invalid choice: 'soft'" in wrong.stderr
