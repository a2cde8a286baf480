"""List the experiment files that come with atto_det.

One of these names can be used instead of the path of a config file; a file of your own may name one
as its _BASE_.
"""

import itertools
import re
import textwrap
from pathlib import Path

from atto_det.cli import verb_parser
from atto_det.errors import command_line


@command_line
def main(arguments: list[str] | None = None) -> None:
    """Print each name with the first sentence of the file's comment."""
    verb_parser("configs", __doc__).parse_args(arguments)

    from atto_det.config import CONFIGS

    names = [path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.yaml")]
    names.sort(key=lambda name: (name.parent.parts, name.name))
    width = max(len(str(name)) for name in names)
    for name in names:
        print(f"{name!s:{width}}  {summary(CONFIGS / name)}")
    print(f"in {CONFIGS}")


def summary(path: Path) -> str:
    """The first sentence of a file's first comment, shortened to a line."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.open(encoding="utf-8"))
    sentence = re.split(r"(?<=\.)\s", " ".join(line.strip("# \n") for line in lines))[0]
    return textwrap.shorten(sentence, 90, placeholder=" …")
