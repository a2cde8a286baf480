"""A small space."""

import pytest

from atto_det.design import Requirements, Space
from atto_det.design.generator import Generator
from atto_det.nets import get_spec


@pytest.fixture
def space() -> Space:
    stages = ("res2", "res3", "res4", "res5")
    return Space(
        stem=(4, 8),
        width={stage: (16 * 2**k, 24 * 2**k) for k, stage in enumerate(stages)},
        compress=dict.fromkeys(stages, (4, 8, 16)),
        mix=dict.fromkeys(stages, (4, 8)),
        kinds=("atto", "bottleneck", "condenser", "identity"),
        opening=("atto", "bottleneck"),
        depth={"res2": 2, "res3": 2, "res4": 3, "res5": 1},
    )


@pytest.fixture
def generator(space) -> Generator:
    return Generator.around(space, get_spec("attonet_d"), Requirements(), classes=5, size=64)
