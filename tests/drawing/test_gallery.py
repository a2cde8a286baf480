"""Annotated pictures for any predictor, here one that finds a known square."""

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image
from rectangles import rectangle

from atto_det import data
from atto_det.drawing import gallery
from atto_det.drawing.video import Video
from atto_det.errors import UserError
from atto_det.evaluation import Detections

NAMES = ("square", "other")


class FindsSquare:
    """Detects the same square twice: surely and hardly. Keeps what it was shown."""

    def __init__(self, scores=(0.9, 0.3)) -> None:
        self.scores = scores
        self.seen: list[np.ndarray] = []

    def __call__(self, image: np.ndarray, *, order: str = "BGR") -> Detections:
        self.seen.append(image[:, :, :: 1 if order == "BGR" else -1].copy())
        box = (20.0, 10, 50, 30)
        rles = [rectangle(*image.shape[:2], box)] * 2
        return Detections(np.array([box] * 2), rles, np.array([0, 1]), np.array(self.scores))


@pytest.fixture
def photo(tmp_path):
    pixels = np.full((60, 80, 3), 100, np.uint8)
    pixels[:, :, 2] = 180  # red in BGR
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), pixels)
    return path, pixels


def changed(before, after):
    """Rows and columns of the changed part."""
    rows, columns = np.nonzero((before != after).any(axis=2))
    return rows.min(), rows.max(), columns.min(), columns.max()


def test_only_detections_from_the_threshold_on_are_drawn(photo):
    _, pixels = photo
    before = pixels.copy()
    drawn = {
        threshold: gallery.draw_detections(pixels, FindsSquare()(pixels), NAMES, threshold)
        for threshold in (0.3, 0.31, 0.9, 0.91)
    }
    assert np.array_equal(pixels, before)
    assert np.array_equal(drawn[0.91], before)
    assert np.array_equal(drawn[0.31], drawn[0.9])
    assert not np.array_equal(drawn[0.3], drawn[0.9])
    assert not np.array_equal(drawn[0.9], before)
    assert (drawn[0.9][15:25, 25:45] != before[15:25, 25:45]).any(axis=2).all()  # the mask
    assert np.array_equal(drawn[0.9][40:, 60:], before[40:, 60:])


def test_the_predictor_sees_bgr_as_opencv_reads_it(photo):
    path, pixels = photo
    predictor = FindsSquare()
    ((name, tile),) = gallery.image_tiles([path], predictor, NAMES, 0.5)
    assert name == "photo"
    assert np.array_equal(predictor.seen[0], pixels)
    assert np.array_equal(tile[50:, 70:], pixels[50:, 70:])


def test_lists_of_images(tmp_path, photo):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("b.JPG", "a.png", "notes.txt"):
        (folder / name).write_bytes(b"")
    (folder / "inner.png").mkdir()
    assert gallery.list_images([photo[0], folder])[:3] == [
        photo[0], folder / "a.png", folder / "b.JPG"
    ]  # fmt: skip
    assert folder / "inner.png" not in gallery.list_images([folder])
    assert gallery.list_images([]) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [("empty", "holds no image"), ("nothing.jpg", "does not exist"), ("a.txt", "is not an image")],
)
def test_what_is_no_image_is_named(tmp_path, name, text):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(UserError, match=f"{tmp_path}/{name} {text}"):
        gallery.list_images([tmp_path / name])


def test_files_of_one_name_keep_distinct_names(tmp_path):
    paths = []
    for name in ("a/x.png", "b/x.png", "b/x_2.png", "c/x.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (80, 60)).save(path)
        paths.append(path)
    tiles = gallery.image_tiles(paths, FindsSquare(), NAMES, 0.5)
    gallery.write_tiles(tiles, tmp_path / "out", None, 4)
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["x.png", "x_2.png", "x_2_2.png", "x_3.png"]


def test_no_picture_and_no_video_is_written_over(tmp_path, photo):
    path, _ = photo
    gallery.check_targets(tmp_path / "elsewhere", [path], [])
    gallery.check_targets(tmp_path, [tmp_path / "photo.jpg"], [])
    (tmp_path / "link").symlink_to(tmp_path)
    for folder in (tmp_path, tmp_path / "link", tmp_path / "x/.."):
        with pytest.raises(UserError, match=r"photo.png is one of the inputs: choose another"):
            gallery.check_targets(folder, [path], [])
    with pytest.raises(UserError, match=r"photo.png is one of the inputs: choose another"):
        gallery.check_targets(tmp_path / "out", [path], [], sheet=tmp_path / "link/photo.png")
    video = tmp_path / "drive.mp4"
    assert gallery.check_targets(tmp_path / "out", [], [video]) == [tmp_path / "out/drive.mp4"]
    with pytest.raises(UserError, match=r"drive.mp4 is one of the inputs: choose another"):
        gallery.check_targets(tmp_path, [], [video])
    with pytest.raises(UserError, match=r"two videos would be written to .*out/drive.mp4"):
        gallery.check_targets(tmp_path / "out", [], [video, tmp_path / "b/drive.avi"])


def test_a_data_set_is_not_drawn_into_its_own_folders(mini_voc, tmp_path):
    dataset = data.load_voc(mini_voc / "mini_voc", "val", cache=False)
    for name in ("JPEGImages", "SegmentationClass", "SegmentationObject", "x/../JPEGImages"):
        folder = mini_voc / "mini_voc" / name
        with pytest.raises(UserError, match="holds the data set's own files"):
            gallery.check_dataset_target(folder, dataset)
        with pytest.raises(UserError, match="holds the data set's own files"):
            gallery.check_dataset_target(tmp_path, dataset, folder / "sheet.png")
    gallery.check_dataset_target(tmp_path, dataset)
    gallery.check_dataset_target(mini_voc, dataset, tmp_path / "sheet.png")


def test_names_of_a_file_never_lead_out_of_the_folder(tmp_path):
    """As the file names of a downloaded COCO JSON may."""
    other = tmp_path / "other.png"
    other.write_bytes(b"mine")
    tile = np.zeros((4, 4, 3), np.uint8)
    names = [str(other.with_suffix("")), "../other", "a/../../other", "C:\\x", "..", "", "n\0l"]
    names += ["x" * 5000, "a/b", "A/b"]
    out = tmp_path / "out"
    gallery.write_tiles([(name, tile) for name in names], out, None, 4)
    assert other.read_bytes() == b"mine"
    assert {path.name for path in tmp_path.iterdir()} == {"other.png", "out"}
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) == len(names)
    (out / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match="link is a link that leads out of"):
        gallery.write_tiles([("link/other", tile)], out, None, 4)
    assert other.read_bytes() == b"mine"


def test_ground_truth_alone_and_beside_a_prediction(mini_voc, tmp_path, monkeypatch):
    monkeypatch.setenv("ATTO_DET_CACHE", str(tmp_path))
    dataset = data.load_voc(mini_voc / "mini_voc", "val")
    alone = list(gallery.dataset_tiles(dataset, None, 0.5, None))
    assert [name for name, _ in alone] == [record.image_id for record in dataset.records]
    for (_, tile), record in zip(alone, dataset.records, strict=True):
        assert tile.shape == (record.height, record.width, 3)
        plain = data.read_image(record.file_name)[:, :, ::-1]
        for item in record.instances:  # each object is tinted
            inside = mask_util.decode(item.rle).astype(bool)
            assert (tile[inside] != plain[inside]).any(axis=1).mean() > 0.9
    predictor = FindsSquare()
    both = list(gallery.dataset_tiles(dataset, predictor, 0.5, 2))
    assert len(both) == len(predictor.seen) == 2
    for (_, one), (_, two) in zip(alone[:2], both, strict=True):
        assert two.shape[1] > 2 * one.shape[1]
        below = two.shape[0] - one.shape[0]
        assert np.array_equal(two[below:, : one.shape[1]], one)


def test_a_video_keeps_its_size_rate_and_length(tmp_path):
    writer = cv2.VideoWriter(
        str(tmp_path / "in.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 12, (80, 60)
    )
    for number in range(5):
        writer.write(np.full((60, 80, 3), 40 * number, np.uint8))
    writer.release()
    totals = []

    def track(frames, total):
        totals.append(total)
        return frames

    predictor = FindsSquare()
    target = tmp_path / "out/in.mp4"
    count = gallery.annotate_video(tmp_path / "in.avi", target, predictor, NAMES, 0.5, track)
    assert (count, totals) == (5, [5])
    levels = [round(float(image.mean())) for image in predictor.seen]
    assert levels == pytest.approx([0, 40, 80, 120, 160], abs=6)
    written = Video(target)
    assert (written.size, round(written.fps), written.frame_count) == ((80, 60), 12, 5)
    frames = list(written)
    assert abs(frames[2][20, 35].astype(int) - frames[2][50, 70].astype(int)).max() > 20
