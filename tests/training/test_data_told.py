"""What a training uses of its data is said before it, and recorded."""

import json

import pytest

pytest.importorskip("detectron2", reason="Detectron2 is not installed")


def test_the_record_of_a_run_has_its_data(trained):
    told = json.loads((trained.parent / "run.json").read_text())["data"]
    assert list(told) == ["mini_voc_train"]
    assert told["mini_voc_train"]["pictures"] == 8
    assert told["mini_voc_train"]["objects"] > 8
    assert told["mini_voc_train"]["left_out"] == {}
