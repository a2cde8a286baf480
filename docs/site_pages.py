"""Hooks for MkDocs: the site has the repository's own layout, so that links between pages work.

MkDocs takes pages from one folder. These hooks add the pages outside `docs/`, and every file that a
page links to, under the path that they have in the repository.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
OTHER_PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "datasets/README.md")
LINK = re.compile(r"\]\(([^)#:\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages, and the files that they link to, at their places in the repository."""
    pages = [*OTHER_PAGES, *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
    linked = {
        posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
        for page in pages
        for target in LINK.findall((ROOT / page).read_text(encoding="utf-8"))
    }
    own = [file for file in files if not (ROOT / "docs" / file.src_uri).is_file()]  # of the theme
    places = sorted({*pages, *(path for path in linked if (ROOT / path).is_file())})
    joined = [File.generated(config, path, abs_src_path=str(ROOT / path)) for path in places]
    return Files([*own, *joined])
