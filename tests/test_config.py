"""Reading experiment files: bases, safety, and what a user reads after a slip."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentences import sentence
from yacs.config import CfgNode

from atto_det.config import load_yaml, merge, merge_options, parse_yaml
from atto_det.errors import UserError


@pytest.fixture
def cfg() -> CfgNode:
    """A config with a key of every type."""
    return fresh_config()


def fresh_config() -> CfgNode:
    return CfgNode(
        {
            "SOLVER": CfgNode({"BASE_LR": 0.02, "MAX_ITER": 100, "STEPS": (60, 80)}),
            "MODEL": CfgNode({"WEIGHTS": "", "MASK_ON": True, "PIXEL_MEAN": [1.0, 2.0, 3.0]}),
            "DATASETS": CfgNode({"TRAIN": ("a",), "FOLDERS": []}),
            "ANYTHING": None,
        }
    )


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# Files and bases


def test_a_file_goes_over_its_bases(tmp_path):
    write(tmp_path / "root.yaml", "SOLVER: {BASE_LR: 0.1, MAX_ITER: 5}\nSEED: 1\n")
    write(tmp_path / "middle.yaml", "_BASE_: root.yaml\nSOLVER: {MAX_ITER: 6}\n")
    top = write(tmp_path / "sub/top.yaml", "_BASE_: ../middle.yaml\nSEED: 2\n")
    assert load_yaml(top) == {"SOLVER": {"BASE_LR": 0.1, "MAX_ITER": 6}, "SEED": 2}
    assert load_yaml(str(tmp_path / "middle.yaml"))["SEED"] == 1


@pytest.mark.parametrize("base", ["b.yaml", "./b.yaml", "../{folder}/b.yaml"])
def test_bases_in_a_circle(tmp_path, base):
    first = write(tmp_path / "a.yaml", f"_BASE_: {base.format(folder=tmp_path.name)}\n")
    write(tmp_path / "b.yaml", "_BASE_: a.yaml\n")
    assert "is its own _BASE_" in sentence(load_yaml, first)


def test_a_missing_file_names_its_neighbour(tmp_path):
    write(tmp_path / "atto_voc.yaml", "")
    message = sentence(load_yaml, tmp_path / "atto_vok.yaml")
    assert "does not exist" in message
    assert f"did you mean {tmp_path / 'atto_voc.yaml'}?" in message
    assert "mean" not in sentence(load_yaml, tmp_path / "zzz.yaml")
    child = write(tmp_path / "child.yaml", "_BASE_: nowhere/base.yaml")
    assert str(tmp_path / "nowhere/base.yaml") in sentence(load_yaml, child)


def test_of_several_bases_the_later_goes_over_the_earlier(tmp_path):
    write(tmp_path / "root.yaml", "SOLVER: {BASE_LR: 0.1, MAX_ITER: 5}\nSEED: 1\n")
    write(tmp_path / "one.yaml", "_BASE_: root.yaml\nSOLVER: {MAX_ITER: 6}\n")
    write(tmp_path / "two.yaml", "SOLVER: {MAX_ITER: 7, STEPS: [1]}\n")
    path = write(tmp_path / "top.yaml", "_BASE_: [one.yaml, two.yaml]\nSEED: 2\n")
    solver = {"BASE_LR": 0.1, "MAX_ITER": 7, "STEPS": [1]}
    assert load_yaml(path) == {"SOLVER": solver, "SEED": 2}
    write(tmp_path / "two.yaml", "_BASE_: top.yaml\n")
    assert "is its own _BASE_" in sentence(load_yaml, path)


@pytest.mark.parametrize("base", ["3", "[b.yaml, 3]", "{a: b}"])
def test_a_base_must_be_a_path(tmp_path, base):
    path = write(tmp_path / "a.yaml", f"_BASE_: {base}\n")
    assert "_BASE_ must be the path of a file" in sentence(load_yaml, path)


def test_a_folder_or_binary_is_no_config(tmp_path):
    assert "cannot be read" in sentence(load_yaml, tmp_path)
    path = tmp_path / "weights.pth"
    path.write_bytes(b"\x80\x81\xff")
    assert str(path) in sentence(load_yaml, path)


def test_an_empty_file_changes_nothing(tmp_path):
    assert load_yaml(write(tmp_path / "a.yaml", "# nothing\n")) == {}


# Safety


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch {marker}']",
        "!!python/object/new:os.system ['touch {marker}']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!unknown 1",
    ],
)
def test_hostile_tags_run_nothing(tmp_path, tag):
    marker = tmp_path / "marker"
    hostile = write(tmp_path / "hostile.yaml", f"SEED: {tag.format(marker=marker)}\n")
    above = write(tmp_path / "above.yaml", "_BASE_: hostile.yaml\n")
    for path in (hostile, above):
        message = sentence(load_yaml, path)
        assert "tag that could run code" in message
        assert str(hostile) in message
    assert not marker.exists()


def bomb(kind: str) -> str:
    """A kilobyte that stands for 9 ** 9 values."""
    form = {"list": "[{}]", "section": "{{{}}}"}[kind]
    rows = ["a: &a " + form.format("x" if kind == "list" else "x: 1")]
    for one, other in zip("abcdefghi", "bcdefghij", strict=True):
        parts = [f"*{one}"] * 9 if kind == "list" else [f"k{n}: *{one}" for n in range(9)]
        rows.append(f"{other}: &{other} " + form.format(", ".join(parts)))
    return "\n".join(rows)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (bomb("list"), "stands for more than 50,000 values with aliases expanded"),
        (bomb("section"), "stands for more than 50,000 values with aliases expanded"),
        ("a: &a [1, *a]", "line 1: a YAML alias is inside what it stands for"),
        ("a: &a {b: *a}", "line 1: a YAML alias is inside what it stands for"),
        ("a: " + "[" * 50 + "]" * 50, "more than 40 nested lists or sections"),
        ("a: " + "[" * 100_000, "more than 40 nested lists or sections"),
        ("a: " + "{a: " * 5000, "more than 40 nested lists or sections"),
        ("#" * 600_000, "has more than 524,288 characters"),
        ("a: 1" + "0" * 5000, "is not valid YAML"),
        ("a: !!timestamp x", "is not valid YAML"),
        ("a: !!bool x", "is not valid YAML"),
        ("a: !!int ''", "is not valid YAML"),
        ("x" * 3000 + ": [", "is not valid YAML"),
    ],
)  # fmt: skip
def test_yaml_is_bounded(text, says):
    message = sentence(parse_yaml, text, "f.yaml")
    assert says in message
    assert len(message) < 500


def test_some_aliases_and_merge_keys_are_fine():
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]"
    content = parse_yaml(text, "f.yaml")
    assert content["b"] == {"x": 1, "y": 3}
    assert content["c"] == [{"x": 1, "y": 2}] * 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("SEED: 1\nMODEL: {}\nSEED: 2\n", "f.yaml, line 3: 'SEED' was already set in line 1"),
        ("A:\n  B: 1\n\n  B: 1\n", "f.yaml, line 4: 'B' was already set in line 2"),
    ],
)
def test_a_key_twice_is_named_with_its_lines(text, says):
    assert says in sentence(parse_yaml, text, "f.yaml")


def test_a_wrong_key_is_named_with_its_file_and_line(cfg, tmp_path):
    base = write(tmp_path / "base.yaml", "SOLVER:\n  MAX_ITER: 5\n  BASE_LRR: 0.1\n")
    top = write(tmp_path / "top.yaml", "_BASE_: base.yaml\n\nMODEL: {MASK_ON: 1}\n")
    content = load_yaml(top)
    message = sentence(merge, cfg, {"SOLVER": content["SOLVER"]}, str(top))
    assert message.startswith(f"{base}, line 3: there is no key SOLVER.BASE_LRR")
    message = sentence(merge, cfg, {"MODEL": content["MODEL"]}, str(top))
    assert message.startswith(f"{top}, line 3: MODEL.MASK_ON takes True or False")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SOLVER.BASE_LR", "x" * 10**6),
        ("SOLVER.BASE_LR", list(range(10**5))),
        ("SOLVER.BASE_LR", 10**400),
        ("SOLVER.STEPS", "(" * 10**5),
        ("SOLVER.STEPS", "9" * 5000),
        ("x" * 10**5, 1),
        ("SOLVER.X\nY", 1),
    ],
)
def test_no_value_is_printed_without_end(cfg, key, value):
    section, _, name = key.partition(".")
    content = {section: {name: value}} if name else {section: value}
    assert len(sentence(merge, cfg, content, "f.yaml")) < 1000


@pytest.mark.parametrize(
    "name", ["~nosuchuser/a.yaml", "a\0b.yaml", "x" * 5000 + ".yaml", "/dev/zero"]
)
def test_paths_that_are_none(tmp_path, name):
    assert len(sentence(load_yaml, name)) < 700
    path = write(tmp_path / "a.yaml", f"_BASE_: {json.dumps(name)}")
    assert len(sentence(load_yaml, path)) < 700


def test_code_runs_in_a_trusted_folder_alone(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    write(package / "base.yaml", "SIZES: !!python/object/apply:eval ['[2 ** 3]']\n")
    above = write(tmp_path / "above.yaml", "_BASE_: package/base.yaml\n")
    assert load_yaml(above, trusted=package) == {"SIZES": [8]}
    write(above, "_BASE_: package/base.yaml\nSIZES: !!python/object/apply:eval ['[1]']\n")
    assert f"{above} holds a YAML tag that could run code" in sentence(load_yaml, above, package)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("SEED: [1\n", "f.yaml, line 2 is not valid YAML"),
        ("SEED: 1\n\tMODEL: 2\n", "f.yaml, line 2 is not valid YAML"),
        ("SEED: 2024-13-45\n", "f.yaml is not valid YAML: month"),
        ("? [1]\n: 2\n", "unhashable"),
        ("SEED: \x00", "f.yaml is not valid YAML"),
        ("- 1\n- 2\n", "must hold keys and values, not a list"),
        ("just text", "not a str"),
    ],
)
def test_broken_yaml_names_the_place(text, says):
    assert says in sentence(parse_yaml, text, "f.yaml")


@given(st.text(max_size=60))
def test_any_text_is_a_mapping_or_one_sentence(text):
    message = ""
    try:
        assert isinstance(parse_yaml(text, "f.yaml"), dict)
    except UserError as error:
        message = str(error)
    assert "\n" not in message


# Keys and types


def test_unknown_keys_name_the_nearest(cfg):
    message = sentence(merge, cfg, {"SOLVER": {"BASE_RL": 0.1}}, "f.yaml")
    assert message == "f.yaml: there is no key SOLVER.BASE_RL; the nearest is SOLVER.BASE_LR"
    message = sentence(merge_options, cfg, ["MODEL.MASKON", "True"])
    assert message.startswith("the command line: there is no key MODEL.MASKON")
    assert message.endswith("MODEL.MASK_ON")
    assert "SOLVER" in sentence(merge, cfg, {"SOLVERS": {"BASE_LR": 0.1}}, "f.yaml")
    assert "there is no key 1" in sentence(merge, cfg, {1: 2}, "f.yaml")
    assert "SEED.X.Y" in sentence(merge_options, cfg, ["SEED.X.Y", "1"])


@pytest.mark.parametrize("content", [{"SOLVER": 1}, {"SOLVER": None}])
def test_a_section_is_no_value(cfg, content):
    assert "SOLVER is a section" in sentence(merge, cfg, content, "f.yaml")


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("SOLVER.BASE_LR", "1", "takes a number with a decimal point, not 1 (a whole number)"),
        ("SOLVER.BASE_LR", "1", "write 1.0"),
        ("SOLVER.BASE_LR", "fast", "not 'fast' (text)"),
        ("SOLVER.BASE_LR", "None", "not None (nothing)"),
        ("SOLVER.MAX_ITER", "1.5", "takes a whole number, not 1.5"),
        ("SOLVER.MAX_ITER", "True", "takes a whole number, not True"),
        ("SOLVER.STEPS", "60", "write (60,)"),
        ("SOLVER.STEPS", "None", "takes a list, not None"),
        ("MODEL.MASK_ON", "1", "takes True or False, not 1"),
        ("MODEL.MASK_ON", "yes", "takes True or False, not 'yes'"),
        ("DATASETS.TRAIN", "voc", "write ('voc',)"),
        ("DATASETS.FOLDERS", "{}", "takes a list, not {} (a section)"),
    ],
)
def test_wrong_types(cfg, key, text, says):
    before = cfg.clone()
    message = sentence(merge_options, cfg, [key, text])
    assert key in message
    assert says in message
    assert cfg == before


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("SOLVER: {BASE_LR: 1}", "SOLVER.BASE_LR"),
        ("SOLVER: {BASE_LR: }", "SOLVER.BASE_LR"),
        ("SOLVER: {BASE_LR: {A: 1}}", "SOLVER.BASE_LR"),
        ("MODEL: {WEIGHTS: 123}", "MODEL.WEIGHTS"),
        ("MODEL: {MASK_ON: 1}", "MODEL.MASK_ON"),
    ],
)
def test_wrong_types_in_files(cfg, text, key):
    assert f"f.yaml: {key} takes" in sentence(merge, cfg, parse_yaml(text, "f.yaml"), "f.yaml")


def test_yaml_takes_1e_3_for_text_but_it_is_a_number(cfg):
    merge(cfg, parse_yaml("SOLVER: {BASE_LR: 1e-3}", "f.yaml"), "f.yaml")
    assert cfg.SOLVER.BASE_LR == 0.001
    merge_options(cfg, ["SOLVER.BASE_LR", "2e-3"])
    assert cfg.SOLVER.BASE_LR == 0.002


def test_lists_and_tuples_are_one(cfg):
    text = "{SOLVER: {STEPS: [1, 2]}, MODEL: {PIXEL_MEAN: '(4.0, 5.0)'}, DATASETS: {TRAIN: []}}"
    merge(cfg, parse_yaml(text, "f.yaml"), "f.yaml")
    assert cfg.SOLVER.STEPS == (1, 2)
    assert cfg.MODEL.PIXEL_MEAN == [4.0, 5.0]
    assert cfg.DATASETS.TRAIN == ()
    options = ["SOLVER.STEPS", "[3]", "DATASETS.TRAIN", "'a','b'", "MODEL.PIXEL_MEAN", "(6.0,)"]
    merge_options(cfg, options)
    assert cfg.SOLVER.STEPS == (3,)
    assert cfg.DATASETS.TRAIN == ("a", "b")
    assert cfg.MODEL.PIXEL_MEAN == [6.0]
    merge(cfg, parse_yaml("{DATASETS: {FOLDERS: [[cars, CarParts]]}}", "f.yaml"), "f.yaml")
    assert cfg.DATASETS.FOLDERS == [["cars", "CarParts"]]


def test_text_stays_text(cfg):
    merge_options(cfg, ["MODEL.WEIGHTS", "123"])
    assert cfg.MODEL.WEIGHTS == "123"
    merge_options(cfg, ["MODEL.WEIGHTS", "'in quotes.pth'"])
    assert cfg.MODEL.WEIGHTS == "in quotes.pth"
    merge_options(cfg, ["MODEL.WEIGHTS", "a=b, c.pth"])
    assert cfg.MODEL.WEIGHTS == "a=b, c.pth"


def test_a_key_without_a_default_takes_anything(cfg):
    merge_options(cfg, ["ANYTHING", "(1, 'a')"])
    assert cfg.ANYTHING == (1, "a")


def test_options_come_in_pairs(cfg):
    assert "'1.0' has no partner" in sentence(merge_options, cfg, ["1.0"])
    message = sentence(merge_options, cfg, ["MODEL.MASK_ON", "False", "SOLVER.BASE_LR"])
    assert "'SOLVER.BASE_LR' has no partner" in message
    assert cfg.MODEL.MASK_ON is True


@given(
    st.floats(allow_nan=False),
    st.integers(),
    st.booleans(),
    st.lists(st.integers(), max_size=3),
)
def test_what_a_config_prints_it_reads_again(rate, iterations, mask, steps):
    first = fresh_config()
    first.SOLVER.BASE_LR, first.SOLVER.MAX_ITER = rate, iterations
    first.MODEL.MASK_ON, first.SOLVER.STEPS = mask, tuple(steps)
    second = fresh_config()
    merge(second, parse_yaml(first.dump(), "dump"), "dump")
    assert second == first
