"""Reads YAML within bounds, since a config may come from a downloaded checkpoint.

A kilobyte of aliases can stand for more values than fit into memory, and deeply nested lists can
crash code that traverses them. So the nodes are counted before any value is created from them.
"""

from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from atto_det.errors import UserError, shown

MOST_CHARACTERS = 1 << 19
MOST_VALUES = 50_000  # with aliases expanded; our configs have some hundreds
DEEPEST = 40


def parse_yaml(text: str, where: str, *, safe: bool = True) -> dict[str, Any]:
    """A YAML mapping as a dict; `where` names it in errors.

    Args:
        safe: refuse tags that run code.

    Raises:
        UserError: broken YAML, an unsafe tag, a duplicate key, a size beyond the bounds, or no
            mapping.
    """
    loader, root = _compose(text, where, yaml.SafeLoader if safe else yaml.UnsafeLoader)
    if root is None:
        return {}
    try:
        content = loader.construct_document(root)
    except Exception as error:  # such as an AttributeError for an invalid date
        raise _sentence(error, where) from None
    if not isinstance(content, dict):
        raise UserError(f"{where} must hold keys and values, not a {type(content).__name__}")
    return content


def read_text(path: Path, what: str) -> str:
    """The text of a file that is small enough for YAML here.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_CHARACTERS + 1)
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError for a NUL in the name
        raise UserError(f"{what} {shown(path, 400)} cannot be read: {shown(error)}") from error
    if len(content) > MOST_CHARACTERS:
        raise UserError(
            f"{what} {path} is larger than {MOST_CHARACTERS:,} bytes: it is not a config"
        )
    return text


def line_of(text: str, key: str) -> int | None:
    """The line, from 1, in which a YAML text sets `SECTION.KEY`."""
    try:
        node = _compose(text, "", yaml.SafeLoader)[1]
    except UserError:
        return None
    line = None
    for part in key.split("."):
        pairs = node.value if isinstance(node, MappingNode) else ()
        for name, value in pairs:
            if isinstance(name, ScalarNode) and name.value == part:
                node, line = value, name.start_mark.line + 1
                break
        else:
            return None
    return line


def _compose(text: str, where: str, kind: type) -> tuple[Any, Node | None]:
    """A loader of this kind, and its root node, which is within bounds."""
    if len(text) > MOST_CHARACTERS:
        raise UserError(f"{where} has more than {MOST_CHARACTERS:,} characters: it is not a config")
    try:
        loader = kind(text)
        root = loader.get_single_node()
    except RecursionError:
        raise _too_deep(where) from None
    except Exception as error:
        raise _sentence(error, where) from None
    if root is not None:
        _check(root, where, {}, 1)
    return loader, root


def _check(node: Node, where: str, sizes: dict[int, int], depth: int) -> int:
    """The number of values that a node stands for, with aliases expanded.

    Raises:
        UserError: too many, too deep, a node that contains itself, or a duplicate key.
    """
    if id(node) in sizes:  # an alias; 0 while its node is being counted
        if not sizes[id(node)]:
            line = node.start_mark.line + 1
            raise UserError(f"{where}, line {line}: a YAML alias is inside what it stands for")
        return sizes[id(node)]
    if depth > DEEPEST:
        raise _too_deep(where)
    sizes[id(node)] = 0
    children: list[Node] = []
    if isinstance(node, SequenceNode):
        children = node.value
    elif isinstance(node, MappingNode):
        children = [child for pair in node.value for child in pair]
        _check_keys(node, where)
    total = 1
    for child in children:
        total += _check(child, where, sizes, depth + 1)
        if total > MOST_VALUES:
            raise UserError(
                f"{where} stands for more than {MOST_VALUES:,} values with aliases expanded: it is "
                "not a config"
            )
    sizes[id(node)] = total
    return total


def _check_keys(node: MappingNode, where: str) -> None:
    lines: dict[tuple[str, str], int] = {}
    for name, _ in node.value:
        if not isinstance(name, ScalarNode):
            continue
        key, line = (name.tag, name.value), name.start_mark.line + 1
        if key in lines and name.tag != "tag:yaml.org,2002:merge":
            raise UserError(
                f"{where}, line {line}: {shown(name.value)} was already set in line {lines[key]}; "
                "remove one of them"
            )
        lines[key] = line


def _too_deep(where: str) -> UserError:
    return UserError(f"{where} has more than {DEEPEST} nested lists or sections")


def _sentence(error: Exception, where: str) -> UserError:
    text = getattr(error, "problem", None) or next(iter(str(error).splitlines()), "")
    problem = shown(Exception(text or type(error).__name__))
    if "constructor for the tag" in problem:
        return UserError(f"{where} holds a YAML tag that could run code ({problem}); remove it")
    mark = getattr(error, "problem_mark", None)
    line = f", line {mark.line + 1}" if mark else ""
    return UserError(f"{where}{line} is not valid YAML: {problem}")
