"""`atto-det`: every verb is there, its help comes at once, and mistakes are one sentence."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import atto_det
from atto_det import cli
from atto_det.config import CONFIGS, load_yaml

SHIPPED = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml"))
HEAVY = {"torch", "torchvision", "numpy", "cv2", "rich", "yaml", "lightning", "matplotlib", "timm"}
EVERY_HELP = f"""
import sys
from atto_det import cli
for arguments in [["--help"], ["--version"], *([verb, "--help"] for verb in cli.VERBS)]:
    try:
        cli.main(arguments)
    except SystemExit as end:
        assert end.code in (0, None), (arguments, end)
assert {HEAVY}.isdisjoint(sys.modules), {HEAVY} & sys.modules.keys()
"""


def test_every_module_is_a_verb_and_every_tool_calls_one(repository):
    modules = {path.stem for path in (repository / "atto_det/cli").glob("[!_]*.py")}
    assert modules == {verb.replace("-", "_") for verb in cli.VERBS}
    assert len(set(cli.VERBS)) == len(cli.VERBS)
    own = {"evaluate", "configs", "infer"}  # train_net.py --eval-only, and infer_onnx.py by itself
    called = []
    for path in (repository / "tools").glob("*.py"):
        if path.name != "infer_onnx.py":
            assert len(path.read_text().splitlines()) <= 10
            called += re.findall(r"^from atto_det\.cli\.(\w+) import main$", path.read_text(), re.M)
    assert sorted(called) == sorted(modules - own)


def test_no_help_waits_for_a_large_package():
    done = subprocess.run([sys.executable, "-c", EVERY_HELP], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listing = done.stdout.partition("atto-det VERB --help")[0]
    for verb in cli.VERBS:
        assert re.search(rf"^  {verb} +\S.{{0,80}}$", listing, re.M), verb
        assert f"usage: atto-det {verb} [-h]" in done.stdout
    assert f"\natto-det {atto_det.__version__}\n" in done.stdout


def test_without_a_verb_the_help_is_shown(capsys):
    assert cli.main([]) == 2
    assert capsys.readouterr().out.startswith("usage: atto-det")


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [("evalute", "evaluate"), ("prepare_voc", "prepare-voc"), ("trian", "train"), ("é", "")],
)
def test_an_unknown_verb_is_one_sentence_with_the_nearest(capsys, wrong, nearest):
    assert cli.main([wrong, "--help"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: there is no verb {wrong!r}: the nearest is {nearest}")
    assert printed.err.count("\n") == 1


def test_exit_codes(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("atto_det.cli.table2.main", interrupted)
    assert cli.main(["table2"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    monkeypatch.setattr("atto_det.cli.table2.main", lambda arguments: None)
    assert cli.main(["table2"]) == 0
    with pytest.raises(SystemExit, match="2"):
        cli.main(["compare"])  # without --json, which it needs


@pytest.mark.parametrize(
    ("verb", "arguments", "expected"),
    [
        (
            "train",
            ["--config-file", "c.yaml", "A.B", "1", "--resume", "C.D", "-1"],
            {"config_file": "c.yaml", "options": ["A.B", "1", "C.D", "-1"], "resume": True},
        ),
        (
            "evaluate",
            ["A.B", "1", "--checkpoint", "x.pth", "C.D", "-1"],
            {"options": ["MODEL.WEIGHTS", "x.pth", "A.B", "1", "C.D", "-1"], "eval_only": True},
        ),
    ],
)
def test_config_keys_may_stand_anywhere(monkeypatch, verb, arguments, expected):
    seen = {}
    monkeypatch.setattr("atto_det.cli.train.start", lambda args: seen.update(vars(args)))
    assert cli.main([verb, *arguments]) == 0
    assert expected.items() <= seen.items()


def test_a_negative_number_reaches_the_configs_own_sentence(repository, capsys):
    tiny = str(repository / "tests/tiny_mini_voc.yaml")
    arguments = ["--config-file", tiny, "--engine", "torchvision", "SOLVER.BASE_LR", "-1"]
    assert cli.main(["train", *arguments]) == 1
    assert "SOLVER.BASE_LR takes a number with a decimal point, not -1" in capsys.readouterr().err


def test_a_missing_package_is_named_with_its_extra(monkeypatch, capsys):
    def without(name):
        def main(arguments):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        monkeypatch.setattr("atto_det.cli.table2.main", main)
        return cli.main(["table2"])

    requirements = ["rich>=13", 'ruff>=1; extra == "dev"', 'onnx>=1; extra == "onnx"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: requirements)
    assert without("onnx.helper") == 1
    assert capsys.readouterr().err == (
        "error: onnx.helper is missing: pip install 'atto_det[onnx]'\n"
    )
    for name in ("ruff", "atto_det.nonsense", "on"):
        with pytest.raises(ModuleNotFoundError):
            without(name)


def test_configs_are_listed_with_a_line_each(capsys):
    assert cli.main(["configs"]) == 0
    *rows, last = capsys.readouterr().out.splitlines()
    assert last == f"in {CONFIGS}"
    found = dict(re.fullmatch(r"(\S+) +(\S.*)", row).groups() for row in rows)
    assert sorted(found) == SHIPPED
    for name, line in found.items():
        assert len(line) <= 90, name
        assert line.endswith((".", " …")), name


@pytest.mark.parametrize(
    "name", sorted(str(p.relative_to(CONFIGS)) for p in CONFIGS.rglob("*.yaml"))
)
def test_a_shipped_config_is_found_by_its_name(monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    content = load_yaml(name)
    assert content == load_yaml(CONFIGS / name)
    assert "_BASE_" not in content
    (tmp_path / "mine.yaml").write_text(f"_BASE_: {name}\nOUTPUT_DIR: here\n")
    assert load_yaml(tmp_path / "mine.yaml") == content | {"OUTPUT_DIR": "here"}


def test_a_file_goes_before_a_shipped_config(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Base-Atto-MaskRCNN.yaml").write_text(yaml.safe_dump({"VERSION": 7}))
    assert load_yaml("Base-Atto-MaskRCNN.yaml") == {"VERSION": 7}


@pytest.mark.parametrize("value", ["-1", "-1e-3", "-.5", "-1_000", "-2.5E+7", "-inf"])
def test_negative_numbers_are_values(value):
    arguments = ["--config-file", "a.yaml", "SOLVER.BASE_LR", value, "--resume", "SEED", "1"]
    args = cli.module_of("train").parser().parse_intermixed_args(arguments)
    assert args.options == ["SOLVER.BASE_LR", value, "SEED", "1"]
    assert args.resume


MEASURING = ("evaluate-onnx", "robustness", "throughput", "reconstruct-attendnets")
REPORTING = ("analyze", "analyze-errors", "benchmark", "table2")


@pytest.mark.parametrize("verb", [*MEASURING, *REPORTING, "time-condenser"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(verb, tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    with pytest.raises(SystemExit):
        cli.main([verb, "--output", str(tmp_path / "taken/new/result")])
    said = capsys.readouterr().err
    assert f"argument --output: {tmp_path}/taken is a file, not a folder: choose" in said
    assert not (tmp_path / "new").exists()


def test_an_output_is_a_file_or_a_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.output_file(str(tmp_path / "file")) == tmp_path / "file"
    assert cli.output_folder(str(tmp_path / "a/b")) == tmp_path / "a/b"
    assert cli.output_folder(str(tmp_path)) == tmp_path
    for taken, verb in (
        (tmp_path, "throughput"),
        (Path("/"), "throughput"),
        (tmp_path / "file", "benchmark"),
    ):
        with pytest.raises(SystemExit):
            cli.main([verb, "--output", str(taken)])
    said = capsys.readouterr().err
    assert f"{tmp_path} is a folder: give a file" in said
    assert f"{tmp_path}/file is a file, not a folder" in said


def test_an_output_in_a_folder_without_permission(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(SystemExit):
        cli.main(["throughput", "--output", str(tmp_path / "result.json")])
    assert f"{tmp_path} may not be written to: choose another place" in capsys.readouterr().err
