"""Sequences that share rows: nothing is lost, little is filler, and losses and gradients are those of padded rows."""

from dataclasses import replace
from itertools import combinations

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms import dpo, sft
from algorithms.kto import unpaired_loss
from scaling.config.memory import Memory
from scaling.config.training import Sft
from scaling.model import transformer, vocabulary
from scaling.model.packing import MOST_WIDTHS, SPREAD, calls_of, few_widths, packing_of, rounded
from scaling.model.policy import Policy
from scaling.model.sizes import ModelConfig
from scaling.model.transformer import architecture
from scaling.model.vocabulary import Unprojected
from scaling.training.batching import cutter, sequences
from scaling.training.logps import reference_logps
from scaling.training.memory_settings import using_memory
from scaling.training.update import make_accumulate

SMALL = ModelConfig(vocab_size=4104, width=16, num_layers=2, num_heads=4, num_kv_heads=2, head_width=6, ffn_width=24)
DEEP = replace(SMALL, num_layers=9)  # scanned
TOLERANCE = 1e-5  # of float32 sums in another order, relative to the largest number of an array
PADDED, PACKED = Memory(packing=False, micro_batch_tokens=10_000), Memory(micro_batch_tokens=64)

LENGTHS = st.integers(1, 60)
UPDATES = st.lists(st.lists(st.lists(LENGTHS, min_size=2, max_size=2), min_size=1, max_size=12), min_size=1, max_size=5)


def params_of(config: ModelConfig):
    return architecture(config).init(jax.random.key(1))


def random_sequences(count: int, seed: int = 0):
    generator = np.random.default_rng(seed)

    def draw(most: int) -> list[int]:
        return generator.integers(3, SMALL.vocab_size, generator.integers(1, most)).tolist()

    return sequences([draw(12) for _ in range(count)], [draw(20) for _ in range(count)])


# How rows are laid out.


@settings(deadline=None, max_examples=50)
@given(UPDATES, st.integers(1, 4), st.integers(1, 300))
def test_every_sequence_has_a_place_of_its_own_and_calls_have_few_shapes_within_the_limit(updates, ways, limit):
    packing = packing_of(updates, ways, limit)
    largest = max(rounded(sum(member)) for update in updates for member in update)
    shapes = set()
    for update in updates:
        members = []
        for call in calls_of(update, packing):
            members += call.members
            lengths = [length for member in call.members for length in update[member]]
            assert sorted(place for row in call.places for place in row) == list(range(len(lengths)))
            assert all(sum(lengths[place] for place in row) <= call.width for row in call.places)
            assert len(call.places) == ways * packing.rows and len(call.members) <= packing.members
            assert call.width * packing.rows <= max(limit, largest)
            shapes.add(call.width)
        assert sorted(members) == list(range(len(update)))
    assert shapes <= set(packing.widths) and len(packing.widths) <= MOST_WIDTHS


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 40).map(lambda units: 8 * units), min_size=1, max_size=30))
def test_widths_are_as_few_as_the_spread_allows_and_else_the_best_that_there_are(needed):
    def total(widths) -> int:
        return sum(min(width for width in widths if width >= one) for one in needed)

    distinct, found = sorted(set(needed)), few_widths(needed)
    assert found[-1] == distinct[-1] and list(found) == sorted(set(found))
    best = {
        count: min(total((*some, distinct[-1])) for some in combinations(distinct[:-1], count - 1))
        for count in range(1, min(4, len(distinct)) + 1)
    }
    allowed = (1 + SPREAD) * sum(needed)
    enough = next((count for count, least in best.items() if least <= allowed), None)
    if len(found) in best:
        assert total(found) == best[len(found)]
    assert enough is None or len(found) == enough
    assert enough is not None or len(found) > len(best)
    assert total(found) <= allowed or len(found) == MOST_WIDTHS


def test_on_eight_devices_at_most_a_twelfth_of_a_batch_of_64_is_filler():
    """Lengths as of GSM8K in SmolLM2's tokens: a median of 173, one in a hundred above 350."""
    drawn = np.exp(np.random.default_rng(0).normal(np.log(173), 0.3, 2000)).astype(int)
    updates = [[[length] for length in drawn[at : at + 64].tolist()] for at in range(0, 2000, 64)]
    packing = packing_of(updates, ways=8, limit=8192)
    slots = sum(call.width * 8 * packing.rows for update in updates for call in calls_of(update, packing))
    assert 1 - drawn.sum() / slots < 0.08 and len(packing.widths) <= MOST_WIDTHS


def test_a_packed_row_is_as_short_as_the_tokens_that_it_holds():
    update = [[24], [8], [24], [8]]
    packing = packing_of([update], ways=2, limit=64)
    (call,) = calls_of(update, packing)
    assert (packing.rows, call.width, packing.members, packing.longest) == (1, 32, 4, 24)
    assert [sum(update[place][0] for place in row) for row in call.places] == [32, 32]


# What is computed.


def summed(config: ModelConfig, loss, arrays, lengths, memory: Memory, remat: bool = False, **constants):
    """Gradients and sums over all rows as one update, and how many calls had packed rows."""
    gradients, totals, packed = jax.tree.map(np.zeros_like, params_of(config)), {}, 0
    accumulate, rows = make_accumulate(config, loss, None, remat), np.arange(len(lengths))
    with using_memory(memory):
        for _, batch in cutter(arrays, [rows], lengths, len(rows), config)(rows):
            packed += "packed" in batch
            gradients, sums = accumulate(gradients, params_of(config), {}, batch, constants)
            for name, found in sums.items():
                totals[name] = totals.get(name, 0.0) + np.array([found.total, found.count])
    return jax.device_get(gradients), totals, packed


def assert_same(found, expected):
    def same(one, other):
        np.testing.assert_allclose(one, other, atol=TOLERANCE * max(1.0, float(np.abs(other).max())), rtol=0)

    jax.tree.map(same, found, expected)


CONFIGS = {
    "plain": (SMALL, False),
    "window": (replace(SMALL, sliding_window=5), False),
    "scanned window remat": (replace(DEEP, sliding_window=5), True),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_packed_rows_have_the_loss_and_gradient_of_padded_ones(name):
    config, remat = CONFIGS[name]
    rows = random_sequences(9)
    arrays = {"tokens": rows.tokens, "mask": rows.mask}
    *found, packed = summed(config, sft.nll, arrays, rows.lengths, PACKED, remat)
    *expected, padded = summed(config, sft.nll, arrays, rows.lengths, PADDED, remat)
    assert packed > 1 and padded == 0
    assert_same(found, expected)
    assert found[1]["loss"][1] == rows.mask.sum()


def test_a_vocabulary_in_tiles_changes_nothing_of_packed_rows(monkeypatch):
    """So are bfloat16 policies and those on a mesh computed; in float32 here, where they can be compared."""
    config, rows = replace(SMALL, vocab_size=4112), random_sequences(9)
    arrays = {"tokens": rows.tokens, "mask": rows.mask}
    *expected, padded = summed(config, sft.nll, arrays, rows.lengths, PADDED)
    monkeypatch.setattr(transformer, "in_tiles", lambda config: True)
    monkeypatch.setattr(vocabulary, "TILE", 500)
    predicted = jax.eval_shape(architecture(config).predict, params_of(config), rows.tokens)
    *found, packed = summed(config, sft.nll, arrays, rows.lengths, PACKED)
    assert isinstance(predicted, Unprojected) and packed > 1 and padded == 0
    assert_same(found, expected)


def test_a_pair_may_lie_in_two_rows():
    rows = random_sequences(10)
    arrays = {name: getattr(rows, name).reshape(5, 2, -1) for name in ("tokens", "mask")}
    arrays["ref_logps"] = np.random.default_rng(1).normal(-60, 3, (5, 2)).astype(np.float32)
    lengths, constants = rows.lengths.reshape(5, 2), {"beta": np.float32(0.1), "nll_weight": np.float32(0.5)}
    *found, packed = summed(SMALL, dpo.preference_loss, arrays, lengths, PACKED, **constants)
    *expected, _ = summed(SMALL, dpo.preference_loss, arrays, lengths, PADDED, **constants)
    assert packed > 1
    assert_same(found, expected)


def test_reference_log_probabilities_are_those_of_padded_rows():
    rows, policy = random_sequences(11), Policy(params_of(SMALL), SMALL)
    with using_memory(PACKED):
        found = reference_logps(policy, rows)
    with using_memory(PADDED):
        np.testing.assert_allclose(found, reference_logps(policy, rows), rtol=TOLERANCE)


def test_what_stands_beside_a_sequence_in_its_row_changes_nothing_of_it():
    policy, together = Policy(params_of(SMALL), SMALL), random_sequences(8)
    with using_memory(Memory(micro_batch_tokens=10_000)):  # all in one row
        found = reference_logps(policy, together)
        for row in (0, 3, 7):
            tokens, mask, length = together.tokens[row : row + 1], together.mask[row : row + 1], together.lengths[[row]]
            alone = reference_logps(policy, type(together)(tokens, mask, length))
            np.testing.assert_allclose(found[row], alone[0], rtol=TOLERANCE)


def test_a_whole_training_run_ends_with_the_same_policy(tmp_path):
    rows, start = random_sequences(21), Policy(params_of(SMALL), SMALL)
    ends, numbers = [], []
    for name, memory in (("packed", PACKED), ("padded", PADDED)):
        (tmp_path / name).mkdir()
        with using_memory(memory):
            settings_ = Sft(learning_rate=1e-3, epochs=2, batch_size=8)
            numbers.append(sft.fit(start, rows, settings_, 0, tmp_path / name, packs=True))
        ends.append((tmp_path / name / "policy.safetensors").read_bytes())
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-4) and ends[0] != ends[1]


# Where it is done.


def batches(config: ModelConfig, packs: bool = True, memory: Memory = PACKED):
    rows = random_sequences(4)
    with using_memory(memory):
        cut = cutter({"tokens": rows.tokens}, [np.arange(4)], rows.lengths, 4, config, packs)
        return [batch for _, batch in cut(np.arange(4))]


def test_no_more_rows_than_a_batch_has_share_a_call():
    rows = random_sequences(9)
    with using_memory(Memory(micro_batch_tokens=10_000)):
        cut = cutter({"tokens": rows.tokens}, [np.arange(9)], rows.lengths, 4, SMALL)
        assert [members.tolist() for members, _ in cut(np.arange(9))] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]


def test_small_policies_unknown_losses_and_those_who_turn_it_off_have_padded_rows():
    assert all("packed" in batch for batch in batches(SMALL))
    for config, packs, memory in (
        (replace(SMALL, vocab_size=4096), True, PACKED),
        (SMALL, False, PACKED),
        (SMALL, True, PADDED),
    ):
        assert not any("packed" in batch for batch in batches(config, packs, memory))


def test_a_loss_that_reads_some_sequences_of_its_rows_is_an_error():
    rows = random_sequences(4)
    arrays = {name: getattr(rows, name).reshape(2, 2, -1) for name in ("tokens", "mask")}
    arrays |= {"ref_logps": np.zeros((2, 2), np.float32), "desirable": np.ones(2, np.float32)}
    names = ("kl", "beta", "desirable_weight", "undesirable_weight")
    with pytest.raises(ValueError, match="gives apply 2 sequences, but 4 of its micro-batch share rows"):
        summed(SMALL, unpaired_loss, arrays, rows.lengths.reshape(2, 2), Memory(), **dict.fromkeys(names, 1.0))


def test_a_row_may_be_longer_than_the_policys_context_but_no_sequence_may():
    rows = random_sequences(8)
    longest = int(rows.lengths.max())
    policy = Policy(params_of(SMALL), replace(SMALL, max_positions=longest))
    with using_memory(Memory(micro_batch_tokens=10_000)):
        assert np.isfinite(reference_logps(policy, rows)).all()
        short = replace(policy, config=replace(SMALL, max_positions=longest - 1))
        with pytest.raises(ValueError, match=f"max_positions = {longest - 1}"):
            reference_logps(short, rows)
