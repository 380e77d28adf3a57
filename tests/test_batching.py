"""Batches: padding and masks are exact, and every row is seen once an epoch in an order that the seed decides."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.training.batching import BUCKET, Schedule, masked_sequences, micro_batches, sequences, take

TOKENS = st.lists(st.integers(1, 31), max_size=12)
SCHEDULES = st.builds(Schedule, st.integers(1, 40), st.integers(1, 50), st.integers(1, 3), st.integers(0, 2**31))


def epoch_of(schedule: Schedule, epoch: int) -> list[np.ndarray]:
    return [schedule.rows(epoch * schedule.updates_per_epoch + at) for at in range(schedule.updates_per_epoch)]


def test_a_prompt_and_its_completion_are_joined_padded_and_masked():
    rows = sequences([[4, 5], [6]], [[7, 8, 2], [2]])
    np.testing.assert_array_equal(rows.tokens, [[4, 5, 7, 8, 2, 0, 0, 0], [6, 2, 0, 0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(rows.mask, [[0, 0, 1, 1, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(rows.lengths, [5, 2])
    assert (rows.tokens.dtype, rows.mask.dtype, rows.lengths.dtype) == (np.int32, np.float32, np.int32)


def test_each_token_of_a_completion_can_have_its_own_weight():
    rows = masked_sequences([[4, 5], [6]], [[7, 8, 2], [2]], [[0, 1, 0], [0]])
    np.testing.assert_array_equal(rows.mask, [[0, 0, 0, 1, 0, 0, 0, 0], [0] * 8])
    np.testing.assert_array_equal(rows.tokens, sequences([[4, 5], [6]], [[7, 8, 2], [2]]).tokens)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=6))
def test_sequences_lose_and_invent_nothing(pairs):
    prompts, completions = zip(*pairs, strict=True)
    rows = sequences(prompts, completions)
    width = rows.tokens.shape[1]
    longest = max(len(prompt) + len(completion) for prompt, completion in pairs)
    assert width == max(BUCKET, -(-longest // BUCKET) * BUCKET)
    for row, (prompt, completion) in enumerate(pairs):
        assert rows.tokens[row, : rows.lengths[row]].tolist() == [*prompt, *completion]
        assert not rows.tokens[row, rows.lengths[row] :].any()
        assert rows.tokens[row, rows.mask[row] == 1].tolist() == completion


def test_a_completion_without_its_prompt_is_refused():
    with pytest.raises(ValueError):
        sequences([[4], [5]], [[6]])


@pytest.mark.parametrize("weights", [[1], [1, 1], [1, 1, 1, 1]])
def test_a_mask_of_another_length_than_its_completion_is_refused(weights):
    with pytest.raises(ValueError, match=f"row 1 has 3 completion tokens and {len(weights)} weights"):
        masked_sequences([[4], [5]], [[6], [7, 8, 2]], [[1], weights])


@settings(deadline=None, max_examples=50)
@given(SCHEDULES)
def test_every_row_is_seen_once_in_every_epoch(schedule):
    for epoch in range(schedule.epochs):
        batches = epoch_of(schedule, epoch)
        assert sorted(np.concatenate(batches).tolist()) == list(range(schedule.num_rows))
        assert all(len(rows) == schedule.batch_size for rows in batches[:-1])
        assert 1 <= len(batches[-1]) <= schedule.batch_size
    assert schedule.num_updates == schedule.epochs * len(epoch_of(schedule, 0))


def test_the_last_batch_of_an_epoch_is_smaller():
    assert [len(rows) for rows in epoch_of(Schedule(10, 4, 2, seed=0), 1)] == [4, 4, 2]


def test_the_seed_and_the_epoch_decide_the_order_and_the_update_alone_finds_its_place():
    schedule = Schedule(30, 8, 3, seed=1)
    in_order = [schedule.rows(index).tolist() for index in range(schedule.num_updates)]
    backwards = [Schedule(30, 8, 3, seed=1).rows(index).tolist() for index in reversed(range(schedule.num_updates))]
    assert in_order == backwards[::-1]
    orders = {tuple(np.concatenate(epoch_of(Schedule(30, 8, 3, seed), epoch))) for seed in (1, 2) for epoch in range(3)}
    assert len(orders) == 6


def test_more_epochs_begin_as_fewer_do():
    short, long = Schedule(10, 4, 1, seed=3), Schedule(10, 4, 5, seed=3)
    assert all(np.array_equal(short.rows(index), long.rows(index)) for index in range(short.num_updates))


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="nothing to train on: 0 rows"):
        Schedule(0, 4, 1, seed=0)


def test_a_small_batch_is_filled_with_rows_of_no_weight():
    arrays = {"tokens": np.arange(12).reshape(6, 2), "value": np.arange(6.0)}
    batch = take(arrays, np.array([5, 2]), 4)
    np.testing.assert_array_equal(batch["weight"], np.array([1, 1, 0, 0], np.float32))
    np.testing.assert_array_equal(batch["tokens"][:2], [[10, 11], [4, 5]])
    np.testing.assert_array_equal(batch["value"][:2], [5, 2])
    assert batch["tokens"].shape == (4, 2) and set(arrays) == {"tokens", "value"}
    assert take(arrays, np.array([5, 2, 0, 1]), 4)["weight"].tolist() == [1, 1, 1, 1]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 40), st.sampled_from([(), (2,)]))
def test_micro_batches_hold_every_token_of_a_batch_once_in_few_shapes(lengths, batch_size, pair):
    """Row i holds i + 1 in each of its tokens."""
    lengths = np.array(lengths)
    width = -(-int(lengths.max()) // BUCKET) * BUCKET
    mask = np.broadcast_to(np.arange(width) < lengths[:, None], (*pair, len(lengths), width))
    mask = np.moveaxis(mask, -2, 0)
    tokens = mask * (np.arange(len(lengths)) + 1).reshape(-1, *(1 for _ in pair), 1)
    arrays = {"tokens": tokens, "mask": mask.astype(np.float32), "value": np.arange(len(lengths)) + 1}
    rows = np.random.default_rng(0).permutation(len(lengths))[:batch_size]
    seen, shapes = [], set()
    for members, batch in micro_batches(arrays, rows, lengths, batch_size):
        count = len(members)
        seen += members.tolist()
        shapes.add(batch["tokens"].shape)
        np.testing.assert_array_equal(batch["weight"], np.arange(len(batch["weight"])) < count)
        np.testing.assert_array_equal(batch["value"][:count], members + 1)
        own = (members + 1).reshape(-1, *(1 for _ in pair), 1)
        held = (batch["tokens"][:count] == own).sum(axis=-1)
        np.testing.assert_array_equal(held.reshape(count, -1), np.repeat(lengths[members, None], 2 if pair else 1, 1))
        assert batch["tokens"].shape[-1] - lengths[members].max() < BUCKET
    assert sorted(seen) == sorted(rows.tolist())
    assert len(shapes) == len({shape[-1] for shape in shapes})  # one for each width
