"""tools/infer_onnx.py as a user copies it onto a device: nothing but three packages is there."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import detector_file as file
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as mask_util

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from atto_det import cli
from atto_det.data import read_image
from atto_det.drawing.video import Video
from atto_det.export.onnx_export import export
from atto_det.export.runtimes import OnnxDetector
from atto_det.export.samples import pictures_to_check
from atto_det.ops.paste_masks import paste_masks

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools/infer_onnx.py"
tool = SimpleNamespace(**runpy.run_path(str(TOOL)))

MODEL = ("--model", "model.onnx")

# What is neither of the standard library nor of the three packages cannot be imported.
START = """
import importlib.abc, runpy, sys
class OnlyThree(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names | {"cv2", "numpy", "onnxruntime"}:
            raise ModuleNotFoundError(f"{name} is not on the device", name=name)
sys.meta_path.insert(0, OnlyThree())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    """A folder with the tool, a model of its own and a picture."""
    folder = tmp_path_factory.mktemp("device")
    (folder / "infer_onnx.py").write_text(TOOL.read_text())
    [picture] = pictures_to_check([])
    cv2.imwrite(str(folder / "photo.png"), picture[:300, :400, ::-1])
    cv2.imwrite(str(folder / "photo.jpg"), picture[:300, :400, ::-1])
    path = file.write(folder / "model.pth", "INPUT.FORMAT", "BGR")
    export(path, folder / "model.onnx", [picture[:300, :400]])
    return folder


@pytest.fixture
def infer_here(device, run_here):
    """A function that runs the tool there, in this process."""
    return lambda *arguments: run_here(device / "infer_onnx.py", *arguments, folder=device)


@pytest.fixture
def infer(device):
    """A function that runs the tool there, in a Python of three packages."""
    return lambda *arguments: subprocess.run(
        [sys.executable, "-c", START, "infer_onnx.py", *map(str, arguments)],
        cwd=device,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_picture(infer, device):
    done = infer("photo.png", "--model", "model.onnx", "--threshold", "0.3")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = OnnxDetector(device / "model.onnx")(device / "photo.png")
    count = int((found.scores >= 0.3).sum())
    assert count > 0
    head, *rows, last = done.stdout.splitlines()
    assert head.split()[:2] == ["class", "score"]
    assert last == "wrote found.png"
    assert len(rows) == count
    for index, row in enumerate(rows):
        name, score, *corners, area = row.split()
        assert name == file.CLASSES[found.classes[index]]
        assert float(score.rstrip("%")) == pytest.approx(100 * found.scores[index], abs=0.06)
        np.testing.assert_allclose(list(map(float, corners)), found.boxes[index], atol=0.06)
        rle = found.rles[index]
        assert int(area.replace(",", "")) == pytest.approx(int(mask_area(rle)), abs=5)
    before, after = (cv2.imread(str(device / name)) for name in ("photo.png", "found.png"))
    assert after.shape == before.shape
    assert (before != after).any()


def test_folders_videos_and_json(infer, device, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("photo.png", "photo.jpg"):
        (folder / name).write_bytes((device / name).read_bytes())
    frame = cv2.imread(str(device / "photo.png"))
    code = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(folder / "drive.avi"), code, 5, frame.shape[1::-1])
    for _ in range(3):
        writer.write(frame)
    writer.release()
    out, rows = tmp_path / "out", tmp_path / "found.json"
    flags = ("--model", "model.onnx", "--threshold", "0.3", "--output", out, "--json", rows)
    done = infer(folder, *flags)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {"photo.png", "photo_2.png", "drive.mp4"}
    assert (Video(out / "drive.mp4").frame_count, Video(out / "drive.mp4").fps) == (3, 5)
    records = json.loads(rows.read_text())
    named = [(Path(item["file"]).name, item["frame"]) for item in records]
    assert named == [
        *(("drive.avi", k) for k in range(3)), ("photo.jpg", None), ("photo.png", None)
    ]  # fmt: skip
    found = OnnxDetector(device / "model.onnx")(device / "photo.png")
    sure = found.scores >= 0.3
    ours = records[-1]["detections"]
    assert (records[-1]["height"], records[-1]["width"]) == frame.shape[:2]
    assert [item["class"] for item in ours] == [file.CLASSES[k] for k in found.classes[sure]]
    np.testing.assert_allclose([item["box"] for item in ours], found.boxes[sure], atol=1e-3)
    for item, rle in zip(ours, found.rles, strict=False):
        runs = mask_util.frPyObjects(item["mask"], *item["mask"]["size"])
        overlap = mask_util.iou([runs], [rle], [0])[0, 0]
        assert overlap > 0.99 or mask_util.area(rle) < 20


def test_values_that_are_not_finite_are_a_mistake():
    class Broken:
        def run(self, names, feeds):
            boxes = np.float32([[1, 2, np.nan, 4]])
            return [boxes, np.array([0]), np.float32([0.9]), np.zeros((1, 28, 28), np.float32)]

    metadata = {"channel_order": "RGB", "class_names": ["a"]}
    with pytest.raises(tool.Mistake, match="values that are NaN or infinite"):
        tool.detect(Broken(), metadata, np.zeros((5, 5, 3), np.uint8))


def test_a_box_without_area_is_no_detection():
    class Flat:
        def run(self, names, feeds):
            boxes = np.float32([[1, 2, 1, 4], [-3, 1, 9, 2]])
            return [boxes, np.array([0, 0]), np.float32([0.9, 0.8]), np.ones((2, 28, 28))]

    metadata = {"channel_order": "RGB", "class_names": ["a"]}
    picture = np.zeros((5, 5, 3), np.uint8)
    found = tool.detect(Flat(), metadata, picture)
    assert found[0].tolist() == [[0, 1, 5, 2]]
    assert tool.runs_of(found[0][0], found[3][0], 5, 5) == [1, *[1, 4] * 4, 1, 3]
    assert (tool.draw(picture, found, ["a"]) != picture).any()


def test_atto_det_infer_is_the_same(infer_here, device, tmp_path, monkeypatch, capsys):
    path = tmp_path / "a.png"
    arguments = ["photo.png", "--model", "model.onnx", "--threshold", "0.3", "--output", str(path)]
    alone = infer_here(*arguments).stdout
    drawn = path.read_bytes()
    path.unlink()
    monkeypatch.chdir(device)
    assert cli.main(["infer", *arguments]) == 0
    assert capsys.readouterr().out == alone
    assert path.read_bytes() == drawn
    assert cli.main(["infer", "nothing.png", "--model", "model.onnx"]) == 1
    assert capsys.readouterr().err.startswith("error: nothing.png ")


def test_atto_det_infer_knows_the_same_flags(infer_here, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["infer", "--help"])
    ours, theirs = capsys.readouterr().out, infer_here("--help").stdout
    flags = [set(re.findall(r"--\w+", text.partition("options:")[2])) for text in (ours, theirs)]
    assert flags[0] == flags[1] > {"--model", "--output"}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_phone_photos_are_read_as_everywhere(device, tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(device / "photo.png") as photo:
        photo.save(tmp_path / "phone.png", exif=exif)
        photo.save(tmp_path / "phone.jpg", exif=exif)
    for path in tmp_path.iterdir():
        ours = read_image(path)[:, :, ::-1].astype(int)
        assert np.abs(tool.read_picture(path) - ours).max() <= 3  # two decoders of JPEG


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
def test_sixteen_bits_are_read_as_everywhere(tmp_path, shape):
    pixels = np.random.default_rng(0).integers(0, 65536, shape, np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    found = tool.read_picture(tmp_path / "a.png")
    assert (found == read_image(tmp_path / "a.png")[:, :, ::-1]).all()
    assert found.dtype == np.uint8


def mask_area(rle: dict) -> float:
    return mask_util.area(rle)


def test_tiles_as_everywhere(infer_here, device):
    done = infer_here("photo.png", *MODEL, "--threshold", 0, "--tile", 160, "--json", "tiles.json")
    assert done.returncode == 0, done.stderr
    [row] = json.loads((device / "tiles.json").read_text())
    found = row["detections"]
    wanted = OnnxDetector(device / "model.onnx", tile=160)(device / "photo.png")
    assert len(found) == len(wanted.scores) > 10
    unlike = 0
    for one in found:
        same = np.abs(wanted.boxes - one["box"]).max(axis=1) < 1e-3
        [index] = np.flatnonzero(same & (wanted.classes == one["class_index"]))
        assert one["score"] == pytest.approx(wanted.scores[index])
        mask = np.repeat(np.arange(len(one["mask"]["counts"])) % 2, one["mask"]["counts"])
        mask = mask.reshape(*one["mask"]["size"], order="F")
        unlike += (mask != mask_util.decode(wanted.rles[index])).sum()
    assert unlike <= 5 * len(found)  # where the value is within rounding of a half
    untiled, large = (
        infer_here("photo.png", *MODEL, "--tile", side).stdout for side in (401, 1000)
    )
    assert untiled == large == infer_here("photo.png", *MODEL).stdout


def test_objects_over_borders_of_tiles():
    """The rectangles of tests/evaluation/test_tiling.py, as masks that fill their boxes."""
    here = Path(__file__).parents[1] / "evaluation/test_tiling.py"
    tiling = SimpleNamespace(**runpy.run_path(str(here)))

    def look(image: np.ndarray) -> list:
        found = tiling.seen(image)
        masks = np.ones((len(found.scores), 28, 28), np.float32)
        return [found.boxes, found.classes, found.scores, masks]

    picture = tiling.painted(
        150, 301, across=(20, 30, 280, 60), corner=(80, 65, 160, 140), small=(170, 100, 176, 110)
    )
    wanted = look(picture)
    boxes, classes, scores, masks = tool.detect_in_tiles(look, picture, 100)
    assert (np.diff(scores) < 0).all()  # of the largest part that a tile shows
    assert boxes.tolist() == wanted[0][[1, 0, 2]].tolist()
    assert classes.tolist() == wanted[1][[1, 0, 2]].tolist()
    assert [mask.shape for mask in masks] == [(75, 80), (30, 260), (10, 6)]
    assert min(mask.mean() for mask in masks) > 0.9  # all but corners of each tile's part
    drawn = tool.draw(picture, [boxes, classes, scores, masks], ["a", "b"])
    assert (drawn != picture).any()


def test_nothing_above_the_threshold(infer_here, device):
    done = infer_here(
        "photo.jpg", "--model", "model.onnx", "--threshold", "1", "--output", "same.png"
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    same = cv2.imread(str(device / "same.png"))
    assert (same == cv2.imread(str(device / "photo.jpg"))).all()


def test_mistakes_are_one_sentence(infer, infer_here, device):
    model, small = ("--model", "model.onnx"), ("--model", "small.onnx")
    (device / "text.png").write_text("no picture")
    (device / "empty.png").touch()
    (device / "text.mp4").write_text("no video")
    (device / "nothing").mkdir()
    whole = (device / "photo.jpg").read_bytes()
    (device / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (device / "text.onnx").write_text("no model")
    import onnx

    content = onnx.load(device / "model.onnx")
    kind = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [None])
    node = onnx.helper.make_node("Identity", ["image"], ["boxes"])
    out = onnx.helper.make_tensor_value_info("boxes", onnx.TensorProto.UINT8, [None])
    graph = onnx.helper.make_graph([node], "small", [kind], [out])
    others = {
        "small": {},  # loaded in no time, for mistakes that are noticed before it runs
        "foreign": None,
        "new": {"atto_det_format": "7"},
        "long": {"atto_det_format": "7" * 5000},
        "back": {},
        "words": {"class_names": "no JSON"},
        "deep": {"class_names": "[" * 10**5},
        "order": {"channel_order": '"HSV"'},
        "kinds": {"class_names": "[1, 2]"},
        "few": {"class_names": "[]"},
    }
    for name, changes in others.items():
        other = onnx.ModelProto()
        other.CopyFrom(content)
        if name != "few":
            other.graph.CopyFrom(graph)
        texts = {item.key: item.value for item in content.metadata_props} | (changes or {})
        if name == "back":
            texts["kind"] = '"backbone"'
        del other.metadata_props[:]
        onnx.helper.set_model_props(other, texts if changes is not None else {})
        onnx.save(other, device / f"{name}.onnx")
    for arguments, text in (
        (("none.png", *small), "none.png cannot be read: No such file"),
        (("text.png", *small), "text.png is not a picture, or a damaged one"),
        (("empty.png", *small), "empty.png is not a picture, or a damaged one"),
        (("cut.jpg", *small), "cut.jpg is not a picture, or a damaged one"),
        (("photo.png", "--model", "none.onnx"), "none.onnx does not exist"),
        (("photo.png", "--model", "text.onnx"), "text.onnx is not an ONNX model, or damaged"),
        (("photo.png", "--model", "foreign.onnx"), "foreign.onnx was not written by atto_det"),
        (("photo.png", "--model", "new.onnx"), "new.onnx has format 7, this program reads 1"),
        (("photo.png", "--model", "back.onnx"), "back.onnx holds a backbone, which detects no"),
        (("photo.png", "--model", "long.onnx"), "long.onnx was not written by atto_det"),
        (("photo.png", "--model", "words.onnx"), "words.onnx has metadata that was damaged"),
        (("photo.png", "--model", "deep.onnx"), "deep.onnx has metadata that was damaged"),
        (("photo.png", "--model", "order.onnx"), "order.onnx has metadata that was damaged"),
        (("photo.png", "--model", "kinds.onnx"), "kinds.onnx has metadata that was damaged"),
        (("photo.png", "--model", "few.onnx", "--output", "a.png"), "photo.png: the model finds"),
        (("photo.png", *small, "--output", "photo.png"), "photo.png is one of the inputs"),
        (("photo.png", *small, "--json", "small.onnx"), "small.onnx is one of the inputs"),
        (
            ("photo.png", *small, "--output", "a.png", "--json", "a.png"),
            "a.png is one of the inputs",
        ),
        (("photo.png", *small, "--threshold", "nan"), "--threshold is nan; it must be between"),
        (("photo.png", *small, "--threshold", "-1"), "--threshold is -1.0; it must be between"),
        (("photo.png", *model, "--output", "a.png", "--json", "no/a.json"), "no/a.json was not"),
        (("photo.png", "photo.jpg", *small, "--output", "photo.jpg"), "photo.jpg cannot be made"),
        ((device / "nothing", *small), f"{device}/nothing holds no picture"),
        (("text.mp4", *small, "--output", "a.videos"), "text.mp4 is not a video that OpenCV can"),
        (("photo.png", *model, "--output", "no/a.png"), "no/a.png was not written: No such file"),
        (("photo.png", *model, "--output", "a.xyz"), "a.xyz was not written: use .png or .jpg"),
    ):
        # OpenCV writes of videos to the process's own output.
        done = (infer if arguments[0] == "text.mp4" else infer_here)(*arguments)
        assert done.returncode == 1
        assert done.stderr.splitlines() == [done.stderr.strip()]
        assert done.stderr.startswith(f"error: {text}")
    assert not list(device.glob(".*"))
    assert [path.name for path in device.glob("a.*")] == ["a.videos"]


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(*[st.floats(0, 30, width=32) for _ in range(2)]),
    st.tuples(*[st.floats(0.5, 30, width=32) for _ in range(2)]),
)
@settings(max_examples=60)
def test_masks_are_pasted_as_everywhere(seed, corner, size):
    mask = np.random.default_rng(seed).random((28, 28)).astype(np.float32)
    box = np.float32([*corner, min(corner[0] + size[0], 48), min(corner[1] + size[1], 40)])
    place, inside = tool.paste(mask, box, 40, 48)
    found = np.zeros((40, 48), bool)
    found[place] = inside
    wanted = paste_masks(torch.tensor(mask)[None], torch.tensor(box)[None], 40, 48, 0.5)[0].numpy()
    assert (found != wanted).sum() <= 2  # where the value is within rounding of a half


def test_it_is_one_short_file_of_its_own():
    text = TOOL.read_text()
    assert len(text.splitlines()) < 420
    assert "import atto_det" not in text
    assert "from atto_det" not in text
