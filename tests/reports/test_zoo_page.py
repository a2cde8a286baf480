"""The page of the zoo: what its cards say, and nothing else."""

from atto_det.cli import zoo as verb
from atto_det.reports import zoo_page
from atto_det.weights import zoo

AP = {"data": "owl_val", "AP_d": 51.25, "AP_m": 48.04, "coco": {"mask": {"AP": 20.06}}}
COMMON = {"bytes": 2_340_000, "parameters": 1_234_567, "sha256": "ab12", "versions": {"torch": "2"}}
DETECTOR = COMMON | {
    **{"kind": "detector", "file": "owls.safetensors", "network": "attonet_d", "steps": 1500},
    **{"class_names": ["owl", "eagle"], "data": {"train": ["owl_train"]}, "seed": 1},
    **{"figures": {"AP": AP}, "terms": "ask the owls", "limits": "no eagles", "command": "train x"},
}
BACKBONE = COMMON | {
    **{"kind": "backbone", "file": "attonet_a-small.safetensors", "network": "attonet_a"},
    **{"weights": "small", "data": {"root": "Owls"}, "epochs": 6, "terms": "t", "limits": "l"},
    **{"figures": {"nearest_class_mean": {"data": "Owls", "top1": 12.34}}, "command": "fit"},
}


def test_the_page_in_the_documentation_is_current(repository):
    cards = [zoo.read_card(path) for path in zoo.files()]
    text = (repository / "docs/model_zoo.md").read_text(encoding="utf-8")
    assert text == zoo_page.page(cards), "run: atto-det zoo --page docs/model_zoo.md"


def test_an_empty_zoo_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(zoo, "ZOO", tmp_path)
    assert verb.main(["--page", str(tmp_path / "zoo.md")]) == 0
    assert zoo_page.EMPTY in capsys.readouterr().out
    assert zoo_page.EMPTY in (tmp_path / "zoo.md").read_text()


def test_what_the_cards_say():
    lines = zoo_page.page([BACKBONE, DETECTOR]).splitlines()
    assert (
        "| zoo:owls | attonet_d | owl_train | 2 | owl_val | 51.2 | 48.0 | 20.1 | 1.23 | 2.3 |"
        in lines
    )
    assert (
        "| zoo:attonet_a-small | attonet_a | small | Owls | 12.3 (nearest class mean, Owls) | 1.23 "
        "| 2.3 |" in lines
    )
    for line in ("## owls", "- terms: ask the owls", "- limits: no eagles", "- sha256: `ab12`"):
        assert line in lines
    assert "- training: 1,500 steps, seed 1" in lines
    assert "- training: 6 epochs" in lines
