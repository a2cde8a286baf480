"""tools/table2.py as a user runs it."""

import json

import pytest
import torch


@pytest.fixture
def pretrained(classifier, tmp_path):
    """A function that writes the checkpoint of a pretraining run."""

    def write(network: str, top1: float | None, root: str = "Tiny", size: int = 96):
        changes = {"top1": top1, "input_size": size, "class_names": ["cat", "dog", "fox"]}
        path, _ = classifier(network, data={"root": root, "train": 30, "val": 12}, **changes)
        return path.rename(tmp_path / f"{network}_{root}_{size}.ckpt")

    return write


def test_without_options(run_tool, tmp_path):
    before = set(tmp_path.iterdir())
    done = run_tool("table2.py")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for text in ("AttoNet-A", "578.4", "424.8", "2.967", "73.53", "Weight memory", "952x51"):
        assert text in done.stdout
    assert "Measured" not in done.stdout
    assert set(tmp_path.iterdir()) == before


def test_checkpoints_and_top1(run_tool, pretrained, tmp_path):
    done = run_tool(
        "table2.py",
        *("--checkpoint", pretrained("attonet_d", 41.5), pretrained("attonet_c", 44, size=64)),
        *("--top1", "mobilenetv2_100=30.2", "resnet50=33", "--top1", "attonet_a=31.4"),
        *("--output", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Measured on") == 3
    assert (
        "Measured on Tiny at 96×96: 3 classes, cat to fox; 30 pictures to train, 12" in done.stdout
    )
    assert "Measured on Tiny at 64×64" in done.stdout
    assert "Measured on data that were not stated (--top1)" in done.stdout
    content = json.loads((tmp_path / "out/table2.json").read_text())
    measured = {row["network"]: row["measured"] for row in content["networks"] if row["measured"]}
    assert measured["attonet_d"]["top1"] == 41.5
    assert measured["attonet_d"]["data"]["input_size"] == 96
    assert measured["attonet_d"]["macs_at_input_size"] > measured["attonet_c"]["top1"]
    assert measured["attonet_a"]["data"] is None
    assert "torch" in content["versions"]
    assert "--top1" in content["command"]
    assert (tmp_path / "out/table2.png").read_bytes().startswith(b"\x89PNG")
    assert "![" in (tmp_path / "out/table2.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("attonet_x=30",), "unknown network 'attonet_x': choose one of attonet_a"),
        (("attonet_a=130",), "the top-1 of attonet_a is 130.0: it is a percentage, from 0 to 100"),
        (("attonet_a=nan",), "the top-1 of attonet_a is nan"),
        (("attonet_a",), "--top1 attonet_a is not NETWORK=PERCENT, as in attonet_a=31.4"),
        (("attonet_a=31,4",), "--top1 attonet_a=31,4 is not NETWORK=PERCENT"),
        (("attonet_a=31", "attonet_a=31"), "attonet_a has two measured top-1, 31 and 31: give one"),
    ],
)
def test_a_wrong_top1_is_one_sentence(run_tool, sentence, arguments, expected):
    assert expected in sentence(run_tool("table2.py", "--top1", *arguments))


def test_a_wrong_checkpoint_is_one_sentence(run_tool, sentence, pretrained, tmp_path):
    path = pretrained("attonet_d", None)
    found = sentence(run_tool("table2.py", "--checkpoint", path))
    assert "carries no top-1" in found
    assert "--top1 attonet_d=PERCENT" in found

    found = sentence(run_tool("table2.py", "--checkpoint", tmp_path / "none.ckpt"))
    assert "none.ckpt does not exist" in found

    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    found = sentence(run_tool("table2.py", "--checkpoint", tmp_path / "foreign.ckpt"))
    assert "is not one of atto_det's classifier training" in found

    path = pretrained("attonet_d", 40)
    found = sentence(run_tool("table2.py", "--checkpoint", path, "--top1", "attonet_d=31"))
    assert "attonet_d has two measured top-1" in found
