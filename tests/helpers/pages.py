"""The documentation as data: its links, its fenced blocks, its commands."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "datasets/README.md"),
    *sorted(f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md")),
)


class Command(NamedTuple):
    """One command of a page: the program and its arguments, comments and variables left out."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def tokens(page: str) -> list[Token]:
    """The Markdown tokens of a page, those inside lines among them."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    blocks = MarkdownIt("commonmark").enable("table").parse(text)
    return [token for block in blocks for token in (block, *(block.children or ()))]


def links(page: str) -> list[str]:
    """The relative targets of links and pictures."""
    found = [
        str(token.attrGet("src" if token.type == "image" else "href"))
        for token in tokens(page)
        if token.type in ("image", "link_open")
    ]
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(page: str) -> set[str]:
    """The names of a page's headings in links, as GitHub and MkDocs make them."""
    found = tokens(page)
    headings = [found[i + 1].content for i, t in enumerate(found) if t.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return [t.content for t in tokens(page) if t.type == "fence" and t.info == language]


def commands(page: str) -> list[Command]:
    """The commands of a page's `sh` blocks, and those of `atto-det` that its text has in full."""
    lines = []
    for block in blocks(page, "sh"):
        lines += block.replace("\\\n", " ").splitlines()
    for token in tokens(page):
        full = "…" not in token.content and "|" not in token.content
        if token.type == "code_inline" and full:
            lines += re.findall(r"^atto-det \S+ .*", token.content)
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z0-9_]+=.*", words[0]):
            words.pop(0)
        if words:
            found.append(Command(page, tuple(words)))
    return found
