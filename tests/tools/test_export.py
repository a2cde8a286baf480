"""tools/export.py as a user runs it, and a training that starts from what it wrote."""

import pytest

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

import torch

from atto_det.weights import backbone_file, checkpoint

UNTESTED = ["DATASETS.TEST", "()"]


@pytest.fixture
def export(run_tool):
    """A function that exports a checkpoint in a format to a file."""
    return lambda path, form, output, *more: run_tool(
        "export.py", "--checkpoint", path, "--format", form, "--output", output, *more
    )


def test_from_the_checkpoint_to_a_trained_detector(classifier, export, train, sentence, tmp_path):
    path, net = classifier()
    done = export(path, "safetensors", "a.safetensors")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "wrote a.safetensors, 1.4 MB"
    assert "attonet_d, top-1 31.4 % on 2500 pictures, trained on 7500 pictures of Tiny" in lines[1]
    assert "tensors  414; left out: fc.bias, fc.weight" in done.stdout
    assert (
        "as trained: mean [123.675, 116.28, 103.53], std [58.395, 57.12, 57.375], RGB" in lines[4]
    )
    assert len(lines[5].split()[1]) == 64

    done = train(*UNTESTED, "MODEL.WEIGHTS", "a.safetensors", "MODEL.BACKBONE.FREEZE_AT", 2)
    assert done.returncode == 0, done.stderr
    for text in (
        "a.safetensors: attonet_d, top-1 31.4 % on 2500 pictures, trained on 7500 pictures of Tiny",
        "loaded 400 tensors into backbone.bottom_up, all that it has; absorbed by the stem: noth",
        "from random weights start: FPN, proposal_generator, roi_heads (36 tensors)",
    ):
        assert done.stdout.count(text) == 1
    model = checkpoint.load_checkpoint(tmp_path / "output/mini_voc/model_final.pth")["model"]
    stem = net.state_dict()[backbone_file.STEM]
    assert model[f"backbone.bottom_up.{backbone_file.STEM}"].equal(stem)  # frozen

    text = sentence(train("--eval-only", "MODEL.WEIGHTS", "a.safetensors"))
    assert "a.safetensors lacks 36 tensors of the model" in text
    other = [*UNTESTED, "OUTPUT_DIR", "b", "MODEL.WEIGHTS", "a.safetensors"]
    text = sentence(train(*other, "MODEL.ATTONET.NAME", "attonet_a"))
    assert "a.safetensors holds attonet_d, but MODEL.ATTONET.NAME is attonet_a" in text
    text = sentence(train(*other, "INPUT.FORMAT", "BGR"))
    assert "set MODEL.PIXEL_MEAN to [103.53, 116.28, 123.675] (INPUT.FORMAT is BGR)" in text


def test_a_file_for_a_detector_of_detectron2(classifier, export, tmp_path):
    path, net = classifier()
    done = export(path, "pth", "base.pth")
    assert done.returncode == 0, done.stderr
    assert "for Base-Atto-MaskRCNN.yaml: mean [123.675, 116.28, 103.53]" in done.stdout
    assert "absorbed: nothing" in done.stdout
    stem = net.state_dict()[backbone_file.STEM]
    assert checkpoint.load_checkpoint(tmp_path / "base.pth")["model"][backbone_file.STEM].equal(
        stem
    )
    (tmp_path / "stock.yaml").write_text("MODEL: {MASK_ON: true}\n")  # BGR and std 1 by default
    done = export(path, "pth", "stock.pth", "--config-file", "stock.yaml")
    assert done.returncode == 0, done.stderr
    assert "absorbed: std [57.375, 57.12, 58.395] to [1.0, 1.0, 1.0], RGB to BGR" in done.stdout
    content = checkpoint.load_checkpoint(tmp_path / "stock.pth")
    assert set(content) == {"model", "matching_heuristics", "atto_det_backbone"}
    other = content["model"][backbone_file.STEM]
    assert other.flip(1)[:, 0].allclose(stem[:, 0] / 58.395)
    assert not any(key.startswith("fc.") for key in content["model"])


def test_weights_of_another_program(classifier, export, sentence, tmp_path):
    _, net = classifier()
    torch.save(net.state_dict(), tmp_path / "bare.pth")
    named = ["--network", "attonet_d"]
    done = export("bare.pth", "safetensors", "a.safetensors", *named, "--input-size", "64")
    assert done.returncode == 0, done.stderr
    assert "attonet_d, unknown top-1, trained on data not stated (3 classes, 64 pixels)" in (
        done.stdout
    )
    state, description = backbone_file.read_backbone(tmp_path / "a.safetensors")
    assert state[backbone_file.STEM].equal(net.state_dict()[backbone_file.STEM])
    assert description.command == "exported from bare.pth"
    assert export("bare.pth", "pth", "a.pth", *named).returncode == 0
    text = sentence(export("bare.pth", "pth", "b.pth", *named, "--input-size", "-5"))
    assert "--input-size is -5: give at least 1 pixel" in text
    text = sentence(export("bare.pth", "safetensors", "b.safetensors"))
    assert (
        "bare.pth is not one of atto_det's classifier training (atto-det export --network" in text
    )
    text = sentence(export("bare.pth", "onnx", "b.onnx", *named))
    assert "--network is for --format safetensors and pth" in text
    text = sentence(export("bare.pth", "pth", "b.pth", "--std", "0.2", "0.2", "0.2"))
    assert "--mean, --std and --input-size are for --network" in text


def test_mistakes_are_one_sentence(classifier, export, sentence, tmp_path):
    path, _ = classifier()
    assert "--output a.pth must end in .safetensors" in sentence(
        export(path, "safetensors", "a.pth")
    )
    assert "--output a.ckpt must end in .pth" in sentence(export(path, "pth", "a.ckpt"))
    config = tmp_path / "detector.yaml"
    config.write_text("MODEL: {PIXEL_MEAN: [0.0, 0.0, 0.0]}\nINPUT: {FORMAT: RGB}\n")
    text = sentence(export(path, "safetensors", "a.safetensors", "--config-file", config))
    assert "--config-file is for --format pth" in text
    text = sentence(export(path, "pth", "a.pth", "--config-file", config))
    assert "set MODEL.PIXEL_MEAN to [123.675, 116.28, 103.53] (INPUT.FORMAT is RGB)" in text
    text = sentence(export(path, "pth", "a.pth", "--config-file", "nothing.yaml"))
    assert "nothing.yaml does not exist" in text
    assert "checkpoint no.ckpt does not exist" in sentence(export("no.ckpt", "pth", "a.pth"))
    text = sentence(export("zoo:carparts_tiny", "pth", "a.pth"))
    assert "carparts_tiny holds a detector, and --format pth is for the backbones of class" in text
    content = checkpoint.load_checkpoint(path)
    content["atto_det_pretraining"]["network"] = "resnet50"
    checkpoint.save_checkpoint(tmp_path / "r50.ckpt", content)
    text = sentence(export("r50.ckpt", "pth", "a.pth"))
    assert "holds resnet50; the backbones exported for detectors are attonet_a" in text
    path.write_bytes(path.read_bytes()[:-500])
    assert str(path) in sentence(export(path, "safetensors", "a.safetensors"))
    assert not list(tmp_path.glob("a.*"))


def test_weights_in_8_bits(classifier, export, sentence, tmp_path):
    from PIL import Image

    for split in ("train", "val"):
        for name in ("cat", "dög", "owl"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            Image.new("RGB", (40, 30), "green").save(tmp_path / "data" / split / name / "0.png")
    path, _ = classifier()
    for file in ("whole", "small"):
        bits = ("--weight-bits", 8, "--data", tmp_path / "data") if file == "small" else ()
        done = export(path, "safetensors", f"{file}.safetensors", *bits)
        assert done.returncode == 0, done.stderr
    assert "33.33 % before, 33.33 % after" in done.stdout
    sizes = [(tmp_path / f"{file}.safetensors").stat().st_size for file in ("whole", "small")]
    assert sizes[0] > 2.8 * sizes[1]  # AttoNet-D's norms weigh much
    description = backbone_file.read_backbone(tmp_path / "small.safetensors").description
    assert description.weight_bits == 8
    assert description.top1 == pytest.approx(100 / 3)
    assert description.data == {"root": "TinyImageNet50", "train": 7500, "val": 3}
    path, _ = classifier(weight_bits=8)  # rounded in its training
    bits = ("--weight-bits", 8, "--data", tmp_path / "data")
    done = export(path, "safetensors", "small.safetensors", *bits)
    assert "33.33 % before, 33.33 % after" in done.stdout
    path, _ = classifier()

    done = export(path, "safetensors", "small.safetensors", "--weight-bits", 8)
    assert "top-1 before 31.4 %, after: give --data to measure it" in done.stdout
    found = backbone_file.read_backbone(tmp_path / "small.safetensors").description.top1
    assert found is None
    text = sentence(export(path, "pth", "a.pth", "--weight-bits", 8))
    assert "--weight-bits is for --format safetensors" in text
    text = sentence(export(path, "safetensors", "b.safetensors", "--data", tmp_path / "data"))
    assert "--data needs --weight-bits 8" in text
