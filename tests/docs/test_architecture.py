"""The files and packages that the pages name exist, so that the four walks can be followed."""

import re

import pages
import pytest

PACKAGE = pages.REPOSITORY / "atto_det"
ARCHITECTURE = "docs/architecture.md"


def named(page: str) -> list[str]:
    """What a page has in backticks."""
    return [token.content for token in pages.tokens(page) if token.type == "code_inline"]


@pytest.mark.parametrize("page", [page for page in pages.PAGES if page != "CHANGELOG.md"])
def test_the_files_that_a_page_names_exist(page):
    root = r"(atto_det|configs|requirements|results|tests|tools)/"
    files = [text for text in named(page) if re.fullmatch(root + r"[\w./-]+", text)]
    assert [name for name in files if not (pages.REPOSITORY / name).exists()] == []


def test_the_walks_name_modules_that_exist():
    files = [text for text in named(ARCHITECTURE) if re.fullmatch(r"[\w/]+\.py", text)]
    assert len(files) > 50
    there = [path.relative_to(pages.REPOSITORY).as_posix() for path in PACKAGE.rglob("*.py")]
    there += [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")]
    there += [path.name for path in PACKAGE.rglob("*.py")]
    there += [f"tools/{path.name}" for path in (pages.REPOSITORY / "tools").glob("*.py")]
    assert sorted(set(files) - set(there)) == []


def test_the_tree_has_every_package_and_no_other():
    [tree] = pages.blocks(ARCHITECTURE, "text")
    _, _, rooms = tree.partition("atto_det/\n")
    listed = {name.rstrip("/") for name in re.findall(r"^  ([\w/]+)", rooms, flags=re.MULTILINE)}
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert listed == there - {"__init__", "__pycache__"}
