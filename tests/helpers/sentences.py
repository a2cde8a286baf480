"""What a user reads after a mistake: one line."""

from collections.abc import Callable

import pytest

from atto_det.errors import UserError


def sentence(call: Callable, *args, **options) -> str:
    """The message of the `UserError` that `call` raises, which must be one line."""
    with pytest.raises(UserError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def one_sentence(read: Callable[[], object]) -> None:
    """Run `read`; a `UserError` must be one line that a terminal shows."""
    says = ""
    try:
        read()
    except UserError as error:
        says = str(error)
    assert len(says) < 3000
    assert "\n" not in says
    assert "\0" not in says
