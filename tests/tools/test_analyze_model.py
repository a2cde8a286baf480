"""tools/analyze_model.py as a user runs it."""

import json
import shutil

import pytest

pytest.importorskip("detectron2", reason="Detectron2 is not installed")


def test_the_main_model_beside_every_baseline(run_tool, repository, tmp_path):
    done = run_tool(
        "analyze_model.py",
        *("--config-file", repository / "configs/atto_maskrcnn_voc.yaml"),
        *("--against", "r50-fpn", "r50-c4", "torchvision", "--input", "1024x1024"),
        *("--output", tmp_path / "out", "--memory"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for text in ("At 1024x1024", "18.29", "181.9", "1.93×", "5.06×", "peak memory", "torchvision"):
        assert text in done.stdout
    assert "1000 proposals and 100 detections per picture." in done.stdout
    content = json.loads((tmp_path / "out/complexity.json").read_text())
    assert [detector["name"] for detector in content["detectors"]] == [
        "atto_maskrcnn_voc",
        "r50-fpn",
        "r50-c4",
        "torchvision",
    ]
    ratio = content["detectors"][2]["inputs"]["1024x1024"]["ratio"]
    assert (round(ratio["parameters"], 2), round(ratio["macs"], 2)) == (1.93, 5.06)
    assert "--against" in content["command"]
    assert (tmp_path / "out/complexity.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out/complexity.md").read_text().count("## ") == 5


@pytest.mark.slow
def test_a_retinanet_beside_its_zoo_s_and_others(run_tool, tmp_path):
    config = tmp_path / "atto_retinanet.yaml"
    config.write_text(
        "MODEL:\n  META_ARCHITECTURE: RetinaNet\n  RETINANET: {NUM_CLASSES: 20}\n"
        "  BACKBONE: {NAME: build_retinanet_attonet_fpn_backbone, FREEZE_AT: 0}\n"
        "  FPN: {IN_FEATURES: [res3, res4, res5]}\n"
    )
    zoo = "COCO-Detection/retinanet_R_50_FPN_3x.yaml"
    done = run_tool(
        "analyze_model.py",
        *("--config-file", config, "--against", zoo, "Misc/semantic_R_50_FPN_1x.yaml", "r50-fpn"),
        *("--input", "64x96", "--output", tmp_path / "out", "--memory"),
    )
    assert done.returncode == 0, done.stderr
    for text in ("dense head", "semantic head", "mask head", zoo):
        assert text in done.stdout
    own, other, *_ = json.loads((tmp_path / "out/complexity.json").read_text())["detectors"]
    heads = [
        next(p["macs"] for p in net["inputs"]["64x96"]["parts"] if p["name"] == "dense_head")
        for net in (own, other)
    ]
    assert heads[0] > 0.9 * heads[1]  # 20 classes in both; the anchors of one are fewer
    assert (tmp_path / "out/complexity.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_on_pictures_with_a_checkpoint(run_tool, trained, mini_voc, tmp_path):
    (tmp_path / "photos").mkdir()
    for path in sorted((mini_voc / "mini_voc/JPEGImages").glob("*.jpg"))[:3]:
        shutil.copy(path, tmp_path / "photos")
    done = run_tool(
        "analyze_model.py",
        *("--checkpoint", trained, "--images", tmp_path / "photos"),
        *("--input", "96x128", "--against", "r50-fpn"),
    )
    assert done.returncode == 0, done.stderr
    assert "On 3 pictures the model found" in done.stdout
    assert "At mean of 3 pictures" in done.stdout
    assert "At 96x128" in done.stdout
    assert not (tmp_path / "output").exists()


def test_the_class_count_can_be_given(run_tool, repository, sentence):
    config = ("--config-file", repository / "configs/quick/carparts.yaml")
    done = run_tool("analyze_model.py", *config, "--input", "64x64")
    assert "give --classes" in sentence(done)
    done = run_tool("analyze_model.py", *config, "--input", "64x64", "--classes", 18)
    assert done.returncode == 0, done.stderr


def test_measured_memory_stands_beside_the_counted(run_tool, repository, tmp_path):
    done = run_tool(
        "analyze_model.py",
        *("--config-file", repository / "configs/atto_maskrcnn_tiny_voc.yaml"),
        *("--input", "64x96", "--proposals", 20, "--detections", 5),
        *("--measure-memory", "--output", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    assert "measured, whole run" in done.stdout
    assert "Peak memory, measured: how much the resident memory" in done.stdout
    [detector] = json.loads((tmp_path / "out/complexity.json").read_text())["detectors"]
    figures = detector["inputs"]["64x96"]
    assert figures["measured_peak_memory_bytes"] > max(figures["peak_memory_bytes"].values())
    assert "| measured, whole run |" in (tmp_path / "out/complexity.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--input", "800"), "'800' is not an input size: write HEIGHTxWIDTH"),
        (("--against", "r101"), "there is no baseline r101: choose among"),
        (("--proposals", "0"), "must be at least 1"),
        (("--classes", "0"), "must be at least 1"),
        (("--images", "a.jpg"), "--images needs a trained model: give --checkpoint"),
    ],
)
def test_mistakes_are_one_sentence(run_tool, repository, sentence, arguments, expected):
    config = ("--config-file", repository / "configs/atto_maskrcnn_d_voc.yaml", "--input", "64x64")
    assert expected in sentence(run_tool("analyze_model.py", *config, *arguments))


def test_a_config_that_is_no_model(run_tool, sentence, tmp_path):
    config = tmp_path / "other.yaml"
    config.write_text("MODEL: {PROPOSAL_GENERATOR: {NAME: None}, META_ARCHITECTURE: Foo}\n")
    done = run_tool("analyze_model.py", "--config-file", config, "--input", "64x64")
    assert "no model can be built from this config" in sentence(done)
