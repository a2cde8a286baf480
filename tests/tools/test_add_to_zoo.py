"""tools/add_to_zoo.py as a user runs it."""

import json

import detector_file
import pytest

from atto_det.cli.add_to_zoo import without_folders
from atto_det.data import VOC_CLASSES
from atto_det.nets.registry import get_spec, short_name
from atto_det.nets.spec_file import spec_to_text
from atto_det.reports import zoo_page
from atto_det.weights.transfer import read_backbone


def test_a_file_and_its_card(run_tool, environment, classifier, colours, tmp_path):
    environment["DETECTRON2_DATASETS"] = str(colours)
    path, _ = classifier()
    flags = [
        "--name",
        "small",
        "--check",
        "colours",
        "--terms",
        "ours",
        "--limits",
        "colours",
    ]
    done = run_tool("add_to_zoo.py", "--checkpoint", path, *flags, "--output", tmp_path / "zoo")
    assert done.returncode == 0, done.stderr
    assert "nearest class mean, colours: top-1" in done.stdout
    card = json.loads((tmp_path / "zoo/attonet_d-small.json").read_text())
    assert (card["network"], card["terms"], card["limits"]) == (
        "attonet_d",
        "ours",
        "colours",
    )
    assert card["figures"]["nearest_class_mean"]["data"] == "colours"
    assert card["recipe"] == "epochs: 12\n"
    assert (tmp_path / "zoo" / card["file"]).stat().st_size == card["bytes"]


def test_a_file_that_cannot_be_measured_leaves_nothing(
    run_tool, environment, sentence, classifier, colours, tmp_path
):
    environment["DETECTRON2_DATASETS"] = str(colours)
    path, _ = classifier()
    flags = ["--name", "small", "--terms", "", "--limits", "", "--output", tmp_path / "zoo"]
    text = sentence(run_tool("add_to_zoo.py", "--checkpoint", path, *flags, "--check", "colors"))
    assert "colors" in text
    assert list((tmp_path / "zoo").iterdir()) == []


def test_a_network_of_one_s_own_is_called_by_its_checksum(
    run_tool, environment, classifier, colours, tmp_path
):
    environment["DETECTRON2_DATASETS"] = str(colours)
    network = spec_to_text(get_spec("attonet_d"))
    path, _ = classifier(network)
    flags = ["--name", "own", "--terms", "", "--limits", "", "--output", tmp_path]
    done = run_tool("add_to_zoo.py", "--checkpoint", path, *flags, "--check", "colours")
    assert done.returncode == 0, done.stderr
    file = tmp_path / f"{short_name(network)}-own.safetensors"
    assert json.loads(file.with_suffix(".json").read_text())["network"] == short_name(network)
    assert read_backbone(file).description.network == network


def test_folders_of_the_machine_stay_out():
    text = (
        "train --config a/b.yaml X /home/me/w.pth ['/data/x', \"/y\"] https://a.b/c ../d/e\n/t/u\n"
    )
    assert without_folders(text) == (
        "train --config a/b.yaml X w.pth ['x', \"y\"] https://a.b/c ../d/e\nu\n"
    )


def test_a_name_that_is_no_word(run_tool, classifier):
    flags = ["--name", "../x", "--check", "colours", "--terms", "", "--limits", ""]
    done = run_tool("add_to_zoo.py", "--checkpoint", classifier()[0], *flags)
    assert done.returncode == 1
    assert done.stderr == "error: --name ../x must be a word, such as distilled\n"


@pytest.mark.slow
def test_a_detector_and_its_card(run_tool, environment, mini_voc, tmp_path):
    environment["DETECTRON2_DATASETS"] = str(mini_voc)
    checkpoint = detector_file.write(tmp_path / "model.pth", class_names=VOC_CLASSES)
    flags = ["--name", "tiny", "--check", "mini_voc_val", "--terms", "ours", "--limits", "none"]
    done = run_tool("add_to_zoo.py", "--checkpoint", checkpoint, *flags, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "tiny.json").read_text())
    assert (card["kind"], card["terms"], card["class_names"]) == (
        *("detector", "ours", list(VOC_CLASSES)),
    )
    figures = card["figures"]["AP"]
    assert figures["data"] == figures["protocol"]["split"] == "mini_voc_val"
    assert 0 <= figures["AP_m"] <= 100
    assert (tmp_path / card["file"]).stat().st_size == card["bytes"]
    [grid] = zoo_page.tables([card])
    assert grid.rows[0][0] == "zoo:tiny"
