"""What the tests of this engine share."""

import socket

import pytest


@pytest.fixture
def engine():
    """The engine's package, for `config`."""
    import atto_det.detectron2

    return atto_det.detectron2


@pytest.fixture
def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
