"""tools/add_to_zoo.py as a user runs it."""

import json


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


def test_a_name_that_is_no_word(run_tool, classifier, tmp_path):
    flags = ["--name", "../x", "--check", "colours", "--terms", "", "--limits", ""]
    done = run_tool("add_to_zoo.py", "--checkpoint", classifier()[0], *flags)
    assert done.returncode == 1
    assert done.stderr == "error: --name ../x must be a word, such as distilled\n"
