"""What the pages say exists: links, pictures, commands with their flags, config keys."""

import argparse
import importlib.util
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pages
import pytest
import yaml

from atto_det import cli
from atto_det.config import find_config
from atto_det.torchvision.config import read_file

COMMANDS = [
    command
    for page in pages.PAGES
    if page != "CHANGELOG.md"  # names flags, and does not write commands out
    for command in pages.commands(page)
]


class Parsed(BaseException):
    """Raised in place of the work, once a tool has taken its arguments."""


@pytest.fixture
def parse(monkeypatch):
    """A function that lets `atto-det` parse arguments and do no more; returns what it parsed."""
    for name in ("parse_args", "parse_intermixed_args"):
        real = getattr(argparse.ArgumentParser, name)

        def stop(self, *arguments, real=real, **options):
            raise Parsed(real(self, *arguments, **options))

        monkeypatch.setattr(argparse.ArgumentParser, name, stop)

    def run(arguments: list[str], script: str = "") -> argparse.Namespace:
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        with pytest.raises(Parsed) as parsed:
            runpy.run_path(script, run_name="__main__") if script else cli.main()
        return parsed.value.args[0]

    return run


@pytest.mark.parametrize("page", pages.PAGES)
def test_links_lead_somewhere(page, repository):
    for target in pages.links(page):
        path, _, anchor = target.partition("#")
        there = ((repository / page).parent / path).resolve() if path else repository / page
        assert there.exists(), target
        if anchor:
            assert anchor in pages.anchors(there.relative_to(repository)), target


def test_each_page_can_be_reached_from_the_readme():
    seen, ahead = set(), ["README.md"]
    while ahead:
        page = ahead.pop()
        seen.add(page)
        folder = Path(page).parent
        paths = [(folder / target.partition("#")[0]) for target in pages.links(page)]
        known = {str(Path(name)): name for name in pages.PAGES}
        ahead += [
            known[name]
            for name in (str(Path(*_without_dots(path.parts))) for path in paths)
            if name in known and known[name] not in seen
        ]
    assert seen == set(pages.PAGES) - {"docs/api.md"}  # the site's alone


def _without_dots(parts: tuple[str, ...]) -> list[str]:
    result = []
    for part in parts:
        if part == "..":
            result.pop()
        elif part != ".":
            result.append(part)
    return result


@pytest.mark.parametrize("page", pages.PAGES)
def test_blocks_have_a_language(page):
    known = {"sh", "python", "yaml", "text"}
    assert {t.info for t in pages.tokens(page) if t.type == "fence"} <= known


def test_the_readme_is_a_landing_page(repository):
    lines = (repository / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_commands_parse(command, parse, repository):
    program, *arguments = command.words
    for word in arguments:
        path = word.partition("@")[0]
        if re.match(r"(configs|results|tests|tools|requirements)/", path):
            assert (repository / path).exists(), path
    if program == "make":
        assert re.search(rf"^{arguments[0]}:", (repository / "Makefile").read_text(), re.M)
    elif program == "pip" and arguments[0] == "install":
        _check_extras(arguments, repository)
    elif program == "atto-det":
        if "--help" in arguments:
            with pytest.raises(SystemExit, match="0"):
                parse(arguments)
        elif arguments[0] != "pretrain":  # Lightning's own, which test_commands.py runs
            _check_config(parse(arguments))
    elif program == "python":
        parse(arguments[1:], str(repository / arguments[0]))
    else:
        assert program in ("git", "pip", "pytest", "source", "unzip")


def _check_extras(arguments: list[str], repository: Path) -> None:
    asked = re.findall(r"\[(.*?)\]", " ".join(arguments))
    declared = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert set(",".join(asked).split(",")) <= set(declared["optional-dependencies"])


def _check_config(parsed: argparse.Namespace) -> None:
    """Config files are there, and KEY VALUE pairs are keys of them."""
    named = getattr(parsed, "config_file", None) or []
    for name in [named] if isinstance(named, str | Path) else named:
        if str(name).startswith("output/"):  # what a training writes
            continue
        path = find_config(str(name).partition("@")[0])
        assert path.is_file(), name
        if options := getattr(parsed, "options", []):
            read_file(path, options)


@pytest.mark.parametrize("page", pages.PAGES)
def test_yaml_blocks_have_keys_of_the_config(page):
    config = pytest.importorskip("atto_det.detectron2.config", reason="needs Detectron2")
    from detectron2.config import get_cfg

    from atto_det.config import merge

    for block in pages.blocks(page, "yaml"):
        cfg = get_cfg()
        config.add_attonet_config(cfg)
        content = yaml.safe_load(block)
        content.pop("_BASE_", None)
        merge(cfg, content, page)


@pytest.mark.parametrize("page", pages.PAGES)
def test_files_named_in_the_text_exist(page, repository):
    named = re.compile(r"(?:atto_det|configs|results|tests|tools|requirements)/[\w./-]*\w/?")
    for token in pages.tokens(page):
        if (
            token.type == "code_inline"
            and named.fullmatch(token.content)
            and page != "CHANGELOG.md"
        ):
            assert (repository / token.content).exists(), token.content


def test_modules_of_the_api_page_exist():
    names = re.findall(r"^::: (\S+)$", (pages.REPOSITORY / "docs/api.md").read_text(), re.M)
    assert names
    assert [name for name in names if importlib.util.find_spec(name) is None] == []


@pytest.mark.slow
def test_the_site_builds_without_warnings(repository, tmp_path):
    pytest.importorskip("mkdocstrings", reason="MkDocs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "create_backbone" in (tmp_path / "docs/api.html").read_text(encoding="utf-8")
