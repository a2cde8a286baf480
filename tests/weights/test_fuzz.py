"""Checkpoints of no sense: one sentence, or what is read of them can be used."""

import io

import pytest
import torch
from hypothesis import strategies as st
from sentences import one_sentence

from atto_det.config import check_class_names
from atto_det.torchvision.config import config_from_text
from atto_det.weights import checkpoint

BYTES = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 12), st.binary(max_size=12)), min_size=1, max_size=4
)
ODD = st.sampled_from(
    [None, True, -1, 2, 0.5, 10**30, "", "x" * 5000, "\0", [], {}, [[]], (1, 2), b"x",
     torch.zeros(2), torch.full((1,), float("nan")), torch.zeros(3, dtype=torch.int64)]
)  # fmt: skip
YAML = st.sampled_from(
    ["", "SEED: x", "SEED: -9", "A: &a [*a]", "OUTPUT_DIR: ../..", "MODEL: 3", "- 1", "\t",
     "MODEL: {WEIGHTS: !!python/name:os.system}", "SOLVER: {BASE_LR: .nan}", "[" * 2000]
)  # fmt: skip
EDITS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["model", "atto_det", "iteration", "w"]), ODD),
        st.tuples(st.sampled_from(["format", "class_names", "config"]), ODD | YAML),
        st.tuples(st.just("config"), YAML),
    ),
    max_size=3,
)
SOUND = "MODEL: {MASK_ON: True, ROI_HEADS: {NUM_CLASSES: 2}}\nSEED: 1\n"
NEEDED = ["MODEL.BACKBONE.NAME", "build_attonet_fpn_backbone"]
NEEDED += ["MODEL.ROI_HEADS.NAME", "StandardROIHeads", "MODEL.ROI_BOX_HEAD.NUM_FC", "2"]
NEEDED += ["MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.DEVICE", "cpu"]


def content() -> dict:
    weights = {"w": torch.arange(6.0).reshape(2, 3)}
    described = checkpoint.description(SOUND, ["cup", "pot"])
    return {"model": weights, "atto_det": described, "iteration": 3}


def use(path) -> None:
    """As far as a predictor goes before it builds the model, and with its weights."""
    found = checkpoint.load_checkpoint(path)
    part = checkpoint.read_description(found, path)
    cfg = config_from_text(part["config"], "it", NEEDED)
    check_class_names(cfg, part["class_names"], "it")
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.zeros(2, 3))
    checkpoint.load_weights(model, found, path)
    assert model.w.isfinite().all()


def spoilt_bytes(path):
    checkpoint.save_checkpoint(path, content())
    use(path)
    whole = path.read_bytes()

    def target(edits):
        changed = whole
        for place, length, token in edits:
            start = int(place * len(changed))
            changed = changed[:start] + token + changed[start + length :]
        path.write_bytes(changed)
        one_sentence(lambda: use(path))

    return target, BYTES


def odd_values(path):
    def target(edits):
        changed = content()
        for key, value in edits:
            place = changed if key in changed else changed["atto_det"]
            place = changed["model"] if key == "w" else place
            if isinstance(place, dict):
                place[key] = value
        buffer = io.BytesIO()
        torch.save(changed, buffer)
        path.write_bytes(buffer.getvalue())
        one_sentence(lambda: use(path))

    return target, EDITS


FUZZERS = [spoilt_bytes, odd_values]


@pytest.mark.parametrize("prepare", FUZZERS, ids=lambda item: item.__name__)
def test_nothing_breaks(prepare, fuzz, tmp_path):
    fuzz(*prepare(tmp_path / "a.pth"), seconds=0, examples=40)


@pytest.mark.slow
@pytest.mark.parametrize("prepare", FUZZERS, ids=lambda item: item.__name__)
def test_nothing_breaks_for_long(prepare, fuzz, tmp_path):
    fuzz(*prepare(tmp_path / "a.pth"), seconds=120, examples=500)
