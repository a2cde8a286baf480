"""Attacks on classifiers, worked out by hand where the network is a mean of colours."""

import json

import pytest
from torch import Tensor, nn

from atto_det.cli.robustness import main
from atto_det.errors import UserError
from atto_det.pretraining.robustness import Attack, top1_under_attack
from atto_det.weights.backbone_file import read_pretraining

MEAN, STD = [0.2, 0.3, 0.1], [0.5, 0.25, 0.5]
CLASSES = ["blue", "green", "red"]


class Colour(nn.Module):
    """Logits are a picture's mean blue, green and red, whatever it was normalised by."""

    def forward(self, images: Tensor) -> Tensor:
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        return (images * std + mean).mean((2, 3)).flip(1)


@pytest.fixture
def description(classifier):
    path, _ = classifier(class_names=CLASSES, mean=MEAN, std=STD)
    return read_pretraining(path).description


@pytest.mark.parametrize("steps", [1, 10])
@pytest.mark.parametrize(("epsilon", "top1"), [(50, 100), (70, 0)])
def test_by_hand(description, colours, steps, epsilon, top1):
    """A picture's own colour is brighter by 120: from 60 on, darkening it while the others are
    brightened turns the answer. In a linear network one step does all that many can."""
    attack = Attack(epsilon, steps)
    found = top1_under_attack(Colour(), description, str(colours / "colours"), [attack])
    assert found == {"clean": 100, str(attack): top1}


def test_names_and_limits():
    assert str(Attack(2, 1)) == "FGSM 2/255"
    assert str(Attack(0.5, 10)) == "PGD-10 0.5/255"
    for epsilon, steps in ((0, 1), (256, 1), (2, 0)):
        with pytest.raises(UserError, match="epsilon must be above 0"):
            Attack(epsilon, steps)


def test_the_command(classifier, colours, tmp_path, capsys):
    paths = [str(classifier(name, class_names=CLASSES)[0]) for name in ("attonet_d", "attendnet_b")]
    output = tmp_path / "robustness.json"
    flags = ["--data", str(colours / "colours"), "--pictures", "6", "--steps", "2"]
    assert main(["--checkpoint", *paths, *flags, "--output", str(output)]) == 0
    content = json.loads(output.read_text())
    names = ["clean", "FGSM 2/255", "FGSM 4/255", "PGD-2 2/255", "PGD-2 4/255"]
    assert [list(row["top1_percent"]) for row in content["results"]] == [names, names]
    assert [row["network"] for row in content["results"]] == ["attonet_d", "attendnet_b"]
    for row in content["results"]:
        assert {value * 6 / 100 % 1 for value in row["top1_percent"].values()} == {0}
    assert content["pictures"] == 6
    assert "PGD-2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "flags", "expected"),
    [
        ({}, ["--pictures", "16"], "16 pictures of"),
        ({}, ["--epsilon", "0"], "epsilon must be above 0"),
        ({"class_names": ["a", "b", "c"]}, [], "has other classes"),
    ],
)
def test_mistakes_are_one_sentence(classifier, colours, capsys, changes, flags, expected):
    path, _ = classifier(**({"class_names": CLASSES} | changes))
    data = ["--data", str(colours / "colours")]
    assert main(["--checkpoint", str(path), *data, *flags]) == 1
    assert expected in capsys.readouterr().err
