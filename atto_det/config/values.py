"""A value of a config: parsed from text, and checked against the type of its key."""

import ast
from collections.abc import Callable
from typing import Any

from atto_det.config.ranges import WORDS
from atto_det.errors import UserError, shown

_TYPES = {
    float: "a number with a decimal point",
    int: "a whole number",
    bool: "True or False",
    str: "text",
    list: "a list",
    tuple: "a list",
    dict: "a section",
    type(None): "nothing",
}


def literal(text: str, *, text_expected: bool) -> Any:
    """The Python literal that `text` spells, such as (640, 800), or else `text` itself.

    If text is expected, only quotes are removed, so that a folder may be called 123.
    """
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text  # the last two errors come from deeply nested brackets
    return value if not text_expected or isinstance(value, str) else text


def fitting(value: Any, old: Any, key: str, where: Callable[[], str]) -> Any:
    """`value` if its type is that of `old` (lists and tuples are equivalent); else an error."""
    may_be_word = key in WORDS and (value == WORDS[key] or type(value) is int)
    if old is None or type(value) is type(old) or may_be_word:
        return value
    if isinstance(old, list | tuple) and isinstance(value, list | tuple):
        return type(old)(value)
    if isinstance(old, float) and type(value) is int:
        hint = f": write {_as_float(value)}"
    elif isinstance(old, list | tuple) and value is not None:
        hint = f": write ({shown(value)},)"
    else:
        hint = f", such as {old!r}"
    raise UserError(
        f"{where()}: {key} takes {_TYPES.get(type(old), type(old).__name__)}, "
        f"not {shown(value)} ({_TYPES.get(type(value), type(value).__name__)}){hint}"
    )


def _as_float(value: int) -> str:
    try:
        return str(float(value))
    except OverflowError:
        return "a smaller number"
