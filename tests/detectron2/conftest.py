"""A tiny config on the mini VOC, read by Detectron2."""

import socket

import pytest


@pytest.fixture
def config(data_root, repository, tmp_path):
    """A function from further options to the frozen tiny config, with its own OUTPUT_DIR."""
    from atto_det.detectron2 import load_config

    def make(*options: object):
        output = ["OUTPUT_DIR", str(tmp_path / "out")]
        return load_config(
            repository / "tests/tiny_mini_voc.yaml", output + list(map(str, options))
        )

    return make


@pytest.fixture
def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
