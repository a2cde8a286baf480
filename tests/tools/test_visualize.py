"""tools/visualize.py as a user runs it: every mode without a display, every error one sentence."""

import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from atto_det.weights import checkpoint


@pytest.fixture
def draw(run_tool):
    return lambda *arguments: run_tool("visualize.py", *arguments)


@pytest.fixture
def photos_folder(mini_voc, tmp_path):
    """Two pictures and a text file."""
    folder = tmp_path / "photos_in"
    folder.mkdir()
    found = sorted((mini_voc / "mini_voc/JPEGImages").glob("*.jpg"))
    for source in found[:2]:
        shutil.copy(source, folder)
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "drive.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 64))
    for number in range(5):
        frame = np.zeros((64, 96, 3), np.uint8)
        frame[10:40, 10 * number : 10 * number + 30] = (40, 90, 220)
        writer.write(frame)
    writer.release()
    return path


def pictures(folder):
    result = {path.stem: cv2.imread(str(path)) for path in sorted(folder.iterdir())}
    assert all(image is not None for image in result.values())
    return result


def test_ground_truth_from_the_shell(repository, environment, tmp_path):
    """A real interpreter, once, with no display in its environment."""
    done = subprocess.run(
        [sys.executable, str(repository / "tools/visualize.py"), "--dataset", "mini_voc_val"],
        cwd=tmp_path, env=environment | {"QT_QPA_PLATFORM": ""}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "wrote 4 pictures to output/visualize" in done.stdout
    assert len(pictures(tmp_path / "output/visualize")) == 4


def test_predictions_on_an_image_and_a_folder(draw, trained, photos_folder, tmp_path):
    some = next(photos_folder.glob("*.jpg"))
    flags = ["--checkpoint", trained, "--threshold", 0]
    done = draw(*flags, "--output", "one", some)
    assert done.returncode == 0, done.stderr
    assert "wrote 1 pictures to one" in done.stdout
    (drawn,) = pictures(tmp_path / "one").values()
    assert drawn.shape == cv2.imread(str(some)).shape
    done = draw(*flags, "--output", "many", photos_folder, some)
    assert "wrote 3 pictures to many" in done.stdout
    assert len(pictures(tmp_path / "many")) == 3
    done = draw(*flags, "--output", "few", "--limit", 1, photos_folder)
    assert len(pictures(tmp_path / "few")) == 1


def test_the_threshold_decides_what_is_drawn(draw, trained, photos_folder, tmp_path):
    some = next(photos_folder.glob("*.jpg"))
    for name, threshold in (("all", 0), ("none", 1)):
        done = draw("--checkpoint", trained, "--threshold", threshold, "--output", name, some)
        assert done.returncode == 0, done.stderr
    plain = cv2.imread(str(some)).astype(int)
    (everything,) = pictures(tmp_path / "all").values()
    (nothing,) = pictures(tmp_path / "none").values()
    assert abs(nothing - plain).max() < 12  # two decoders of JPEG
    assert abs(everything - plain).max() > 50


def test_a_threshold_below_the_checkpoint_s_own_counts(draw, trained, photos_folder, tmp_path):
    content = checkpoint.load_checkpoint(trained)
    text = content["atto_det"]["config"]
    assert "SCORE_THRESH_TEST: 0.0\n" in text
    strict = text.replace("SCORE_THRESH_TEST: 0.0\n", "SCORE_THRESH_TEST: 0.99\n")
    content["atto_det"]["config"] = strict
    checkpoint.save_checkpoint(tmp_path / "strict.pth", content)
    some = next(photos_folder.glob("*.jpg"))
    for name, path in (("loose", trained), ("strict", tmp_path / "strict.pth")):
        draw("--checkpoint", path, "--threshold", 0.01, "--output", name, some)
    (one,), (other,) = (pictures(tmp_path / name).values() for name in ("loose", "strict"))
    assert np.array_equal(one, other)
    assert abs(one - cv2.imread(str(some)).astype(int)).max() > 50


def test_ground_truth_beside_prediction_and_a_contact_sheet(draw, trained, tmp_path):
    both = ["--checkpoint", trained, "--dataset", "mini_voc_val", "--threshold", 0]
    done = draw(*both, "--limit", 2, "--output", "both")
    assert "wrote 2 pictures to both" in done.stdout, done.stderr
    draw("--dataset", "mini_voc_val", "--limit", 2, "--output", "truth")
    truth = pictures(tmp_path / "truth")
    for name, pair in pictures(tmp_path / "both").items():
        assert pair.shape[1] > 2 * truth[name].shape[1]
    done = draw(*both, "--sheet", "sheets/sheet.png", "--columns", 2)
    assert "wrote 4 pictures on sheets/sheet.png" in done.stdout, done.stderr
    sheet = cv2.imread(str(tmp_path / "sheets/sheet.png"))
    assert sheet.shape[1] > 900  # two tiles of 480
    assert not (tmp_path / "output").exists()


def test_a_video(draw, trained, video, tmp_path):
    done = draw("--checkpoint", trained, "--threshold", 0, "--output", "out", video)
    assert done.returncode == 0, done.stderr
    assert "wrote out/drive.mp4 (5 frames)" in done.stdout
    capture = cv2.VideoCapture(str(tmp_path / "out/drive.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FPS)) == (96, 10)


@pytest.fixture
def own_checkpoint(trained, tmp_path):
    """A checkpoint of a run on an own folder, which is not on this machine."""
    content = checkpoint.load_checkpoint(trained)
    text = content["atto_det"]["config"]
    assert "FOLDERS: []" in text
    content["atto_det"]["config"] = text.replace("FOLDERS: []", "FOLDERS: [[parts, gone/parts]]")
    checkpoint.save_checkpoint(tmp_path / "own.pth", content)
    return tmp_path / "own.pth"


def test_a_checkpoint_alone_is_enough_for_pictures(
    draw, own_checkpoint, photos_folder, video, sentence
):
    done = draw("--checkpoint", own_checkpoint, photos_folder, video)
    assert done.returncode == 0, done.stderr
    assert "gone/parts" in sentence(
        draw("--checkpoint", own_checkpoint, "--dataset", "parts_train")
    )


def test_an_own_folder_by_config_file_or_by_checkpoint(
    draw, own_checkpoint, mini_voc, tiny, tmp_path, environment
):
    root = tmp_path / "own_root"
    shutil.copytree(mini_voc / "mini_voc", root / "gone/parts")
    environment["DETECTRON2_DATASETS"] = str(root)
    config = tmp_path / "own.yaml"
    config.write_text(
        f"_BASE_: {tiny}\nDATASETS:\n  FOLDERS: [[parts, gone/parts]]\n  TRAIN: [parts_train]\n"
    )
    done = draw("--config-file", config, "--dataset", "parts_val", "--output", "truth")
    assert "wrote 4 pictures to truth" in done.stdout, done.stderr
    done = draw("--checkpoint", own_checkpoint, "--dataset", "parts_val", "--output", "both")
    assert "wrote 4 pictures to both" in done.stdout, done.stderr


def test_no_original_is_written_over(draw, sentence, trained, photos_folder, video, tmp_path):
    png = photos_folder / "own.png"
    cv2.imwrite(str(png), cv2.imread(str(next(photos_folder.glob("*.jpg")))))
    before = png.read_bytes(), video.read_bytes()
    text = sentence(draw("--checkpoint", trained, "--output", photos_folder, photos_folder))
    assert "own.png is one of the inputs" in text
    assert "drive.mp4 is one of the inputs" in sentence(
        draw("--checkpoint", trained, "--output", tmp_path, video)
    )
    assert (png.read_bytes(), video.read_bytes()) == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "nothing to draw"),
        (["photo.jpg"], "needs --checkpoint"),
        (["--dataset", "mini_voc_vall"], "there is no data set mini_voc_vall"),
        (["--dataset", "coco_2017_val"], "coco_2017_val"),
        (["--dataset", "voc_2012_seg_val"], "no VOC 2012 at"),
        (["--dataset", "mini_voc_val", "--limit", "0"], "must be at least 1"),
        (["--dataset", "mini_voc_val", "--columns", "0"], "must be at least 1"),
        (["--dataset", "mini_voc_val", "--threshold", "1.5"], "it must be between 0 and 1"),
        (["--dataset", "mini_voc_val", "--threshold", "nan"], "it must be between 0 and 1"),
        (["--dataset", "mini_voc_val", "--sheet", "sheet.xyz"], "sheet.xyz was not written"),
        (["--dataset", "mini_voc_val", "--sheet", "folder"], "folder was not written"),
        (["--dataset", "mini_voc_val", "--output", "file"], "was not written"),
        (
            ["--dataset", "mini_voc_val", "--checkpoint", "nothing.pth"],
            "nothing.pth does not exist",
        ),
        (["--dataset", "mini_voc_val", "--config-file", "nothing.yaml"], "does not exist"),
        (["--checkpoint", "CHECKPOINT", "nothing.jpg"], "nothing.jpg does not exist"),
        (["--checkpoint", "CHECKPOINT", "nothing.mp4"], "nothing.mp4 does not exist"),
        (["--checkpoint", "CHECKPOINT", "folder"], "folder holds no image"),
        (["--checkpoint", "CHECKPOINT", "file"], "file is not an image"),
        (["--checkpoint", "CHECKPOINT", "half.jpg"], "half.jpg cannot be read as a picture"),
        (["--checkpoint", "CHECKPOINT", "--dataset", "mini_voc_val", "half.jpg"], "not both"),
        (["--checkpoint", "CHECKPOINT", "--sheet", "s.png", "drive.mp4"], "--sheet is for"),
        (["--checkpoint", "CHECKPOINT", "drive.mp4", "b/drive.avi"], "two videos would be"),
    ],
)
def test_what_it_cannot_do_is_one_sentence(
    draw, sentence, arguments, text, trained, tmp_path, mini_voc
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("in the way")
    whole = next((mini_voc / "mini_voc/JPEGImages").glob("*.jpg")).read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    given = [str(trained) if part == "CHECKPOINT" else part for part in arguments]
    assert text in sentence(draw(*given))


def test_other_classes_are_refused(draw, sentence, trained, tmp_path):
    content = checkpoint.load_checkpoint(trained)
    content["atto_det"]["class_names"] = content["atto_det"]["class_names"][::-1]
    checkpoint.save_checkpoint(tmp_path / "other.pth", content)
    text = sentence(draw("--checkpoint", tmp_path / "other.pth", "--dataset", "mini_voc_val"))
    assert "mini_voc_val has other classes" in text


def test_a_file_that_is_no_video_is_one_sentence(draw, sentence, trained, video):
    video.write_bytes(b"no video at all")
    text = sentence(draw("--checkpoint", trained, "--output", "out", video))
    assert f"{video} is not a video that OpenCV can read" in text


def test_a_broken_video_is_one_sentence_and_nothing_else(
    repository, environment, trained, video, tmp_path
):
    """In an interpreter of its own, since OpenCV's chatter is silenced at the start."""
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 3])
    done = subprocess.run(
        [sys.executable, str(repository / "tools/visualize.py"), "--checkpoint", str(trained),
         "--output", "out", str(video)],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if not line.startswith("no CUDA device")]
    assert done.returncode == 1
    assert len(lines) == 1, done.stderr
    assert f"{video} is not a video that OpenCV can read" in lines[0]
    assert not (tmp_path / "out/drive.mp4").exists()


def test_a_picture_that_breaks_off_leaves_no_half_file(draw, trained, photos_folder, tmp_path):
    names = sorted(photos_folder.glob("*.jpg"))
    names[1].write_bytes(names[1].read_bytes()[:-100])
    done = draw("--checkpoint", trained, "--output", "out", photos_folder)
    assert done.returncode == 1
    assert names[1].name in done.stderr
    assert [p.stem for p in (tmp_path / "out").iterdir()] == [names[0].stem]
    done = draw("--checkpoint", trained, "--sheet", "sheet.png", photos_folder)
    assert done.returncode == 1
    assert not (tmp_path / "sheet.png").exists()


def test_what_training_sees_on_a_contact_sheet(draw, tiny, tmp_path):
    flags = ["--augmented", "--config-file", tiny, "--output", "out"]
    done = draw(*flags, "--limit", 5, "--columns", 3)
    assert done.returncode == 0, done.stderr
    assert "wrote 5 pictures on out/augmented.png" in done.stdout
    assert cv2.imread(str(tmp_path / "out/augmented.png")).shape[1] > 3 * 480
    done = draw(*flags, "--limit", 2, "--sheet", "mine.jpg")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine.jpg").exists()
    for wrong in (["--augmented"], [*flags, "--dataset", "mini_voc_val"], [*flags, "a.jpg"]):
        done = draw(*wrong)
        assert done.returncode == 1
        assert "error: --augmented draws the training of --config-file, without" in done.stderr
