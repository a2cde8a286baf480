"""Batches follow from (seed, iteration) alone, whoever computes them and whenever."""

import itertools
import os
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atto_det.errors import UserError
from atto_det.training import batches
from atto_det.training.batches import (
    Annotated,
    BatchOrder,
    BatchSlots,
    ErrorsAsItems,
    check_batch_size,
    fingerprint,
    load_batches,
    seed_step,
)

portraits = st.lists(st.booleans(), min_size=1, max_size=40).map(np.array)
sizes = st.integers(1, 12)
seeds = st.integers(0, 2**31)


def epoch_of(order: BatchOrder, epoch: int) -> list[list[int]]:
    return [order(epoch * order.per_epoch + place) for place in range(order.per_epoch)]


@given(portraits, sizes, seeds, st.integers(0, 50))
def test_an_epoch_has_every_picture_once_but_for_less_than_a_batch(portrait, size, seed, epoch):
    count = len(portrait)
    batches = epoch_of(BatchOrder(portrait, size, seed), epoch)
    seen = Counter(itertools.chain.from_iterable(batches))
    assert all(len(batch) == size for batch in batches)
    assert set(seen) <= set(range(count))
    if count >= size:
        assert set(seen.values()) == {1}
        assert 0 <= count - len(seen) < size
    else:  # one batch, which repeats each picture as evenly as can be
        assert len(batches) == 1
        assert set(seen) == set(range(count))
        assert max(seen.values()) - min(seen.values()) <= 1


@given(portraits, sizes, seeds, st.integers(0, 50))
def test_wide_and_high_pictures_share_at_most_one_batch_of_an_epoch(portrait, size, seed, epoch):
    batches = epoch_of(BatchOrder(portrait, size, seed), epoch)
    mixed = [batch for batch in batches if len({bool(portrait[k]) for k in batch}) == 2]
    assert len(mixed) <= 1


@given(portraits, sizes, seeds, st.lists(st.integers(0, 300), max_size=8))
def test_a_batch_is_a_pure_function_of_seed_and_iteration(portrait, size, seed, iterations):
    asked_before = BatchOrder(portrait, size, seed)
    for iteration in iterations:
        assert asked_before(iteration) == BatchOrder(portrait, size, seed)(iteration)


def test_seed_and_epoch_change_the_order_and_no_picture_is_left_over_for_good():
    portrait = np.arange(29) % 3 == 0
    orders = {
        (seed, epoch): tuple(map(tuple, epoch_of(BatchOrder(portrait, 4, seed), epoch)))
        for seed in (0, 1)
        for epoch in range(6)
    }
    assert len(set(orders.values())) == len(orders)
    # One of 29 is left over in each epoch: after 150 all have been seen equally often, nearly.
    order = BatchOrder(portrait, 4, 5)
    seen = Counter(itertools.chain.from_iterable(order(k) for k in range(7 * 150)))
    assert min(seen.values()) > 125
    # High pictures do not all come first.
    first = [bool(portrait[BatchOrder(portrait, 4, seed)(0)[0]]) for seed in range(40)]
    assert 0 < sum(first) < 40


@pytest.mark.parametrize("start", [0, 3, 11])
def test_processes_share_each_batch_in_order(start):
    order = BatchOrder(np.zeros(17, bool), 6, 4)
    whole, *shares = (
        list(itertools.islice(BatchSlots(order, start, rank, processes), 9))
        for rank, processes in [(0, 1), (0, 3), (1, 3), (2, 3)]
    )
    for iteration, batch in enumerate(whole, start):
        assert batch == [(iteration, slot, k) for slot, k in enumerate(order(iteration))]
    assert [a + b + c for a, b, c in zip(*shares, strict=True)] == whole


@pytest.mark.parametrize("size", [0, -2, 3])
def test_a_batch_that_the_processes_cannot_share_is_refused(size):
    with pytest.raises(UserError, match=rf"SOLVER.IMS_PER_BATCH is {size}: 2 processes"):
        check_batch_size(size, 2)


class Squares:
    """Squares of what is asked for; 3 is a user's mistake."""

    def __getitem__(self, value: int) -> object:
        return ErrorsAsItems(self.square)(value)

    def square(self, value: int) -> int:
        if value == 3:
            raise UserError("three is no good")
        return value * value


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_is_raised_as_it_is_when_its_batch_is_due(workers):
    batches = load_batches(Squares(), [[1, 2], [4], [5, 3]], workers)
    assert next(batches) == [1, 4]
    assert next(batches) == [16]
    with pytest.raises(UserError, match=r"^three is no good$"):
        next(batches)


def test_what_a_step_draws_follows_from_seed_iteration_and_process():
    def drawn(*numbers: int) -> float:
        seed_step(*numbers)
        return torch.rand(1).item()

    places = list(itertools.product((1, 2), (0, 1, 7), (0, 1)))
    first = [drawn(*place) for place in places]
    assert [drawn(*place) for place in places] == first
    assert len(set(first)) == len(places)


def test_repeat_factors_by_hand_and_as_detectron2_has_them():
    # Class 0 is in all 8 pictures, 1 in two, 2 in one.
    classes = [{0}] * 5 + [{0, 1}, {0, 1}, {0, 2}]
    factors = batches.repeat_factors(classes, 0.5)
    expected = [1] * 5 + [(0.5 / 0.25) ** 0.5] * 2 + [(0.5 / 0.125) ** 0.5]
    assert factors.tolist() == pytest.approx(expected)
    assert batches.repeat_factors(classes, 0.5, root=False).tolist() == [1] * 5 + [2, 2, 4]
    assert batches.repeat_factors(classes, 0.0).tolist() == [1] * 8
    assert batches.repeat_factors([set(), {3}], 0.4).tolist() == [1, 1]
    with pytest.raises(UserError, match=r"DATALOADER.REPEAT_THRESHOLD is 1.5: it is a share"):
        batches.repeat_factors(classes, 1.5)
    samplers = pytest.importorskip("detectron2.data.samplers")
    dicts = [{"annotations": [{"category_id": c} for c in own]} for own in classes]
    theirs = samplers.RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
    assert theirs(dicts, 0.3).tolist() == pytest.approx(
        batches.repeat_factors(classes, 0.3).tolist()
    )


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_pictures_come_as_often_as_their_factors_say(batch_size):
    repeats = np.array([1.0, 1.0, 1.5, 2.25, 1.0, 3.0])  # 9.75: an epoch of 9
    order = BatchOrder(np.zeros(6, bool), batch_size, 5, repeats)
    epochs = 600
    batches_of_all = [order(i) for i in range(epochs * order.per_epoch)]
    assert {len(batch) for batch in batches_of_all} == {batch_size}
    counts = np.bincount(np.concatenate(batches_of_all), minlength=6)
    np.testing.assert_allclose(counts / counts.sum(), repeats / repeats.sum(), rtol=0.06)
    if batch_size == 1:
        assert order.per_epoch == 9
        for epoch in range(20):
            own = np.bincount([order(9 * epoch + i)[0] for i in range(9)], minlength=6)
            assert (own >= np.floor(repeats * 9 / 9.75)).all()
            assert (own <= np.ceil(repeats * 9 / 9.75)).all()
    again = BatchOrder(np.zeros(6, bool), batch_size, 5, repeats)
    assert [again(i) for i in (40, 3)] == [batches_of_all[i] for i in (40, 3)]
    assert [BatchOrder(np.zeros(6, bool), batch_size, 6, repeats)(i) for i in range(9)] != (
        batches_of_all[:9]
    )


OBJECTS = [(1, (0.0, 1.0, 5.0, 6.0), {"size": [8, 9], "counts": b"T1"})]
POLYGON = [(1, (0.0, 1.0, 5.0, 6.0), [[0.0, 1.0, 5.0, 1.0, 5.0, 6.0]])]


def test_a_fingerprint_tells_pictures_and_annotations_apart():
    kinds = [
        [Annotated("a", 8, 9, OBJECTS), Annotated("b", 8, 9, [])],
        [Annotated("b", 8, 9, []), Annotated("a", 8, 9, OBJECTS)],
        [Annotated("a", 8, 9, OBJECTS)],
        [Annotated("a", 9, 8, OBJECTS), Annotated("b", 8, 9, [])],
        [Annotated("a", 8, 9, []), Annotated("b", 8, 9, OBJECTS)],
        [Annotated("a", 8, 9, [(2, *OBJECTS[0][1:])]), Annotated("b", 8, 9, [])],
        [Annotated("a", 8, 9, [(1, (0.0, 1.0, 5.0, 7.0), None)]), Annotated("b", 8, 9, [])],
        [Annotated("a", 8, 9, [(*OBJECTS[0][:2], {"counts": b"T2"})]), Annotated("b", 8, 9, [])],
        [Annotated("a", 8, 9, POLYGON), Annotated("b", 8, 9, [])],
        [Annotated(os.fsdecode(b"caf\xe9"), 8, 9, []), Annotated("b", 8, 9, [])],
    ]
    found = [fingerprint(pictures) for pictures in kinds]
    assert len(set(found)) == len(kinds)
    assert found == [fingerprint(iter(pictures)) for pictures in kinds]
