"""tools/prepare_voc.py as a user runs it."""

import functools
import http.server
import json
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from atto_det.data import load_voc
from atto_det.data.mini_voc import generate


@pytest.fixture
def run(run_tool, environment):
    """A function that runs the tool, with changes to the environment."""
    del environment["DETECTRON2_DATASETS"]

    def run(*arguments, **changes):
        environment.update(changes)
        return run_tool("prepare_voc.py", *arguments)

    return run


@pytest.fixture
def voc(tmp_path):
    generate(tmp_path / "data" / "VOC2012", train=3, val=2)
    return tmp_path / "data" / "VOC2012"


def test_check_finds_the_folder_by_environment(run, voc, tmp_path):
    result = run("--check", DETECTRON2_DATASETS=str(tmp_path / "data"))
    assert result.returncode == 0, result.stderr
    assert "0 errors, 0 warnings" in result.stdout
    assert "trainval" in result.stdout


def test_warnings_exit_0_and_errors_exit_1(run, voc, tmp_path):
    xml = voc / "Annotations" / "mini_000001.xml"
    whole = xml.read_text()
    end = whole.index("\t<object>")
    xml.write_text(whole[:end] + "</annotation>")
    result = run("--check", "--folder", voc, "--output", "report.json")
    assert result.returncode == 0
    assert "warning [no_object]" in result.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["errors"] == 0
    assert report["warnings"] == len(report["findings"]) > 0
    assert report["findings"][0]["image_id"] == "mini_000001"

    jpeg = voc / "JPEGImages" / "mini_000002.jpg"
    jpeg.write_bytes(jpeg.read_bytes()[:-3000])
    (voc / "SegmentationObject" / "mini_000003.png").unlink()
    result = run("--check", "--folder", voc)
    assert result.returncode == 1
    assert "error [file]" in result.stdout
    assert "mini_000002.jpg cannot be read" in result.stdout
    assert "mini_000003.png does not exist" in result.stdout
    assert "2 errors" in result.stdout
    assert "Traceback" not in result.stderr


def test_to_coco_is_deterministic(run, voc, tmp_path):
    for name in ("a.json", "b.json"):
        result = run("--to-coco", "val", "--output", name, "--folder", "data/VOC2012")
        assert result.returncode == 0, result.stderr
        assert f"wrote {name}" in result.stdout
    content = (tmp_path / "a.json").read_bytes()
    assert content == (tmp_path / "b.json").read_bytes()
    assert len(json.loads(content)["images"]) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--check"], "error: no VOC 2012 at datasets/VOC2012"),
        (["--check", "--folder", "nowhere"], "error: no lists at"),
        (["--to-coco", "none", "--output", "x", "--folder", "data/VOC2012"], "none.txt does not"),
        (
            ["--to-coco", "val", "--output", "/proc/x.json", "--folder", "data/VOC2012"],
            "/proc/x.json was not written",
        ),
    ],
)
def test_mistakes_are_one_sentence(run, voc, arguments, sentence):
    result = run(*arguments, DETECTRON2_DATASETS="datasets")
    assert result.returncode == 1
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_any_form_into_any_other(run, voc, tmp_path):
    """VOC layout to COCO JSON, that to VOC layout, and both checked."""
    assert run("--to-coco", "train", "--output", "a.json", "--folder", voc).returncode == 0
    images = ("--images", voc / "JPEGImages")
    result = run("--check", "--folder", "a.json", *images)
    assert result.returncode == 0, result.stderr
    assert "0 errors, 0 warnings" in result.stdout
    result = run("--to-voc", "again", "--folder", "a.json", *images)
    assert result.returncode == 0, result.stderr
    assert "wrote again: 3 pictures" in result.stdout
    assert "0 errors, 0 warnings" in run("--check", "--folder", "again").stdout
    one, other = load_voc(voc, "train", cache=False), load_voc(tmp_path / "again", "a", cache=False)
    assert [r.instances for r in one.records] == [
        tuple(replace(item, difficult=item.difficult) for item in r.instances)
        for r in other.records
    ]

    (voc / "JPEGImages/mini_000001.jpg").unlink()
    content = json.loads((tmp_path / "a.json").read_text())
    content["annotations"][-1]["segmentation"] = None
    del content["annotations"][-1]["bbox"]
    (tmp_path / "a.json").write_text(json.dumps(content))
    result = run("--check", "--folder", "a.json", *images)
    assert result.returncode == 1
    assert "error [file]" in result.stdout
    result = run("--to-voc", "third", "--folder", "a.json", *images)
    assert result.returncode == 1
    assert "mini_000001.jpg does not exist" in result.stderr
    assert not (tmp_path / "third").exists()


def test_yolo_and_colours(run, tmp_path):
    for name in ("images", "labels"):
        (tmp_path / "yolo" / name).mkdir(parents=True)
    Image.new("RGB", (20, 10)).save(tmp_path / "yolo/images/a.jpg")
    (tmp_path / "yolo/labels/a.txt").write_text("0 0.1 0.2 0.5 0.2 0.5 0.8 0.1 0.8\n7 1 1 1 1\n")
    (tmp_path / "yolo/data.yaml").write_text("train: images\nnames: [cup]\n")
    result = run("--check", "--folder", "yolo")
    assert result.returncode == 0, result.stderr
    assert "a.txt, line 2 has the class 7" in result.stdout
    assert "0 errors, 1 warnings" in result.stdout
    result = run("--to-voc", "voc", "--folder", "yolo/data.yaml")
    assert "wrote voc: 1 pictures, 1 objects" in result.stdout
    assert "1 annotations could not be used" in result.stdout
    assert run("--to-coco", "train", "--output", "x.json", "--folder", "yolo").returncode == 0

    colours = np.zeros((10, 20, 3), np.uint8)
    colours[2:8, 2:10] = (250, 50, 83)
    for name in ("SegmentationClass", "SegmentationObject"):
        Image.fromarray(colours).save(tmp_path / "voc" / name / "a.png")
    shutil.rmtree(tmp_path / "voc/Annotations")
    (tmp_path / "table.txt").write_text("cup:250,50,83")
    flags = ("--folder", "voc", "--from-colours", "table.txt")
    assert run(*flags).returncode == 2
    result = run(*flags, "--to-voc", "indices")
    assert result.returncode == 0, result.stderr
    assert "0 errors, 0 warnings" in run("--check", "--folder", "indices").stdout


def test_a_wrong_download_is_removed(run, tmp_path):
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "voc.tar").write_bytes(b"not VOC" * 1000)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/voc.tar"
        result = run("--root", "fresh", "--url", url)
        server.shutdown()
    assert result.returncode == 1
    assert "error: " in result.stderr
    assert "instead of 6cd6e144f989b92b3379bac3b3de84fd, which was removed" in result.stderr
    assert list((tmp_path / "fresh").iterdir()) == []


def test_an_unfinished_voc_is_not_overwritten(run, tmp_path):
    (tmp_path / "data" / "VOC2012" / "JPEGImages").mkdir(parents=True)
    result = run("--root", "data", "--url", "http://127.0.0.1:9/voc.tar")
    assert result.returncode == 1
    assert "VOC2012 exists, but is not a whole VOC 2012" in result.stderr


def test_real_photos(run, photos):
    for name, warnings in (("VOC2012", 2), ("CarParts", 0)):
        result = run("--check", "--folder", photos / name)
        assert result.returncode == 0
        assert f"0 errors, {warnings} warnings" in result.stdout
