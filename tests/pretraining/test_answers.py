"""A teacher's answers, shortened and stored."""

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atto_det.errors import UserError
from atto_det.pretraining import answers as module
from atto_det.pretraining.answers import TOP, Answers, Store, shorten, spread


def test_by_hand():
    # 22 classes: 20 of probability 0.04 to 0.04, the last two share the rest, 0.2.
    probabilities = torch.full((1, 22), 0.04)
    probabilities[0, [3, 8]] = 0.1
    probabilities[0, 5] = 0.04 + 1e-3
    probabilities[0, 6] = 0.04 - 1e-3
    short = shorten(probabilities.log())
    assert short.classes.shape == (1, TOP)
    assert short.log_probabilities.shape == (1, TOP + 1)
    assert sorted(short.classes[0, :3].tolist()) == [3, 5, 8]
    # What is left out is two of those with least: class 6 and one of 0.04, equally from now on.
    assert short.log_probabilities[0, -1].exp().item() == pytest.approx(0.079, abs=1e-4)
    full = spread(short, 22).exp()[0]
    assert full[6].item() == pytest.approx(0.0395, abs=1e-4)
    assert full[[3, 8]].tolist() == pytest.approx([0.1, 0.1], abs=1e-4)


@settings(max_examples=40)
@given(st.integers(2, 40), st.floats(0.1, 12), st.integers(0, 999))
def test_shortened_answers_stay_distributions(classes, sharpness, seed):
    logits = sharpness * torch.randn(3, classes, generator=torch.Generator().manual_seed(seed))
    exact = logits.softmax(1)
    found = spread(shorten(logits.log_softmax(1)), classes).exp()
    torch.testing.assert_close(found.sum(1), torch.ones(3), atol=5e-3, rtol=0)
    best = exact.topk(min(TOP, classes)).indices
    torch.testing.assert_close(found.gather(1, best), exact.gather(1, best), atol=1e-4, rtol=5e-3)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PICTURES_PER_FILE", 4)
    return lambda key=None, crops=2: Store(
        tmp_path / "train", key or {"seed": 1, "scale": (0.2, 1.0)}, 10, crops
    )


class Asked:
    """Answers that tell crop and picture, in batches of three; counts the pictures."""

    def __init__(self, stop_after: int = 10**6) -> None:
        self.number, self.stop_after = 0, stop_after

    def __call__(self, crop, pictures):
        for start in range(pictures.start, pictures.stop, 3):
            batch = torch.arange(start, min(start + 3, pictures.stop))
            if self.number >= self.stop_after:
                raise KeyboardInterrupt
            self.number += len(batch)
            classes = (100 * crop + batch).to(torch.int16)[:, None]
            yield Answers(classes, torch.zeros(len(batch), 2).half())


def test_stored_once_and_read_in_order(store):
    asked = Asked()
    store().fill(asked)
    assert asked.number == 20
    store().fill(asked)
    assert asked.number == 20
    for crop, part in enumerate(store().load()):
        assert part.classes[:, 0].tolist() == [100 * crop + index for index in range(10)]
        assert part.log_probabilities.dtype == torch.float16


def test_a_stopped_run_goes_on_and_more_crops_are_added(store, caplog):
    with pytest.raises(KeyboardInterrupt):
        store().fill(Asked(stop_after=8))
    asked = Asked()
    with caplog.at_level(logging.INFO):
        store().fill(asked)
    assert asked.number == 12  # pictures 0 to 7 of crop 0 were there whole
    assert "12 of 20 answers are missing" in caplog.text
    store(crops=3).fill(asked)
    assert asked.number == 12 + 10
    assert len(store(crops=1).load()) == 1


def test_progress_says_how_long_the_rest_takes(store, caplog, monkeypatch):
    now = iter(range(0, 10_000, 31))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now))
    with caplog.at_level(logging.INFO):
        store().fill(Asked())
    assert "3 of 20 answers, 0 a second, 3 minutes left" in caplog.text


def test_stale_answers_are_refused(store):
    store().fill(Asked())
    store({"scale": [0.2, 1.0], "seed": 1})
    with pytest.raises(UserError, match=r"answers of another scale and seed: store them elsewhere"):
        store({"seed": 2, "scale": (0.3, 1.0)})
    with pytest.raises(UserError, match="answers of another teacher"):
        store({"seed": 1, "scale": (0.2, 1.0), "teacher": "a"})


def test_missing_and_damaged_files(store, tmp_path):
    with pytest.raises(UserError, match=r"run atto-det pretrain store_answers"):
        store().load()
    store().fill(Asked())
    path = tmp_path / "train/crop1/00001.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    with pytest.raises(UserError, match=r"00001\.safetensors is damaged"):
        store().load()
    path.write_bytes((tmp_path / "train/crop1/00002.safetensors").read_bytes())
    with pytest.raises(UserError, match=r"crop1 holds 8 answers for 10 pictures"):
        store().load()
    (tmp_path / "train/description.json").write_text("[")
    with pytest.raises(UserError, match=r"description\.json cannot be read"):
        store()
    (tmp_path / "train/description.json").write_text("[]")
    with pytest.raises(UserError, match="holds a teacher's answers of another scale and seed"):
        store()
